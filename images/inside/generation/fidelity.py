"""How close an artifact's next-token distributions are to the original's: the record and the figures. Pure.

Of every position the original's most likely tokens are kept with their log-probabilities, and what follows them as one
more outcome. The divergence over these outcomes is never more than the whole one, and nearly all of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from images.inside.contract import FloatArray
from images.inside.records import Struct

KEPT = 256
"""Tokens that are kept of a position: the rest of a vocabulary would be megabytes a prompt."""

Doubles = NDArray[np.float64]


class Record(NamedTuple):
    """The original's distributions at the positions of one continuation.

    Attributes:
        tokens: the continuation that both are fed, int32 [positions].
        ids: the most likely tokens of every position, best first, int32 [positions, kept].
        logprobs: their log-probabilities, float32 [positions, kept].
        chosen: the continuation's log-probabilities, float32 [positions].

    """

    tokens: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: FloatArray
    chosen: FloatArray

    def arrays(self) -> dict[str, Any]:
        """As an `.npz` takes it."""
        return self._asdict()

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Self:
        """Read back. Raises `KeyError` when one is missing."""
        return cls(*(arrays[name] for name in cls._fields))


class Fidelity(Struct, kw_only=True):
    """How far distributions are from the original's, over the positions of one case or of several.

    Attributes:
        positions: how many.
        agreement: share of positions with the same most likely token.
        divergence: mean Kullback-Leibler divergence from the original, in nats.
        perplexity: of the continuation, as a multiple of the original's.
        max_abs_diff: largest difference of a kept log-probability.

    """

    positions: int
    agreement: float
    divergence: float
    perplexity: float
    max_abs_diff: float


def record(logits: FloatArray, tokens: Sequence[int]) -> Record:
    """Keep what is needed of the original's logits.

    Args:
        logits: [positions, vocabulary]; row i is behind the token before `tokens[i]`.
        tokens: the continuation.

    """
    logprobs = log_softmax(logits)
    ids = np.argsort(-logprobs, axis=-1, kind="stable")[:, :KEPT]
    chosen = np.array(tokens, np.int32)
    return Record(
        tokens=chosen,
        ids=ids.astype(np.int32),
        logprobs=np.take_along_axis(logprobs, ids, axis=-1).astype(np.float32),
        chosen=_at(logprobs, chosen).astype(np.float32),
    )


def compare(original: Record, logits: FloatArray) -> Fidelity:
    """The figures of an artifact's logits behind the same tokens. What is not a number is infinitely wrong."""
    if logits.shape[0] != len(original.tokens) or not np.isfinite(logits).all():
        return Fidelity(
            positions=len(original.tokens),
            agreement=0.0,
            divergence=float("inf"),
            perplexity=float("inf"),
            max_abs_diff=float("inf"),
        )
    logprobs = log_softmax(logits)
    kept = np.take_along_axis(logprobs, original.ids.astype(np.int64), axis=-1)
    return Fidelity(
        positions=len(original.tokens),
        agreement=float(np.mean(logits.argmax(axis=-1) == original.ids[:, 0])),
        divergence=float(np.mean(_divergence(original.logprobs.astype(np.float64), kept))),
        perplexity=float(np.exp(np.mean(original.chosen - _at(logprobs, original.tokens)))),
        max_abs_diff=float(np.abs(original.logprobs - kept).max()),
    )


def together(parts: Sequence[Fidelity]) -> Fidelity:
    """The figures over all positions of several cases."""
    weights = np.array([part.positions for part in parts], np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    return Fidelity(
        positions=sum(part.positions for part in parts),
        agreement=mean([part.agreement for part in parts]),
        divergence=mean([part.divergence for part in parts]),
        perplexity=float(np.exp(mean([float(np.log(part.perplexity)) for part in parts]))),
        max_abs_diff=max(part.max_abs_diff for part in parts),
    )


def matched(original: Sequence[int], ours: Sequence[int]) -> float:
    """Share of the original's answer that ours repeats from its beginning; an answer that goes on is no match."""
    if list(original) == list(ours):
        return 1.0
    same = next((i for i, (one, other) in enumerate(zip(original, ours, strict=False)) if one != other), None)
    longest = max(len(original), len(ours))
    return (min(len(original), len(ours)) if same is None else same) / longest


def log_softmax(logits: FloatArray) -> Doubles:
    """Log-probabilities, in double precision: the figures of an exact export are rounding errors."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    logprobs: Doubles = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logprobs


def _divergence(original: Doubles, ours: Doubles) -> Doubles:
    """Over the kept tokens and all others as one outcome."""
    rest, other = (np.maximum(1 - np.exp(kept).sum(axis=-1), 1e-12) for kept in (original, ours))
    kept = (np.exp(original) * (original - ours)).sum(axis=-1)
    divergence: Doubles = kept + rest * (np.log(rest) - np.log(other))
    return np.maximum(divergence, 0.0)


def _at(logprobs: Doubles, tokens: NDArray[np.int32]) -> Doubles:
    chosen: Doubles = logprobs[np.arange(len(tokens)), tokens]
    return chosen
