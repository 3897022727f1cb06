"""Which of a target's modes a build takes, by which exporter and with which flags; or why none. Pure."""

import re
from collections.abc import Collection, Mapping

from images.errors import UsageError
from images.spec import Mode, TargetSpec


def require(target: TargetSpec, name: str, given: Collection[str] = ()) -> None:
    """Raise `UsageError` for a mode that no task of the target has, or without its flags: known before any model is."""
    names = list(dict.fromkeys(mode.name for mode in target.modes))
    if name in target.refused:
        raise UsageError(
            f"{target.name} refuses {name!r}: {target.refused[name]}", f"its modes are: {', '.join(names)}"
        )
    if name and name not in names:
        raise UsageError(f"{target.name} has no quantisation mode {name!r}", f"its modes are: {', '.join(names)}")
    if name:
        require_needs(target, next(mode for mode in target.modes if mode.name == name), given)


def choose(target: TargetSpec, task: str, name: str, exporter: str = "") -> Mode:
    """The named quantisation mode for a task, or its default. Raises `UsageError` listing modes or exporters."""
    found = target.modes_for(task, exporter)
    if not found:
        makers = dict.fromkeys(mode.exporter for mode in target.modes_for(task))
        raise UsageError(
            f"{target.name} has no exporter {exporter!r} for {task}", f"its exporters are: {', '.join(makers)}"
        )
    chosen = next((mode for mode in found if name in {"", mode.name}), None)
    if chosen is None:
        known = dict.fromkeys(mode.name for mode in found)
        raise UsageError(
            f"{target.name} has no quantisation mode {name!r} for {task}{f' by {exporter}' if exporter else ''}",
            f"its modes are: {', '.join(known)}",
        )
    return chosen


def flags(target: TargetSpec, extra: Mapping[str, str | bool]) -> dict[str, str | bool]:
    """The target's own flags with what was given or their default. Raises `UsageError` for a wrong name or value."""
    for name, value in extra.items():
        option = target.options.get(name)
        if option is None:
            own = ", ".join(f"--{known}" for known in target.options)
            raise UsageError(f"{target.name} takes no --{name}", f"its own flags: {own or 'none'}")
        if isinstance(value, str) and not re.fullmatch(option.pattern, value):
            raise UsageError(f"--{name} {value!r} is not what it takes", option.summary)
    return {name: extra.get(name, option.default) for name, option in target.options.items()}


def require_needs(target: TargetSpec, mode: Mode, given: Collection[str]) -> None:
    """Raise `UsageError` for a flag that a mode lacks, or that only another mode reads."""
    for name in mode.needs:
        if name not in given:
            raise UsageError(f"{mode.name} of {target.name} needs --{name}", target.options[name].summary)
    for other in target.modes:
        if unread := [name for name in other.needs if name in given and name not in mode.needs]:
            raise UsageError(
                f"--{unread[0]} changes nothing in {mode.name} of {target.name}",
                f"leave it out, or ask for --quantize {other.name}",
            )


def longest(target: TargetSpec, given: Mapping[str, str | bool], cap: int) -> int:
    """The cap on an input's tokens: the least that flags state, 0 when none does."""
    stated = [
        max(map(int, re.findall(r"\d+", str(given[name]))), default=0)
        for name, option in target.options.items()
        if option.caps_length
    ]
    return min(filter(None, [cap, *stated]), default=0)
