"""Every task with a tiny model: built, proved, and asked as the hub's own client asks."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient

from images.inside import compare
from images.inside.records import REFERENCE
from tests import models
from tests.containers.yard import Yard, extract, serving

TASKS = {
    "tiny-sentiment": "text-classification",
    "tiny-topics": "text-classification",
    "tiny-languages": "text-classification",
    "tiny-entities": "token-classification",
    "tiny-answers": "question-answering",
    "tiny-masks": "fill-mask",
    "tiny-encoder": "feature-extraction",
    "tiny-sentences": "feature-extraction",
}
SHORT = "Berlin is the capital of Germany."


class Asked:
    """A served tiny model, and what its original answers."""

    def __init__(self, url: str, reference: compare.Reference) -> None:
        self.url = url
        self.client = InferenceClient(model=f"{url}/predict")
        self._reference = reference

    def original(self, case: str) -> Any:
        return next(entry.answer for entry in self._reference.cases if entry.name == case)

    def outputs(self, case: str) -> Mapping[str, Any]:
        return self._reference.outputs[case][0]

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=30, trust_env=False)


@pytest.fixture(scope="module")
def asked(yard: Yard, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The named tiny model's image, served."""
    name, options = request.param if isinstance(request.param, tuple) else (request.param, {})
    built = yard.tiny(name, **options).record.reference
    reference = compare.load(extract(yard.engine, built, tmp_path_factory.mktemp(name)) / REFERENCE)
    with serving(yard.engine, built) as server:
        yield Asked(server.url, reference)


def of(name: str, **options: str) -> pytest.MarkDecorator:
    """The test is about this model's image."""
    return pytest.mark.parametrize("asked", [(name, options)], indirect=True, ids=[name], scope="module")


def test_every_tiny_model_is_built_here() -> None:
    assert TASKS.keys() == models.TINY.keys()


@pytest.mark.parametrize("name", TASKS)
def test_the_task_is_inferred_and_the_gate_passed(name: str, yard: Yard) -> None:
    known = yard.tiny(name).record
    assert known.info.manifest.task == TASKS[name]
    assert known.verdict.passed
    assert len(known.verdict.figures) == len(known.verdict.http_figures) == 8


@pytest.mark.parametrize("name", TASKS)
def test_the_original_answers_different_inputs_differently(name: str, yard: Yard) -> None:
    """Or the gate would prove little."""
    figures = yard.tiny(name).record.verdict.figures
    assert len({entry.max_abs_diff for entry in figures}) > 1
    assert any(entry.max_abs_diff for entry in figures)


@of("tiny-sentiment")
def test_a_text_gets_the_originals_label(asked: Asked) -> None:
    (original,) = asked.original("short")
    answer = asked.client.text_classification(SHORT)
    assert answer[0].label == original[0]["label"]
    assert answer[0].score == pytest.approx(original[0]["score"], abs=1e-4)


@of("tiny-languages")
def test_a_unigram_tokenizer_makes_the_originals_label(asked: Asked) -> None:
    (original,) = asked.original("short")
    assert asked.client.text_classification(SHORT)[0].label == original[0]["label"]


@of("tiny-topics")
def test_several_labels_are_scored_each_on_its_own(asked: Asked) -> None:
    (original,) = asked.original("short")
    answer = asked.client.text_classification(SHORT)
    assert [entry.label for entry in answer] == [entry["label"] for entry in original]
    assert sum(entry.score for entry in answer) != pytest.approx(1, abs=1e-3)


@of("tiny-entities")
def test_tokens_get_the_originals_entities(asked: Asked) -> None:
    original = asked.original("short")
    answer = asked.client.token_classification(SHORT, aggregation_strategy="none", ignore_labels=[])
    assert [entry["entity"] for entry in answer] == [entry["entity"] for entry in original]


@of("tiny-answers")
def test_a_question_gets_the_originals_answer(asked: Asked) -> None:
    original = asked.original("short")
    answer = asked.client.question_answering("What is the capital of Germany?", SHORT)
    assert not isinstance(answer, list)
    assert (answer.answer, answer.start, answer.end) == (original["answer"], original["start"], original["end"])


@of("tiny-masks")
def test_a_mask_gets_the_originals_tokens(asked: Asked) -> None:
    original = asked.original("short")
    answer = asked.client.fill_mask("Paris is the [MASK] of France.")
    assert [entry.token_str for entry in answer] == [entry["token_str"] for entry in original]


@of("tiny-encoder")
def test_a_model_without_pooling_gives_one_vector_a_token(asked: Asked) -> None:
    answer = asked.client.feature_extraction(SHORT)
    assert answer[0] == pytest.approx(asked.outputs("short")["last_hidden_state"], abs=1e-4)


@of("tiny-encoder")
def test_a_model_without_pooling_explains_why_it_makes_no_embeddings(asked: Asked) -> None:
    answer = asked.post("/v1/embeddings", {"model": "tiny-encoder", "input": SHORT})
    assert answer.status_code == 400
    assert "--pooling" in answer.json()["error"]["message"]


@of("tiny-encoder", pooling="mean")
def test_a_model_whose_pooling_was_named_makes_embeddings(asked: Asked) -> None:
    answer = asked.post("/v1/embeddings", {"model": "tiny-encoder", "input": SHORT}).raise_for_status().json()
    vector = answer["data"][0]["embedding"]
    assert vector == pytest.approx(asked.outputs("short")["sentence_embedding"], abs=1e-4)
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)


@of("tiny-sentences")
def test_a_model_that_states_its_pooling_makes_embeddings(asked: Asked) -> None:
    answer = asked.post("/v1/embeddings", {"model": "tiny-sentences", "input": SHORT}).raise_for_status().json()
    assert answer["data"][0]["embedding"] == pytest.approx(asked.outputs("short")["sentence_embedding"], abs=1e-4)


def test_named_pooling_is_in_the_manifest(yard: Yard) -> None:
    embedding = yard.tiny("tiny-encoder", pooling="mean").record.info.manifest.embedding
    assert embedding
    assert (embedding.pooling, embedding.normalized) == ("mean", True)


def test_the_models_own_pooling_is_in_the_manifest(yard: Yard) -> None:
    embedding = yard.tiny("tiny-sentences").record.info.manifest.embedding
    assert embedding
    assert (embedding.pooling, embedding.normalized) == ("cls", False)
