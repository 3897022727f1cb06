"""An ExecuTorch program by ctypes: `native/program.h`, and numpy's arrays on both sides of it."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.inside.errors import ArtifactError
from images.inside.records import Manifest

LIBRARY = Path(__file__).parents[2] / "executorch" / "libprogram.so"
"""Where the image has it, beside ExecuTorch's own libraries."""
DTYPES: Mapping[int, Any] = {4: np.int64, 5: np.float16, 6: np.float32}
"""ExecuTorch's `ScalarType` by its number."""
NUMBERS: Mapping[Any, int] = {np.dtype(dtype): number for number, dtype in DTYPES.items()}
NAMES = "input_names", "output_names"
"""Methods of the program that say how it calls its inputs and outputs, with commas between."""

Array = NDArray[Any]


class _Tensor(ctypes.Structure):
    """`program_tensor`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("sizes", ctypes.POINTER(ctypes.c_int32)),
        ("rank", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )


class ProgramError(RuntimeError):
    """ExecuTorch could not do it; the message has its code, its name and what it logged."""


class Program:
    """A loaded file. One thread at a time.

    Attributes:
        inputs: their names, in order.
        outputs: likewise.

    """

    def __init__(self, file: Path, threads: int) -> None:
        """Load it. Raises `ProgramError`."""
        self._library = _library()
        self._loaded = self._library.program_load(os.fsencode(file), threads)
        if not self._loaded:
            raise self._error()
        self.inputs, self.outputs = (tuple(self.text(name).split(",")) for name in NAMES)

    def run(self, inputs: Sequence[Array]) -> dict[str, Array]:
        """The outputs by name. They are overwritten by the next run. Raises `ProgramError`."""
        arrays = [np.ascontiguousarray(array) for array in inputs]
        given = (_Tensor * len(arrays))(*map(_tensor, arrays))
        outputs = ctypes.POINTER(_Tensor)()
        count = self._library.program_run(self._loaded, given, len(arrays), ctypes.byref(outputs))
        if count < 0:
            raise self._error()
        return {name: _array(outputs[index]) for index, name in zip(range(count), self.outputs, strict=True)}

    def text(self, method: str) -> str:
        """What the program says of itself. Raises `ProgramError`."""
        text: bytes | None = self._library.program_text(self._loaded, method.encode())
        if text is None:
            raise self._error()
        return text.decode()

    def number(self, method: str) -> int:
        """What the program says of itself: zero or more. Raises `ProgramError`."""
        number: int = self._library.program_number(self._loaded, method.encode())
        if number < 0:
            raise self._error()
        return number

    def __del__(self) -> None:
        if getattr(self, "_loaded", None):
            self._library.program_free(self._loaded)

    def _error(self) -> ProgramError:
        return ProgramError(self._library.program_error().decode(errors="replace"))


def load(artifact: Path, manifest: Manifest, threads: int) -> Program:
    """The artifact's program. Raises `ArtifactError` when ExecuTorch cannot read it."""
    try:
        return Program(artifact / manifest.entry, threads)
    except ProgramError as error:
        raise ArtifactError(f"{manifest.entry}: ExecuTorch cannot load it: {error}") from error


def describe(manifest: Manifest, threads: int) -> dict[str, str]:
    """The runtime, its version and threads."""
    return {"runtime": "executorch", "version": manifest.packages.get("executorch", ""), "threads": str(threads)}


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.fspath(LIBRARY))
    text, program = ctypes.c_char_p, ctypes.c_void_p
    tensors = ctypes.POINTER(_Tensor)
    for name, result, arguments in (
        ("program_load", program, (text, ctypes.c_uint32)),
        ("program_free", None, (program,)),
        ("program_run", ctypes.c_int32, (program, tensors, ctypes.c_size_t, ctypes.POINTER(tensors))),
        ("program_number", ctypes.c_int64, (program, text)),
        ("program_text", text, (program, text)),
        ("program_error", text, ()),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _tensor(array: Array) -> _Tensor:
    """A view of an array, which must outlive it."""
    sizes = (ctypes.c_int32 * array.ndim)(*array.shape)
    return _Tensor(array.ctypes.data, sizes, array.ndim, NUMBERS[array.dtype])


def _array(tensor: _Tensor) -> Array:
    """A view of a tensor, which must outlive it."""
    shape, dtype = tensor.sizes[: tensor.rank], np.dtype(DTYPES[tensor.dtype])
    if not all(shape):
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(tensor.data)
    return np.frombuffer(memory, dtype).reshape(shape)
