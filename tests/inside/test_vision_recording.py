"""The reference step on pictures, with a stand-in for the original."""

import base64
import json
import sys
import types
from typing import Any

import numpy as np
import pytest

from images.inside import modality, tasks
from images.inside.vision import decoding, processors
from images.inside.vision.preprocessing import Preprocessor
from images.inside.vision.recording import Recorder, source
from tests.inside import seeing
from tests.inside.test_vision_preprocessing import VIT

FACTS = processors.facts(VIT)


class Original:
    """An image processor: ours, with a fault if need be."""

    def __init__(self, settings: dict[str, Any], fault: Any = lambda pixels: pixels) -> None:
        self._settings, self._fault = settings, fault

    def to_dict(self) -> dict[str, Any]:
        return self._settings

    def __call__(self, picture: Any, return_tensors: str) -> dict[str, Any]:
        assert return_tensors == "np"
        return {"pixel_values": [self._fault(Preprocessor(FACTS).of(picture).values)]}


class Network:
    """What `source` reads of the original network."""

    config = types.SimpleNamespace(id2label=dict(enumerate(seeing.LABELS)), problem_type=None)


@pytest.fixture(autouse=True)
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("transformers.image_utils")
    module.__dict__["load_image"] = lambda text: decoding.decode(base64.b64decode(text))
    monkeypatch.setitem(sys.modules, "transformers.image_utils", module)


def recorder(original: Original) -> Recorder:
    def pipeline(inputs: str, **options: Any) -> list[dict[str, Any]]:
        return [{"label": f"{len(inputs)}", "score": 1.0, **options}]

    manifest = seeing.manifest(image=FACTS)
    return Recorder(tasks.load(manifest.task), manifest, FACTS, original, seeing.ColourRunner(), pipeline)


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    told = json.loads(capsys.readouterr().err.removeprefix("MODELYARD-ERROR "))
    return str(told["what"])


def test_a_model_for_pictures_states_no_tokens() -> None:
    found = source(Original(VIT), Network(), "tiny")
    assert (found.max_length, found.labels, found.image) == (0, seeing.LABELS, FACTS)


def test_unknown_preprocessing_ends_the_step_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        source(Original({**VIT, "do_pad": True}), Network(), "tiny")
    assert "do_pad=True" in refusal(capsys)


def test_outputs_answers_and_probes_are_recorded() -> None:
    payload = {"inputs": seeing.text(), "parameters": {"top_k": 1}}
    reference = recorder(Original(VIT)).record([("one", payload)])
    (outputs,) = reference.outputs["one"]
    assert outputs.keys() == {"pixel_values", "logits"}
    assert len(outputs["pixel_values"]) <= 2 * modality.PROBES
    assert reference.cases[0].answer[0]["top_k"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        lambda pixels: pixels[::-1],
        lambda pixels: pixels + np.float32(1e-4),
        lambda pixels: pixels[:, 1:],
        lambda pixels: pixels * np.float32(np.nan),
    ],
)
def test_other_pixels_than_the_originals_end_the_step(fault: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recorder(Original(VIT, fault)).record([("one", {"inputs": seeing.text()})])
    assert "the preprocessing of ViTImageProcessor is not reproduced: input 'one'" in refusal(capsys)


def test_a_users_input_that_is_no_picture_ends_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recorder(Original(VIT)).record([("line-1", {"inputs": "https://example.org/a.jpg"})])
    assert "'line-1' is refused" in refusal(capsys)


def test_an_original_that_fails_ends_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("mean must have 1 elements")

    with pytest.raises(SystemExit):
        recorder(Original(VIT, fail)).record([("one", {"inputs": seeing.text()})])
    assert "the original fails on the suite's input 'one'" in refusal(capsys)
