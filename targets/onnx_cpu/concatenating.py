"""A decoder that takes its key-value cache and returns a longer one: rows joined in one array, padded on the left."""

from collections.abc import Sequence

import numpy as np

from images.inside.contract import FloatArray, IntArray
from targets.onnx_cpu.graph import Cells, Graph, Part


class Concatenating:
    """A graph that returns a longer cache than it takes; satisfies `images.inside.generation.contract.Generator`.

    Slots that decoded together stay joined in one array, padded on the left, until others do.
    """

    def __init__(self, graph: Graph, slots: int, context: int) -> None:
        self.slots, self.context = slots, context
        self._graph = graph
        self._alone: dict[int, list[Cells]] = {}
        self._joined: tuple[int, ...] = ()
        self._pads: IntArray = np.zeros(0, np.int64)
        self._cache: list[Cells] = []

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        """Feed tokens into a slot; the logits behind the last of them."""
        if slot in self._joined:
            self._part()
        past = self._alone.get(slot) or self._graph.empty()
        mask = np.ones((1, past[0].shape[2] + len(ids)), np.int64)
        logits, self._alone[slot] = self._graph.run(np.array([ids], np.int64), mask, past)
        last: FloatArray = logits[0, -1].copy()
        return last

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        """Feed one token into each of several slots; the logits behind each."""
        if set(slots) != set(self._joined):
            self._part()
            self._join(tuple(slots))
        rows = [self._joined.index(slot) for slot in slots]
        given = np.zeros((len(rows), 1), np.int64)
        given[rows, 0] = ids
        width = self._cache[0].shape[2] + 1
        mask = (np.arange(width) >= self._pads[:, None]).astype(np.int64)
        logits, self._cache = self._graph.run(given, mask, self._cache)
        chosen: FloatArray = logits[rows, 0]
        return chosen

    def _join(self, slots: tuple[int, ...]) -> None:
        lengths = np.array([self.length(slot) for slot in slots])
        pasts = [self._alone.pop(slot) if slot in self._alone else self._graph.empty() for slot in slots]
        self._joined, self._pads = slots, lengths.max() - lengths
        self._cache = [_padded(part, [past[index] for past in pasts]) for index, part in enumerate(self._graph.parts)]

    def _part(self) -> None:
        """Give every joined slot a view of its own of the joined cache."""
        for row, (slot, pad) in enumerate(zip(self._joined, self._pads, strict=True)):
            self._alone[slot] = [cells[row : row + 1, :, pad:] for cells in self._cache]
        self._joined, self._pads, self._cache = (), np.zeros(0, np.int64), []

    def length(self, slot: int) -> int:
        """How many tokens a slot holds."""
        if slot in self._joined:
            return int(self._cache[0].shape[2] - self._pads[self._joined.index(slot)])
        return int(self._alone[slot][0].shape[2]) if slot in self._alone else 0

    def release(self, slot: int) -> None:
        """Empty a slot."""
        if slot in self._joined:
            self._part()
        self._alone.pop(slot, None)

    def describe(self) -> dict[str, str]:
        """The runtime, its version, threads and kind of cache."""
        return {**self._graph.describe(), "cache": "concatenated"}


def _padded(part: Part, rows: Sequence[Cells]) -> Cells:
    """Rows of unequal length in one array, all ending together."""
    if len(rows) == 1:
        return np.ascontiguousarray(rows[0])
    longest = max(row.shape[2] for row in rows)
    cells: Cells = np.zeros(part.room(len(rows), longest), part.dtype)
    for target, row in zip(cells, rows, strict=True):
        target[:, longest - row.shape[2] :] = row[0]
    return cells
