"""What the commands share: errors as one readable line and an exit code, options that several have."""

import functools
import inspect
import json
import math
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from invoke.exceptions import Exit
from invoke.tasks import task

from images import spec
from images.config import ROOT
from images.errors import INTERRUPTED, ImageError, UsageError

if TYPE_CHECKING:
    from images.remote import Remote

DIST = ROOT / "dist"
UNREAD = 128 + signal.SIGPIPE
"""Exit code of what printed to nobody, as shells have it."""
P = ParamSpec("P")
NUMBERS = {int: "whole number", float: "number"}


def command(**about: Any) -> Callable[[Callable[..., None]], Any]:
    """Invoke's `task` for a command: numbers that are none are errors of ours, and flags have long names only.

    Invoke's own short ones go to whichever flag comes first: `-n` would be the namespace of one command and the name of
    another, and a target that declares a flag of its own would change the meaning of others'.
    """

    def decorate(function: Callable[..., None]) -> Any:
        return task(auto_shortflags=False, **about)(_numbers(function))

    return decorate


def _numbers(function: Callable[..., None]) -> Callable[..., None]:
    """Take numbers as texts: Invoke's own conversion ends in a traceback."""
    signature = inspect.signature(function)
    given = signature.parameters.values()
    kinds = {each.name: type(each.default) for each in given if type(each.default) in {int, float}}

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        function(*args, **{name: _number(name, value, kinds.get(name, str)) for name, value in kwargs.items()})

    texts = [each.replace(default=str(each.default)) if each.name in kinds else each for each in given]
    wrapped.__signature__ = signature.replace(parameters=texts)  # type: ignore[attr-defined]
    return wrapped


def _number(name: str, value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, str) or kind is str:
        return value
    try:
        number = kind(value)
        if math.isfinite(number):
            return number
    except ValueError:
        pass
    error = UsageError(f"--{name.replace('_', '-')} {value!r} is no {NUMBERS[kind]}", "see `invoke --help COMMAND`")
    raise Exit(f"error: {error}", error.exit_code)


def readable(function: Callable[P, None]) -> Callable[P, None]:
    """Turn our errors into one message and their exit code; Ctrl-C and SIGTERM unwind like any error."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            function(*args, **kwargs)
        except ImageError as error:
            raise Exit(f"error: {error}", error.exit_code) from error
        except KeyboardInterrupt:
            raise Exit("interrupted: what was half-made is removed", INTERRUPTED) from None
        except BrokenPipeError:
            if _is_read():
                raise
            raise SystemExit(UNREAD) from None

    return wrapped


def _is_read() -> bool:
    """Whether somebody still reads what is printed; `head` stops when it has enough, which is no error to tell."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)  # errors are always told
    if not output.poll(0):
        return True
    # Python flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False


def target_of(name: str) -> str:
    """A target's name that was given. Raises `UsageError` with those that there are."""
    if not name:
        raise UsageError("no target was named", f"add --target T; the targets are: {', '.join(spec.names())}")
    return name


def image_of(target: str, image: str) -> str:
    """An image by name, or the newest of a target. Raises `UsageError` unless one of both was given."""
    from images import record

    if bool(target) == bool(image):
        raise UsageError("name either a target or an image", "add --target T, or --image REF")
    return image or record.newest(DIST, spec.load(target).name)


def weights_of(folder: str) -> Path | None:
    """A folder by its whole path, as engines mount it: they would make one that is not there."""
    if folder and not Path(folder).is_dir():
        raise UsageError(f"there is no folder {folder!r}", "name the folder with the model's files after --weights")
    return Path(folder).resolve() if folder else None


def remote_of(image: str) -> "Remote":
    """An image in a registry. Raises `UsageError` when none was named."""
    from images import remote

    if not image:
        raise UsageError("no image was named", f"add --image; {remote.FORM}")
    return remote.parse(image)


def as_json(value: object) -> str:
    """For scripts."""
    import msgspec

    return json.dumps(msgspec.to_builtins(value), indent=2)
