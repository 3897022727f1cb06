"""What goes wrong inside an image, in one place: with its artifact or machine, which ends it, and with one request.

The commands on the host have kinds and exit codes of their own in `images.errors`; `images.verify` says which of them a
failed proof stands for.
"""

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """Exit codes of the image's commands."""

    PASS = 0
    DIFFERS = 1
    CANNOT_RUN = 2
    DAMAGED = 3

    @property
    def words(self) -> str:
        """Its name in words, such as `CANNOT RUN`."""
        return self.name.replace("_", " ")


class FatalError(Exception):
    """What ends the image's commands: the artifact is not served.

    Attributes:
        exit_code: the process's exit code; one for each kind.

    """

    exit_code: Exit


class ArtifactError(FatalError):
    """The artifact is damaged: a file is missing, changed or unreadable."""

    exit_code = Exit.DAMAGED


class OutputsDifferError(FatalError):
    """The artifact's outputs are not the original model's; the message names the input, the figure and the bound."""

    exit_code = Exit.DIFFERS


class CannotRunError(FatalError):
    """This machine cannot run the artifact; the message names what is missing."""

    exit_code = Exit.CANNOT_RUN


_PATH = " - at `$."
"""Stands before the path of what is wrong in a request, as in msgspec's messages."""


class InputError(ValueError):
    """A request's content is wrong in a way its sender can mend: HTTP 422."""

    def at(self, path: str) -> Self:
        """The same error, which names a part of the request more closely; not one that blames another part."""
        what, _, known = str(self).partition(_PATH)
        if path.startswith(known.removesuffix("`")):
            self.args = (f"{what}{_PATH}{path}`",)
        return self

    def renamed(self, before: str, after: str) -> Self:
        """The same error, where a part of the request is called otherwise than by who raised it."""
        self.args = (str(self).replace(f"{_PATH}{before}", f"{_PATH}{after}"),)
        return self


class NoTokensError(InputError):
    """A text that the tokenizer makes nothing of: an empty one, where it adds no special tokens."""

    def __init__(self) -> None:
        super().__init__("the text is empty: this model's tokenizer makes no token of it")


class NoRoomError(InputError):
    """A text that must be cut into windows, whose length has no room for any of it."""

    def __init__(self, length: int, room: int, overlap: int) -> None:
        super().__init__(
            f"windows of {length} tokens leave {room} for the text to be cut, "
            f"which must be more than their overlap of {overlap}"
        )


class TooLargeError(InputError):
    """An input is larger than may be: HTTP 413.

    Attributes:
        code: a short name for programs.

    """

    code = "input_too_large"


class TooLongError(TooLargeError):
    """An input has more tokens than the model takes."""

    code = "input_too_long"

    def __init__(self, got: int, limit: int) -> None:
        super().__init__(f"the input has {got} tokens; this model takes at most {limit} (set truncate to cut it)")
        self.got = got
        self.limit = limit
