"""What takes part in a benchmark."""

from dataclasses import dataclass

from images import spec
from images.errors import UsageError

TARGET = "onnx-cpu"
"""Whose images the README's first tables are about."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What takes part; where it says nothing, all that there is.

    Attributes:
        target: whose images, and what belongs to them; `TARGET`'s when empty.
        modes: of the target's images, separated by commas.
        only: contestants, separated by commas.

    """

    target: str = ""
    modes: str = ""
    only: str = ""

    def modes_of(self, task: str) -> list[str]:
        """The modes of a task that take part. Raises `UsageError` for one that cannot."""
        target = spec.load(self.target or TARGET)
        own = [mode.name for mode in target.modes_for(task) if not mode.needs]  # no file of the user's to ask for
        known = list(dict.fromkeys(own))  # several exporters may make one
        names = self.modes.split(",") if self.modes else known
        if unknown := sorted(set(names) - set(known)):
            modes = ", ".join(known) or "none"
            raise UsageError(f"{target.name} has no mode {unknown[0]!r} for {task}", f"those to compare are: {modes}")
        return names
