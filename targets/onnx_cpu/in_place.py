"""A decoder whose key-value cache is past and present at once: rows of a buffer, each as long as it is."""

import math
import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from images.inside.contract import FloatArray, IntArray
from targets.onnx_cpu.graph import Cells, Graph, Part

BLOCK = 256
"""Tokens by which the attention mask widens: between two widenings a step binds nothing anew."""
PAGE = 64
"""Tokens that a row's room is rounded up to, so that every row begins a page of memory, whatever a head's size."""


class Room:
    """Memory for one part of the cache, [rows, heads, tokens, size]: what nobody wrote to takes no memory.

    The system brings pages when they are first written and takes them back from a row that is emptied, so that a
    server that waits is small, however long a sequence may be.
    """

    def __init__(self, part: Part, rows: int, tokens: int) -> None:
        self._row_bytes = math.prod(part.room(1, tokens)) * int(np.dtype(part.dtype).itemsize)
        self._pages = mmap.mmap(-1, rows * self._row_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A huge page would be taken for a row's first token.
        self._pages.madvise(mmap.MADV_NOHUGEPAGE)
        self.cells: Cells = np.frombuffer(self._pages, part.dtype).reshape(part.room(rows, tokens))

    def address(self, row: int) -> int:
        """Where a row begins."""
        return int(self.cells.ctypes.data) + row * self._row_bytes

    def clear(self, row: int) -> None:
        """Give a row's memory back; it reads as zeros."""
        self._pages.madvise(mmap.MADV_DONTNEED, row * self._row_bytes, self._row_bytes)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row's first tokens over another row."""
        self.cells[target, :, :tokens] = self.cells[source, :, :tokens]

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange the first tokens of two rows."""
        self.cells[[one, other], :, :tokens] = self.cells[[other, one], :, :tokens]


class Rows:
    """Which row of the cache a slot has. Slots that decode together lie in neighbouring rows."""

    def __init__(self, rooms: Sequence[Room], count: int) -> None:
        self._rooms = rooms
        self._slots: list[int | None] = [None] * count
        self.lengths = dict.fromkeys(range(count), 0)

    def of(self, slot: int) -> int:
        """A slot's row; the first free one when it has none."""
        if slot not in self._slots:
            self._slots[self._slots.index(None)] = slot
        return self._slots.index(slot)

    def release(self, slot: int) -> None:
        """Empty a slot."""
        self.lengths[slot] = 0
        if slot in self._slots:
            row = self._slots.index(slot)
            self._slots[row] = None
            self._clear(row)

    def together(self, slots: Sequence[int]) -> int:
        """Bring slots into neighbouring rows, moving as few as can be. Returns the first of these rows."""
        rows = [self.of(slot) for slot in slots]
        first = self._window(set(rows), len(slots))
        window = range(first, first + len(slots))
        places = (row for row in window if self._slots[row] not in slots)
        for row in rows:
            if row not in window:
                self._exchange(row, next(places))
        return first

    def _window(self, rows: set[int], count: int) -> int:
        starts = range(len(self._slots) - count + 1)
        return max(starts, key=lambda start: len(rows.intersection(range(start, start + count))))

    def _exchange(self, row: int, place: int) -> None:
        slot, other = self._slots[row], self._slots[place]
        tokens = max(self.lengths[found] for found in (slot, other) if found is not None)
        for room in self._rooms:
            if other is None:
                room.move(row, place, tokens)
            else:
                room.swap(row, place, tokens)
        self._slots[row], self._slots[place] = other, slot
        if other is None:
            self._clear(row)

    def _clear(self, row: int) -> None:
        for room in self._rooms:
            room.clear(row)


class InPlace:
    """A graph whose cache is past and present at once; satisfies `images.inside.generation.contract.Generator`."""

    def __init__(self, graph: Graph, slots: int, context: int) -> None:
        self.slots, self.context = slots, context
        self._graph = graph
        self._tokens = -(-context // PAGE) * PAGE
        self._rooms = [Room(part, slots, self._tokens) for part in graph.parts]
        self._rows = Rows(self._rooms, slots)
        self._step: _Step | None = None

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        """Feed tokens into a slot; the logits behind the last of them."""
        row, length = self._rows.of(slot), self._rows.lengths[slot]
        step = _Step.bound(self, row, 1, len(ids), length + len(ids))
        logits = step.run(np.array([ids], np.int64), [length])
        self._rows.lengths[slot] = length + len(ids)
        last: FloatArray = logits[0, -1].copy()
        return last

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        """Feed one token into each of several slots; the logits behind each."""
        first = self._rows.together(slots)
        rows = [self._rows.of(slot) - first for slot in slots]
        lengths = [0] * len(slots)
        given = np.zeros((len(slots), 1), np.int64)
        for row, slot, token in zip(rows, slots, ids, strict=True):
            lengths[row], given[row] = self._rows.lengths[slot], token
        logits = self._bound(first, len(slots), max(lengths) + 1).run(given, lengths)
        for slot in slots:
            self._rows.lengths[slot] += 1
        chosen: FloatArray = logits[rows, 0]
        return chosen

    def _bound(self, first: int, count: int, longest: int) -> "_Step":
        """The last step's binding where it still fits."""
        step = self._step
        if step is None or (step.first, step.count) != (first, count) or step.width < longest:
            step = self._step = _Step.bound(self, first, count, 1, longest)
        return step

    def length(self, slot: int) -> int:
        """How many tokens a slot holds."""
        return self._rows.lengths[slot]

    def release(self, slot: int) -> None:
        """Empty a slot."""
        self._rows.release(slot)

    def describe(self) -> dict[str, str]:
        """The runtime, its version, threads and kind of cache."""
        return {**self._graph.describe(), "cache": "in place"}

    def buffers(self, row: int) -> Iterator[tuple[Part, int]]:
        """Every part of the cache and where it has the row."""
        return ((part, room.address(row)) for part, room in zip(self._graph.parts, self._rooms, strict=True))

    def binding(self) -> Any:
        """A new binding of the session's."""
        return self._graph.session.io_binding()

    @property
    def graph(self) -> Graph:
        """The loaded graph."""
        return self._graph

    @property
    def tokens(self) -> int:
        """Room of one row."""
        return self._tokens


class _Step:
    """Neighbouring rows bound to a session: everything stays where it is from run to run, only numbers change."""

    def __init__(self, owner: InPlace, first: int, count: int, width: int, ids: IntArray) -> None:
        self.first, self.count, self.width = first, count, width
        self._owner, self._ids = owner, ids
        self._mask = np.zeros((count, width), np.int64)
        tokens = 1 if owner.graph.last_only else ids.shape[1]
        self._logits = np.empty((count, tokens, owner.graph.vocabulary), np.float32)
        self._binding = owner.binding()

    @classmethod
    def bound(cls, owner: InPlace, first: int, count: int, tokens: int, longest: int) -> "_Step":
        """Bind `count` rows for runs of `tokens` tokens each, as long as no row gets longer than the mask is wide."""
        width = min(-(-longest // BLOCK) * BLOCK, owner.tokens)
        step = cls(owner, first, count, width, np.zeros((count, tokens), np.int64))
        step._bind()
        return step

    def _bind(self) -> None:
        for name, array in (("input_ids", self._ids), ("attention_mask", self._mask)):
            self._binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
        logits = self._logits
        self._binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for part, address in self._owner.buffers(self.first):
            shape = part.room(self.count, self._owner.tokens)
            self._binding.bind_input(part.past, "cpu", 0, part.dtype, shape, address)
            self._binding.bind_output(part.present, "cpu", 0, part.dtype, shape, address)

    def run(self, ids: IntArray, lengths: Sequence[int]) -> FloatArray:
        """Feed tokens behind those that each row holds; the logits are overwritten by the next run."""
        self._ids[:] = ids
        self._mask[:] = np.arange(self.width) < np.array(lengths)[:, None] + ids.shape[1]
        self._owner.graph.session.run_with_iobinding(self._binding)
        return self._logits
