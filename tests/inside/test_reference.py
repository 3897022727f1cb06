"""What the reference step asks the original, and what it tells of one that does not answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tokenizers import processors

from images.inside import original, reference, tasks
from images.inside.records import ModelFacts, SourceJob
from tests.inside import tiny

FACTS = ModelFacts(id="acme/tiny", source="folder", revision="", digest="sha256:0")
JOB = SourceJob(model=FACTS, task="feature-extraction", pooling="mean")


def told(capsys: pytest.CaptureFixture[str]) -> str:
    marker, _, content = capsys.readouterr().err.splitlines()[-1].partition(" ")
    assert marker == original.ERROR
    return str(json.loads(content)["what"])


def recorder(folder: Path, backend: Any, task: str) -> reference._Recorder:
    manifest = tiny.manifest(task)
    tokenizer = tiny.load(folder, backend, manifest)
    return reference._Recorder(tasks.load(task), manifest, tokenizer, cast("Any", None), None, None)


def bare() -> Any:
    backend = tiny.wordpiece()
    backend.post_processor = processors.Sequence([])
    return backend


def test_an_empty_text_is_not_asked_where_no_token_is_made_of_it(tmp_path: Path) -> None:
    asks = recorder(tmp_path, bare(), "text-classification")
    assert [asks.takes({"inputs": text}) for text in ("", "anna")] == [False, True]


def test_a_question_that_leaves_no_room_for_its_context_is_not_asked(tmp_path: Path) -> None:
    asks = recorder(tmp_path, tiny.wordpiece(), "question-answering")
    context = "anna works for siemens in munich . " * 3
    questions = ("is the capital of berlin the capital ?", "a")
    assert [asks.takes({"inputs": {"question": each, "context": context}}) for each in questions] == [False, True]


def test_without_any_input_nothing_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recorder(tmp_path, tiny.wordpiece(), "fill-mask").record([])
    assert told(capsys) == "no input of the suite fits into 16 tokens"


def test_an_empty_text_is_asked_where_special_tokens_are_added(tmp_path: Path) -> None:
    assert recorder(tmp_path, tiny.wordpiece(), "text-classification").takes({"inputs": ""})


def test_an_input_that_the_task_refuses_is_asked_so_that_it_is_told(tmp_path: Path) -> None:
    assert recorder(tmp_path, tiny.wordpiece(), "fill-mask").takes({"inputs": "no mask"})


def test_a_model_that_embeds_conversations_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = SimpleNamespace(modality_config={"text": {}, "message": {}})
    monkeypatch.setattr(original, "sentence_model", lambda *_: [module])
    with pytest.raises(SystemExit):
        reference._load(JOB, Path())
    assert told(capsys) == "acme/tiny embeds conversations, by its chat template: this image embeds plain texts"


def test_an_original_that_fails_is_told_with_its_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise IndexError("index out of range in self\nand more")

    monkeypatch.setattr(reference, "_of_texts", fail)
    with pytest.raises(SystemExit):
        reference.record(JOB, tmp_path, tmp_path, None)
    assert (
        told(capsys) == "the original, acme/tiny, fails at feature-extraction: IndexError: index out of range in self"
    )


class Encodes:
    """Vectors of texts that say how many texts shared their batch; of one that convolves, that are seen."""

    def __init__(self, convolves: bool) -> None:
        self.convolves = convolves

    def encode(self, texts: Sequence[str], batch_size: int) -> Any:
        """A vector a text."""
        return np.array([[len(text), batch_size * self.convolves] for text in texts])


@pytest.mark.parametrize("convolves", [True, False])
def test_modules_behind_the_network_may_mix_padding_in_too(convolves: bool) -> None:
    assert reference.embeds_alike(Encodes(convolves)) is not convolves


def test_an_architecture_that_is_newer_than_transformers_is_told_with_the_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        raise ValueError(
            "The checkpoint you are trying to load has model type `new` but Transformers does not recognize this "
            "architecture. This could be because"
        )

    monkeypatch.setattr("images.inside.newer.installed", lambda: "4.57.6")
    with pytest.raises(SystemExit):
        reference._loaded(JOB, load)
    assert told(capsys) == "this exporter's transformers 4.57.6 does not know new, which acme/tiny is"
