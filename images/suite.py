"""The user's own inputs for the gate, checked before anything is built."""

import json
from pathlib import Path

from images.errors import UsageError
from images.inside import suite, tasks
from images.inside.errors import InputError
from images.inside.generation import inputs

GENERATION = "text-generation"
"""The task whose requests are prompts, and whose answers come token by token."""


def read(file: Path) -> bytes:
    """The file's content. Raises `UsageError` with the number of the first line that is not a JSON object."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the suite {file} cannot be read: {error.strerror}", "give --suite a file with one JSON request a line"
        ) from error
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    if not lines:
        raise UsageError(f"the suite {file} is empty", "give --suite a file with one JSON request a line")
    for number, line in lines:
        _check(file, number, line)
    return content


def require(content: bytes, task: str) -> None:
    """Raise `UsageError` with the number of the first line that is no request of the task. Nothing is no suite."""
    try:
        if content:
            suite.read(content, inputs.Payloads() if task == GENERATION else tasks.load(task))
    except InputError as error:
        raise UsageError(f"{error} (the task is {task})", "each line is one request, as /predict takes it") from error


def _check(file: Path, number: int, line: bytes) -> None:
    try:
        payload = json.loads(line)
    except ValueError as error:
        raise UsageError(
            f"{file}, line {number} is not JSON: {error}", "each line is one request, as /predict takes it"
        ) from error
    if not isinstance(payload, dict):
        raise UsageError(f"{file}, line {number}: a JSON object was expected", 'for example {"inputs": "some text"}')
