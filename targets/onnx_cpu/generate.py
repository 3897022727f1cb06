"""A decoder with its key-value cache in ONNX Runtime on the CPU, many sequences together.

Two kinds of graph. One attends in place: its cache is a buffer that is past and present at once, rows have lengths of
their own. The other concatenates: it takes the past and returns past and present, all rows equally long, so shorter
rows are padded on the left.
"""

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from images.inside.contract import ArtifactError, FloatArray, IntArray, Manifest
from images.inside.generation.contract import Generator

CACHE = "modelyard.cache"
"""The graph's metadata says by this key how it holds its cache: `shared` or `concatenated`."""
SHARED, CONCATENATED = "shared", "concatenated"
PAST = "past_key_values."
PRESENT = "present."
BLOCK = 256
"""Tokens by which the attention mask widens: between two widenings a step binds nothing anew."""
PAGE = 64
"""Tokens that a row's room is rounded up to, so that every row begins a page of memory, whatever a head's size."""

TYPES: Mapping[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

Cells = NDArray[Any]


class Part(NamedTuple):
    """One layer's keys or values, as the graph names and shapes them.

    Attributes:
        past: the input's name.
        present: the output's name.
        heads: how many.
        size: of one head.
        dtype: of the numbers.

    """

    past: str
    present: str
    heads: int
    size: int
    dtype: Any

    def room(self, rows: int, tokens: int) -> tuple[int, int, int, int]:
        """The shape of the cache of so many rows."""
        return rows, self.heads, tokens, self.size


@dataclass(frozen=True)
class Graph:
    """A session and what both kinds of graph have in common.

    Attributes:
        session: the loaded graph.
        parts: its cache.
        vocabulary: how many logits a token has.
        last_only: whether a run gives the logits behind its last token only.
        inputs: its inputs' names.
        threads: of one operation.

    """

    session: onnxruntime.InferenceSession
    parts: tuple[Part, ...]
    vocabulary: int
    last_only: bool
    inputs: frozenset[str]
    threads: int

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession, threads: int) -> "Graph":
        """What the session says of itself."""
        given = session.get_inputs()
        _, tokens, vocabulary = session.get_outputs()[0].shape
        return cls(
            session=session,
            parts=tuple(_part(tensor) for tensor in given if tensor.name.startswith(PAST)),
            vocabulary=vocabulary,
            last_only=tokens == 1,
            inputs=frozenset(tensor.name for tensor in given),
            threads=threads,
        )

    def run(self, ids: IntArray, mask: IntArray, pasts: Sequence[Cells]) -> tuple[FloatArray, list[Cells]]:
        """Logits [rows, tokens, vocabulary] and presents of a run whose past is copied."""
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if "position_ids" in self.inputs:
            feed["position_ids"] = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, -ids.shape[1] :]
        feed.update({part.past: past for part, past in zip(self.parts, pasts, strict=True)})
        logits, *presents = self.session.run(["logits", *(part.present for part in self.parts)], feed)
        return np.asarray(logits, np.float32), presents

    def score(self, ids: Sequence[int]) -> FloatArray:
        """The logits behind every token of one sequence."""
        pasts, scores = self.empty(), []
        for start in range(0, len(ids), 1 if self.last_only else BLOCK):
            part = np.array([ids[start : start + (1 if self.last_only else BLOCK)]], np.int64)
            logits, pasts = self.run(part, np.ones((1, start + part.shape[1]), np.int64), pasts)
            scores.append(logits[0])
        return np.concatenate(scores)

    def empty(self) -> list[Cells]:
        """The cache of one row that holds nothing."""
        return [np.empty(part.room(1, 0), part.dtype) for part in self.parts]

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return {"runtime": "onnxruntime", "version": onnxruntime.__version__, "threads": str(self.threads)}


def load(artifact: Path, manifest: Manifest, threads: int, slots: int) -> Generator:
    """Load the graph with room for so many sequences. Raises `ArtifactError` when ONNX Runtime cannot read it."""
    onnxruntime.disable_telemetry_events()
    try:
        session = onnxruntime.InferenceSession(
            artifact / manifest.entry, options(threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise ArtifactError(f"{manifest.entry}: ONNX Runtime cannot load it: {error}") from error
    graph = Graph.of(session, threads)
    kind = session.get_modelmeta().custom_metadata_map.get(CACHE)
    if kind == SHARED:
        return InPlace(graph, slots, manifest.max_length)
    if kind == CONCATENATED:
        return Concatenating(graph, slots, manifest.max_length)
    raise ArtifactError(f"{manifest.entry}: does not say how it holds its cache ({CACHE})")


def options(threads: int) -> onnxruntime.SessionOptions:
    """How ONNX Runtime is to run a decoder."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    # Spinning threads burn a shared core's time while they wait.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Every step has another shape: a memory plan by shape would never be used twice.
    chosen.enable_mem_pattern = False
    chosen.log_severity_level = 3
    return chosen


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

    def score(self, ids: Sequence[int]) -> FloatArray:
        """The logits behind every token of one sequence; no slot is touched."""
        return self._graph.score(ids)

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

    def score(self, ids: Sequence[int]) -> FloatArray:
        """The logits behind every token of one sequence; no slot is touched."""
        return self._graph.score(ids)

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


def _part(tensor: Any) -> Part:
    name = tensor.name
    _, heads, _, size = tensor.shape
    return Part(name, PRESENT + name.removeprefix(PAST), heads, size, TYPES[tensor.type])
