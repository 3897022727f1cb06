"""What a long command says while it runs: one live line at a terminal, nothing elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Report = Callable[[str], None]
"""Takes one line about what is being done."""


def silent(_line: str) -> None:
    """The report of a caller that shows nothing."""


class Progress(Protocol):
    """Told of every step, and of what happens inside it."""

    def step(self, text: str) -> None:
        """A new step begins."""
        ...

    def detail(self, text: str) -> None:
        """Something worth showing happens in the step."""
        ...


class Quiet:
    """Says nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""


class Lines:
    """One line a step on standard error, for logs."""

    def step(self, text: str) -> None:
        """Print the step."""
        print(f"- {text}", file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Nothing: a log wants steps only."""


class Live:
    """A spinner with the current step, and a line with its time for each that is done."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - rich costs start-up time that a no-op rebuild does not have

        self._console = Console(stderr=True)
        self._status = self._console.status("")
        self._step, self._since = "", time.monotonic()

    def step(self, text: str) -> None:
        """Finish the step before and show this one."""
        self._finish()
        self._step, self._since = text, time.monotonic()
        self._status.update(text)
        self._status.start()

    def detail(self, text: str) -> None:
        """Show it behind the step."""
        self._status.update(f"{self._step} [dim]{_escape(text)[:90]}[/dim]")

    def close(self) -> None:
        """Finish the last step."""
        self._finish()
        self._status.stop()

    def _finish(self) -> None:
        if self._step:
            self._console.print(
                f"[dim]{time.monotonic() - self._since:6.1f} s[/dim]  {_escape(self._step)}", highlight=False
            )
        self._step = ""


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """Live at a terminal; silent when quiet was asked; else one line a step."""
    if quiet:
        yield Quiet()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        live = Live()
        try:
            yield live
        finally:
            live.close()


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
