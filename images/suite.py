"""Files with one JSON request a line, such as the user's own inputs for the gate, checked before anything is built."""

import json
from collections.abc import Mapping
from pathlib import Path

from images.errors import UsageError
from images.inside import suite, tasks
from images.inside.errors import InputError
from images.inside.generation import inputs
from images.spec import Option

GENERATION = "text-generation"
"""The task whose requests are prompts, and whose answers come token by token."""
FLAG = "suite"
"""What the file with inputs for the gate is given by."""
REQUEST = "each line is one request, as /predict takes it"


def named(options: Mapping[str, Option], extra: Mapping[str, str | bool]) -> dict[str, bytes]:
    """The contents of the files that a target's own flags name, by flag. Raises `UsageError` as `read` does."""
    files = [name for name, option in options.items() if option.requests and name in extra]
    return {name: read(Path(str(extra[name])), name) for name in files}


def read(file: Path, flag: str = FLAG) -> bytes:
    """The file's content. Raises `UsageError` with the number of the first line that is not a JSON object."""
    hint = f"give --{flag} a file with one JSON request a line"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"--{flag} {file} cannot be read: {error.strerror}", hint) from error
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    if not lines:
        raise UsageError(f"--{flag} {file} is empty", hint)
    for number, line in lines:
        _check(file, number, line)
    return content


def require(content: bytes, task: str, flag: str = FLAG) -> None:
    """Raise `UsageError` with the number of the first line that is no request of the task. Nothing is no file."""
    try:
        if content:
            suite.read(content, inputs.Payloads() if task == GENERATION else tasks.load(task))
    except InputError as error:
        raise UsageError(f"--{flag}, {error} (the task is {task})", REQUEST) from error


def _check(file: Path, number: int, line: bytes) -> None:
    try:
        payload = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{file}, line {number} is not JSON: {error}", REQUEST) from error
    if not isinstance(payload, dict):
        raise UsageError(f"{file}, line {number}: a JSON object was expected", 'for example {"inputs": "some text"}')
