"""Every error that a user of the commands can meet, in one place: its kind, its exit code, its form.

What goes wrong inside an image is in `images.inside.errors`; `images.verify` says which kind a failed proof stands for.

An error says what happened (with what was expected) and what to do next. Nothing else is printed for a user's mistake,
and no credential is.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """A model hub, package index or container registry did not answer, or answered that it cannot."""

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


class AccessError(ImageError):
    """A container registry refuses what this machine's credentials ask of it."""

    exit_code = 11


class TrustError(ImageError):
    """An image in a registry is not what was signed, attested or recorded."""

    exit_code = 12


class ClusterError(ImageError):
    """A cluster refused a manifest, did not start a pod, or did not answer."""

    exit_code = 13


INTERRUPTED = 130
"""Exit code after Ctrl-C, by the shell's convention of 128 + SIGINT."""


@contextmanager
def disk_guard(folder: Path) -> Iterator[None]:
    """Turn the system's "no space left" and "quota exceeded" into `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise disk_full(folder) from error


def disk_full(folder: Path) -> DiskFullError:
    """The error for a folder that takes no more."""
    return DiskFullError(
        f"no space left on the device of {folder}", "free some, or set MODELYARD_CACHE to a folder on a larger disk"
    )


def mask(text: str) -> str:
    """The text without credentials: URLs' user parts, secret query values and hub tokens."""
    text = re.sub(r"://[^\s/]*@", "://****@", text)
    text = re.sub(
        r"([?&][\w-]*(?:token|key|sig|signature|secret|password|auth)[\w-]*=)[^&\s'\"]+",
        r"\1****",
        text,
        flags=re.IGNORECASE,
    )
    return re.sub(r"\bhf_\w{8,}", "hf_****", text)
