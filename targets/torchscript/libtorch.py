"""libtorch by ctypes: `native/model.h`, and numpy's arrays on both sides of it. No torch in Python."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.inside.contract import FloatArray

LIBRARY = "torch/lib/libmodel.so"
"""Below the installed packages, beside the libraries that it was compiled against."""
REASON = 1024
"""Bytes for the reason why a call failed."""
MOST_AXES = 8

Array = NDArray[Any]
"""int64 or float32."""


class LibtorchError(RuntimeError):
    """libtorch could not do it; the message is its own."""


class _Array(ctypes.Structure):
    """`Array` of `model.h`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("is_float", ctypes.c_int64),
        ("axes", ctypes.c_int64),
        ("shape", ctypes.c_int64 * MOST_AXES),
    )


class Module:
    """A loaded TorchScript archive (a file) or AOTInductor package (a folder). One call at a time."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load it. Raises `LibtorchError`."""
        self._library, self._reason = _library(), ctypes.create_string_buffer(REASON)
        self._model = self._library.model_load(os.fsencode(path), threads, self._reason, REASON)
        if not self._model:
            raise self._error()

    def __call__(self, inputs: Sequence[Array]) -> list[FloatArray]:
        """The outputs, float32. Raises `LibtorchError`."""
        arrays = [np.ascontiguousarray(array) for array in inputs]
        given = (_Array * len(arrays))(*map(_lent, arrays))
        count = self._library.model_run(self._model, given, len(arrays), self._reason, REASON)
        if count < 0:
            raise self._error()
        return [_copied(self._library.model_output(self._model, index)) for index in range(count)]

    def _error(self) -> LibtorchError:
        return LibtorchError(self._reason.value.decode(errors="replace"))


def version() -> str:
    """The version of the torch wheel that the libraries are from."""
    return distribution("torch").version


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(distribution("torch").locate_file(LIBRARY)))
    text, model, number = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
    signatures: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
        "model_load": (model, (text, number, text, number)),
        "model_run": (number, (model, ctypes.POINTER(_Array), number, text, number)),
        "model_output": (_Array, (model, number)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _lent(array: Array) -> _Array:
    """A view of an array, which must outlive it."""
    shape = (ctypes.c_int64 * MOST_AXES)(*array.shape)
    return _Array(array.ctypes.data, array.dtype == np.float32, array.ndim, shape)


def _copied(array: _Array) -> FloatArray:
    """A tensor's contents: the tensor itself lives until the next call only."""
    shape = tuple(array.shape[: array.axes])
    if 0 in shape:
        return np.empty(shape, np.float32)
    memory = (ctypes.c_float * int(np.prod(shape))).from_address(array.data)
    return np.ctypeslib.as_array(memory).reshape(shape).copy()
