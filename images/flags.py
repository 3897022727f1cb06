"""Flags of commands that are declared elsewhere: by targets for `invoke build`, by records for the rest."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from images import spec
from images.config import ROOT
from images.spec import Option

KIND = inspect.Parameter.POSITIONAL_OR_KEYWORD


def declared(root: Path = ROOT) -> dict[str, dict[str, Option]]:
    """Every flag by name, as each target that has it declares it. A target whose facts are wrong has none."""
    found: dict[str, dict[str, Option]] = {}
    for target in spec.readable(root):
        for name, option in target.options.items():
            found.setdefault(name, {})[target.name] = option
    return found


def helps(flags: Mapping[str, Mapping[str, Option]]) -> dict[str, str]:
    """A line of help a flag, with the targets that take it; those that say the same of it together."""
    return {name: "; ".join(_alike(options)) for name, options in flags.items()}


def _alike(options: Mapping[str, Option]) -> Iterator[str]:
    for summary in dict.fromkeys(option.summary for option in options.values()):
        yield f"{', '.join(target for target, option in options.items() if option.summary == summary)}: {summary}"


def added(flags: Mapping[str, Mapping[str, Option]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command takes the flags too, and gets those that were given as its argument `extra`."""
    names = {name.replace("-", "_"): name for name in flags}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def extended(*args: Any, **kwargs: Any) -> None:
            given = {name: kwargs.pop(key) for key, name in names.items() if key in kwargs}
            command(*args, **kwargs, extra={name: value for name, value in given.items() if value not in {"", False}})

        extended.__signature__ = _signature(command, flags)  # type: ignore[attr-defined]
        return extended

    return decorate


def fields(record: type[Any], argument: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command takes every field of a dataclass as a flag, and gets the record as its argument."""
    own = [inspect.Parameter(each.name, KIND, default=each.default) for each in dataclasses.fields(record)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def extended(*args: Any, **kwargs: Any) -> None:
            given = {each.name: kwargs.pop(each.name, each.default) for each in own}
            command(*args, **kwargs, **{argument: record(**given)})

        rest = [each for each in inspect.signature(command).parameters.values() if each.name != argument]
        extended.__signature__ = inspect.Signature([*rest, *own])  # type: ignore[attr-defined]
        return extended

    return decorate


def _signature(command: Callable[..., None], flags: Mapping[str, Mapping[str, Option]]) -> inspect.Signature:
    own = [each for each in inspect.signature(command).parameters.values() if each.name != "extra"]
    more = [
        inspect.Parameter(
            name.replace("-", "_"),
            KIND,
            default=False if all(option.default is False for option in options.values()) else "",
        )
        for name, options in flags.items()
    ]
    return inspect.Signature([*own, *more])
