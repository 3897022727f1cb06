"""A decoder's graph in ONNX Runtime: what its session says of itself, and its cache's parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from images.inside.contract import FloatArray, IntArray

PAST = "past_key_values."
PRESENT = "present."
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

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

    def empty(self) -> list[Cells]:
        """The cache of one row that holds nothing."""
        return [np.empty(part.room(1, 0), part.dtype) for part in self.parts]

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return {"runtime": "onnxruntime", "version": onnxruntime.__version__, "threads": str(self.threads)}


def _part(tensor: Any) -> Part:
    name = tensor.name
    _, heads, _, size = tensor.shape
    return Part(name, PRESENT + name.removeprefix(PAST), heads, size, TYPES[tensor.type])
