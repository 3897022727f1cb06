"""Tensors of the Open Inference Protocol to items, and outputs back to tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from images.inside import collate
from images.inside.contract import FloatArray, IntArray, Item
from images.inside.errors import InputError, TooLongError
from images.inside.records import Manifest
from images.inside.service import VOCABULARY, check_vocabulary
from images.inside.tasks.common import each
from images.inside.text import Tokenizer

TEXT = "text"
IDS = ("input_ids", "attention_mask", "token_type_ids")
_DATATYPES = {TEXT: ("BYTES", 1), **dict.fromkeys(IDS, ("INT64", 2))}
_KINDS: Mapping[str, tuple[type, ...]] = {"BYTES": (str,), "INT64": (int,), "FP32": (float, int)}
"""What JSON has for a datatype: a number without a fraction is a float as well, and a boolean is no number."""


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is sent: an unknown field is an error."""


class NoParameters(Strict):
    """Nothing can be set."""


class InputTensor(Strict):
    """One input tensor.

    Attributes:
        name: `text`, or `input_ids`, `attention_mask`, `token_type_ids`; of pictures `image` or `pixel_values`.
        shape: the length of each axis; texts and images have one, token ids two, pixels four.
        datatype: `BYTES` for texts and images, `INT64` for token ids, `FP32` for pixels.
        data: the contents, row by row, flat or nested.

    """

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: list[Any]
    parameters: NoParameters | None = None


class OutputTensor(msgspec.Struct):
    """One output tensor, its contents flat, row by row."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class TensorFacts(msgspec.Struct):
    """A tensor's form; -1 is an axis of any length."""

    name: str
    datatype: str
    shape: list[int]


class Rows(NamedTuple):
    """A request's items, and which columns of its tensors each fills.

    Attributes:
        items: one item a row.
        columns: one slice a row; empty where items are no sequences.
        width: how many columns the tensors have.

    """

    items: Sequence[Any]
    columns: list[slice]
    width: int


class Form(NamedTuple):
    """The tensors that a modality takes.

    Attributes:
        about: what they hold, in words.
        read: a request's tensors to items. Raises `InputError` and `TooLargeError`.
        inputs: their names and forms.
        example: one for the documentation.

    """

    about: str
    read: Callable[..., Rows]
    inputs: Callable[[Manifest], list[TensorFacts]]
    example: Callable[[], dict[str, Any]]


def read(inputs: Sequence[InputTensor], tokenizer: Tokenizer, manifest: Manifest, *, truncate: bool) -> Rows:
    """The sequences of a request's tensors. Raises `InputError` and `TooLongError`."""
    arrays = {entry.name: _array(entry) for entry in inputs}
    if len(arrays) < len(inputs):
        raise InputError("an input tensor is given twice - at `$.inputs`")
    if set(arrays) == {TEXT}:
        return _texts(arrays[TEXT].tolist(), tokenizer, manifest, truncate=truncate)
    if IDS[0] in arrays and TEXT not in arrays:
        return _sequences(arrays, tokenizer, manifest)
    raise InputError(f"expected one tensor {TEXT}, or {IDS[0]} with {IDS[1]} and {IDS[2]} if need be - at `$.inputs`")


def text_inputs(manifest: Manifest) -> list[TensorFacts]:
    """What a model that reads text takes."""
    del manifest
    return [TensorFacts(TEXT, "BYTES", [-1]), *(TensorFacts(name, "INT64", [-1, -1]) for name in IDS)]


def text_example() -> dict[str, Any]:
    """A text, as a tensor."""
    return {"name": TEXT, "shape": [1], "datatype": "BYTES", "data": ["The quick brown fox"]}


TEXTS = Form("texts or token ids", read, text_inputs, text_example)


def write(name: str, outputs: Sequence[FloatArray], rows: Rows, manifest: Manifest) -> OutputTensor:
    """One output of all rows as a tensor; where it has one entry a token, padding is zero."""
    array = _joined(outputs, rows, manifest)
    return OutputTensor(name, "FP32", list(array.shape), array.ravel().tolist())


def check(tensor: InputTensor, known: Mapping[str, tuple[str, int]]) -> None:
    """Raise `InputError` for a tensor that is none of these, by name to datatype and number of axes."""
    datatype, axes = known.get(tensor.name, ("", 0))
    if not datatype:
        raise InputError(f"there is no input {tensor.name!r}; there are {', '.join(known)} - at `$.inputs`")
    if (tensor.datatype, len(tensor.shape)) != (datatype, axes):
        raise InputError(f"{tensor.name} is {datatype} with {axes} axes - at `$.inputs`")
    if 0 in tensor.shape:
        raise InputError(f"{tensor.name} is empty - at `$.inputs`")


def _array(tensor: InputTensor) -> Any:
    """A tensor's contents, checked against what its name, datatype and shape promise."""
    check(tensor, _DATATYPES)
    flat = contents(tensor, str if tensor.datatype == "BYTES" else int)
    if tensor.datatype == "INT64" and any(not 0 <= value < VOCABULARY for value in flat):
        raise InputError(f"{tensor.name} has a value that is no token id, mask or type - at `$.inputs`")
    return np.array(flat, object if tensor.datatype == "BYTES" else np.int64).reshape(tensor.shape)


def contents(tensor: InputTensor, kind: type) -> list[Any]:
    """A tensor's values, flat. Raises `InputError` when they are not what its shape and datatype promise."""
    flat = list(_flattened(tensor.data, tensor.name, len(tensor.shape)))
    if len(flat) != int(np.prod(tensor.shape, dtype=object)):
        raise InputError(f"{tensor.name} has {len(flat)} values, which is not shape {tensor.shape} - at `$.inputs`")
    if any(type(value) not in _KINDS[tensor.datatype] for value in flat):
        raise InputError(f"{tensor.name} takes {kind.__name__} values only - at `$.inputs`")
    return flat


def _flattened(data: Sequence[Any], name: str, axes: int) -> Sequence[Any]:
    """Flat contents; the protocol allows one nesting for each axis."""
    if axes < 2 or not all(isinstance(entry, list) for entry in data):  # noqa: PLR2004 - a nesting has two axes
        return data
    if len({len(entry) for entry in data}) > 1:
        raise InputError(f"the rows of {name} differ in length - at `$.inputs`")
    return _flattened([value for entry in data for value in entry], name, axes - 1)


def _texts(texts: Sequence[str], tokenizer: Tokenizer, manifest: Manifest, *, truncate: bool) -> Rows:
    prompt = manifest.embedding.prompt if manifest.embedding else ""
    items = each(texts, lambda text: tokenizer.item(prompt + text, truncate=truncate), "inputs[0].data")
    return Rows(items, [slice(len(item.ids)) for item in items], max(len(item.ids) for item in items))


def _sequences(arrays: Mapping[str, IntArray], tokenizer: Tokenizer, manifest: Manifest) -> Rows:
    ids = arrays[IDS[0]]
    mask, types = arrays.get(IDS[1], np.ones_like(ids)), arrays.get(IDS[2], np.zeros_like(ids))
    if not ids.shape == mask.shape == types.shape:
        raise InputError("the tensors differ in shape - at `$.inputs`")
    if not np.isin(types, (0, 1)).all():
        raise InputError("token_type_ids are 0 or 1 - at `$.inputs`")
    columns = [_run(row) for row in mask]
    items = [_item(*row, tokenizer, manifest) for row in zip(ids, types, columns, strict=True)]
    return Rows(items, columns, ids.shape[1])


def _run(mask: IntArray) -> slice:
    """The columns of a row's ones, which must stand together: a model counts its positions from the first."""
    ones = np.flatnonzero(mask == 1)
    if not len(ones) or len(ones) != ones[-1] - ones[0] + 1 or not np.isin(mask, (0, 1)).all():
        raise InputError("each row of attention_mask is one run of ones, and zeros around it - at `$.inputs`")
    return slice(int(ones[0]), int(ones[-1]) + 1)


def _item(ids: IntArray, types: IntArray, columns: slice, tokenizer: Tokenizer, manifest: Manifest) -> Item:
    item = Item(tuple(ids[columns].tolist()), tuple(types[columns].tolist()))
    if len(item.ids) > manifest.max_length:
        raise TooLongError(len(item.ids), manifest.max_length)
    check_vocabulary(item.ids, tokenizer, "inputs")
    return item


def _joined(outputs: Sequence[FloatArray], rows: Rows, manifest: Manifest) -> FloatArray:
    if not collate.per_token(outputs[0], rows.items[0].length, manifest):
        return np.stack(outputs)
    joined = np.zeros((len(outputs), rows.width, *outputs[0].shape[1:]), np.float32)
    for row, (columns, output) in enumerate(zip(rows.columns, outputs, strict=True)):
        joined[row, columns] = output
    return joined
