"""Every error that a user can meet, in one place: its kind, its exit code, its form.

An error says what happened (with what was expected) and what to do next. Nothing else is printed for a user's mistake.
"""


class ImageError(Exception):
    """A failure a user can act on.

    Attributes:
        what: what happened, and what was expected.
        hint: what to do next.
        exit_code: the process's exit code; one for each kind.

    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  -> {self.hint}" if self.hint else self.what


class UsageError(ImageError):
    """The command line asks for something that does not exist: a target, task, mode or file."""

    exit_code = 2


class ModelError(ImageError):
    """The model is missing, damaged, unsafe to load or unsupported."""

    exit_code = 3


class UnreachableError(ImageError):
    """A model hub or package index did not answer."""

    exit_code = 4


class EngineError(ImageError):
    """The container engine is missing, died, or a build step failed."""

    exit_code = 5


class GateError(ImageError):
    """The artifact does not reproduce the original model, or the image breaks its budget. Nothing is tagged."""

    exit_code = 6


class LockError(ImageError):
    """A lock file is out of date, or a wheel's hash differs from it."""

    exit_code = 7


class DiskFullError(ImageError):
    """No space left on the device."""

    exit_code = 8


class BusyError(ImageError):
    """Another build of the same tag is under way."""

    exit_code = 9


class MachineError(ImageError):
    """This machine cannot run the image: hardware or memory is missing."""

    exit_code = 10


INTERRUPTED = 130
"""Exit code after Ctrl-C, by the shell's convention of 128 + SIGINT."""
