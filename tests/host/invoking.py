"""What the tests of the commands share beside their fixtures."""

from collections.abc import Callable
from typing import NoReturn

from images import spec

TARGET = next(name for name in spec.names() if "feature-extraction" in spec.load(name).tasks)

Invoke = Callable[..., tuple[int, str, str]]
"""Runs `invoke ...` in this process: exit code, what it printed, what it complained of."""


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """What does nothing but fail, whatever it is given."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail
