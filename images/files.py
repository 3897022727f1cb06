"""A model's files on disk: listed, read as JSON, checked for damage."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from images.errors import ModelError

LFS_POINTER = b"version https://git-lfs"


def listing(folder: Path) -> dict[str, int]:
    """All files in it with their bytes, by path; hidden folders left out."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(parent) / name for name in names):
            found[file.relative_to(folder).as_posix()] = file.stat().st_size if file.exists() else 0
    return found


def read_json(file: Path, path: str) -> Any:
    """The content of a JSON file, whose path in the model is given for messages.

    Raises `ModelError` when it is none, a configuration that is no JSON object, or cannot be read.
    """
    with _readable(path):
        data = file.read_bytes()
    if data.startswith(LFS_POINTER):
        raise _lfs(path)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", "restore the file from the model's source") from error
    if path.endswith("config.json") and not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object", "restore the file from the model's source")
    return value


def check(folder: Path, paths: Iterable[str]) -> None:
    """Raise `ModelError` for a file that is a Git LFS pointer or cannot be read, or safetensors that are not whole."""
    for path in paths:
        _check_pointer(folder / path, path)
        if path.endswith(".safetensors"):
            _check_safetensors(folder / path, path)


def _check_pointer(file: Path, path: str) -> None:
    with _readable(path), file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise _lfs(path)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raise `ModelError` for what the system says against reading a file."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}",
            "allow it, or copy it again: a link may lead to a file that was not copied along",
        ) from error


def _lfs(path: str) -> ModelError:
    return ModelError(
        f"{path} is a Git LFS pointer, not the file itself",
        "run `git lfs pull` in the model's folder, or download it again",
    )


def _check_safetensors(file: Path, path: str) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - start-up time

    try:
        with safe_open(file, framework="numpy") as tensors:
            empty = not tensors.keys()
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged or cut short: {error}", f"delete {file} and download it again") from error
    if empty:
        raise ModelError(f"{path} holds no tensors", "download the model again")
