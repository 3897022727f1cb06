"""What becomes of the original before torchscript's exporters read it. PyTorch is stood in for by numpy."""

import runpy
import sys
import types
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from images.config import ROOT
from images.inside import compare, export, original
from images.inside.compare import Reference
from images.inside.contract import Exporting, FloatArray
from images.inside.records import REFERENCE, Case, write_json
from tests.inside import artifacts

END = 2
TEXT = np.array([[0, 7, 8, END]])
MASK = np.ones_like(TEXT)


class Values(np.ndarray[Any, Any]):
    """A tensor."""

    def float(self) -> FloatArray:
        return self.astype(np.float32)


class Bart:
    """A classifier that sums a text up where it ends, gives more than anybody reads, and takes no token types."""

    def __init__(self, padding: int | None = 1) -> None:
        self.config = types.SimpleNamespace(pad_token_id=padding)

    def __call__(self, input_ids: Any, attention_mask: Any) -> Mapping[str, Any]:
        assert (input_ids == END).any(axis=1).all(), "All examples must have the same number of <eos> tokens."
        answer = (input_ids * attention_mask).sum(axis=1, keepdims=True).view(Values)
        return {"logits": answer, "encoder_last_hidden_state": np.zeros(1)}


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, of a network that ends in words of its own where a text has no end."""
    module: Any = types.ModuleType("torch")
    module.nn = types.SimpleNamespace(Module=object)
    module.inference_mode = nullcontext
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setattr(original, "transformer", lambda *_: Bart())
    return types.SimpleNamespace(**runpy.run_path(str(ROOT / "targets/torchscript/wrapped.py")))


@pytest.fixture
def given(tmp_path: Path) -> Exporting:
    """A classifier's export, with what the reference step recorded of it."""
    given = artifacts.exporting(tmp_path)
    write_json(given.work / "source.json", msgspec.structs.replace(export.read_source(given), token_types=False))
    case = Case(name="short", payload={"inputs": "a"}, answer=None)
    outputs = {case.name: [{"logits": np.zeros(1, np.float32)}]}
    compare.save(given.work / REFERENCE, Reference(cases=(case,), outputs=outputs))
    return given._replace(source=msgspec.structs.replace(given.source, task="text-classification"))


def test_outputs_are_those_that_were_recorded_and_no_made_up_text_is_asked(wrapped: Any, given: Exporting) -> None:
    assert wrapped.load(given).signature.outputs == ("logits",)


def test_a_network_without_token_types_is_given_none(wrapped: Any, given: Exporting) -> None:
    assert wrapped.load(given).signature.inputs == ("input_ids", "attention_mask")


def test_the_network_is_asked_by_name_and_gives_what_is_read_of_it(wrapped: Any, given: Exporting) -> None:
    (found,) = wrapped.load(given).forward(TEXT, MASK)
    assert (found.tolist(), found.dtype) == ([[17.0]], np.float32)


@pytest.mark.parametrize(("stated", "taken"), [(1, 1), (None, -1)])
def test_a_network_that_states_no_padding_has_a_token_for_it_that_no_text_has(
    stated: int | None, taken: int, wrapped: Any, given: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(original, "transformer", lambda *_: Bart(stated))
    assert wrapped.load(given).whole.config.pad_token_id == taken
