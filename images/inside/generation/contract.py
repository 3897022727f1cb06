"""The contract between a runtime that generates token by token and the loop that drives it."""

from collections.abc import Sequence
from typing import Protocol

from images.inside.contract import FloatArray


class Generator(Protocol):
    """An artifact that generates, loaded by its runtime. Calls come one at a time, from one thread.

    A sequence lives in a slot, a row of the key-value cache; the loop decides which.

    Attributes:
        slots: how many sequences may live at once.
        context: the most tokens of one sequence.

    """

    slots: int
    context: int

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        """Feed tokens into a slot behind those that it holds already (a long prompt comes in parts).

        Returns:
            The logits behind the last of them, float32 [vocabulary].

        """
        ...

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        """Feed one token into each of several slots at once.

        Returns:
            The logits behind each, float32 [len(slots), vocabulary], in order.

        """
        ...

    def length(self, slot: int) -> int:
        """How many tokens a slot holds."""
        ...

    def release(self, slot: int) -> None:
        """Empty a slot."""
        ...

    def describe(self) -> dict[str, str]:
        """The runtime's name, version, threads and what else explains its speed."""
        ...
