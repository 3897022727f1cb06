"""Tensors of the Open Inference Protocol to pictures: files as base64, or what the model is given as it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from images.inside import tensors
from images.inside.compare import PIXELS
from images.inside.contract import FloatArray, Pixels
from images.inside.errors import InputError
from images.inside.records import ImageFacts, Manifest
from images.inside.tasks.common import each
from images.inside.tensors import Form, InputTensor, Rows, TensorFacts
from images.inside.vision import decoding, pictures
from images.inside.vision.preprocessing import Preprocessor

FILES = "image"
_DATATYPES = {FILES: ("BYTES", 1), PIXELS: ("FP32", 4)}


def read(inputs: Sequence[InputTensor], processor: Preprocessor, manifest: Manifest, *, truncate: bool) -> Rows:
    """The pictures of a request's tensor. Raises `InputError` and `TooLargeError`."""
    del truncate  # of texts
    if len(inputs) != 1:
        raise InputError(f"expected one tensor, {FILES} or {PIXELS} - at `$.inputs`")
    (tensor,) = inputs
    tensors.check(tensor, _DATATYPES)
    if tensor.name == FILES:
        texts: list[str] = tensors.contents(tensor, str)
        return _rows(each(texts, lambda text: processor.pixels(decoding.from_text(text)), "inputs[0].data"))
    return _rows([Pixels(values) for values in _values(tensor, _facts(manifest))])


def inputs(manifest: Manifest) -> list[TensorFacts]:
    """What the model takes; -1 is an axis of any length."""
    facts = _facts(manifest)
    return [
        TensorFacts(FILES, "BYTES", [-1]),
        TensorFacts(PIXELS, "FP32", [-1, 3, facts.height, facts.width]),
    ]


def example() -> dict[str, Any]:
    """An input for the documentation."""
    return {"name": FILES, "shape": [1], "datatype": "BYTES", "data": [pictures.suite()["gradient"]]}


def _values(tensor: InputTensor, facts: ImageFacts) -> FloatArray:
    wanted = [tensor.shape[0], 3, facts.height, facts.width]
    if tensor.shape != wanted:
        raise InputError(f"{PIXELS} has shape {tensor.shape}; this model takes {['n', *wanted[1:]]} - at `$.inputs`")
    with np.errstate(over="ignore"):  # to infinity, which is refused
        values: FloatArray = np.array(tensors.contents(tensor, float), np.float32).reshape(wanted)
    if not np.isfinite(values).all():
        raise InputError(f"{PIXELS} has a value that is no finite number - at `$.inputs`")
    return values


def _facts(manifest: Manifest) -> ImageFacts:
    assert manifest.image  # noqa: S101 - or these would not be its tensors
    return manifest.image


def _rows(items: list[Pixels]) -> Rows:
    return Rows(items, [], 0)


FORM = Form("images or preprocessed pixels", read, inputs, example)
