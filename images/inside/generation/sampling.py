"""From logits to a token. Names, meaning and order are those of transformers' logits processors.

First bias and penalties, then temperature, top-k, top-p, min-p. Nothing sorts the vocabulary: a partition finds the few
tokens that matter. A token costs 5 us at a vocabulary of 49152 when it is greedy, 50 to 100 us when it is drawn.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from images.inside.contract import FloatArray, IntArray
from images.inside.generation.request import Sampling

FEW = 1024
"""How many of the most likely tokens top-p looks at first; they nearly always have enough of the probability."""
BLOCK = 256
"""Weights are summed in blocks first: a running sum over a whole vocabulary would take most of the time."""
LOWEST = -9999.0
"""A log probability of minus infinity, as JSON can carry it (and as OpenAI writes it)."""
NO_NUMBERS = "the model's outputs are not numbers"


class Picked(NamedTuple):
    """A chosen token.

    Attributes:
        token: its id.
        logprob: its log probability as the model sees it, before penalties and temperature; None when not wanted.
        top: the most likely tokens with theirs, the likeliest first.

    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses one answer's tokens. Its chance is its own: no other request changes what it draws.

    Args:
        sampling: how to choose.
        prompt: the prompt's token ids, for the repetition penalty.
        capacity: the most tokens of the answer.
        allows: whether the answer can go on with a token; a choice that it cannot go on with is made anew.

    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        capacity: int,
        allows: Callable[[int], bool] | None = None,
    ) -> None:
        self._sampling, self._allows = sampling, allows
        self._seen = Seen(prompt, capacity) if sampling.shifts else None
        self._biased = np.array(list(sampling.logit_bias), np.int64)
        self._bias = np.array(list(sampling.logit_bias.values()), np.float32)
        self._uniform = _chance(sampling) if not sampling.greedy else None

    def pick(self, logits: FloatArray) -> Picked:
        """The next token, and its log probability if wanted. Raises `ArithmeticError` for logits that are no numbers.

        Args:
            logits: one row, float32 [vocabulary]; it is not changed.

        """
        scores = self._shifted(logits, self._seen) if self._seen else logits
        token = self._first(scores) if self._uniform is None else self._drawn(scores, self._uniform)
        if not math.isfinite(scores[token]):
            raise ArithmeticError(NO_NUMBERS)
        if self._seen:
            self._seen.add(token)
        return _with_logprobs(logits, token, self._sampling.top_logprobs) if self._sampling.logprobs else Picked(token)

    def _shifted(self, logits: FloatArray, seen: "Seen") -> FloatArray:
        scores, wanted = logits.copy(), self._sampling
        scores[self._biased] += self._bias
        ids, counts = seen.ids, seen.counts
        now, penalty = scores[ids], np.float32(wanted.repetition_penalty)
        now = np.where(now < 0, now * penalty, now / penalty)
        scores[ids] = now - np.float32(wanted.frequency_penalty) * counts - wanted.presence_penalty * (counts > 0)
        return scores

    def _first(self, scores: FloatArray) -> int:
        token = int(scores.argmax())
        if self._allows and not self._allows(token) and math.isfinite(scores[token]):
            return self._first_allowed(scores.copy(), token, self._allows)
        return token

    def _first_allowed(self, scores: FloatArray, token: int, allows: Callable[[int], bool]) -> int:
        while math.isfinite(scores[token]) and not allows(token):
            scores[token] = -math.inf
            token = int(scores.argmax())
        return _possible(scores, token)

    def _drawn(self, scores: FloatArray, uniform: Callable[[], float]) -> int:
        while True:
            ids, weights = candidates(scores, self._sampling)
            while weights.any():
                at = draw(weights, uniform())
                token = at if ids is None else int(ids[at])
                if not self._allows or self._allows(token):
                    return token
                weights[at] = 0
            # None of them is allowed: the others have their turn.
            scores = scores.copy()
            scores[slice(None) if ids is None else ids] = -math.inf
            _possible(scores, int(scores.argmax()))


class Seen:
    """The distinct tokens of prompt and answer, and how often the answer has each."""

    def __init__(self, prompt: Sequence[int], capacity: int) -> None:
        first = np.unique(np.asarray(prompt, np.int64))
        self._ids = np.zeros(first.size + capacity, np.int64)
        self._ids[: first.size] = first
        self._counts = np.zeros(self._ids.size, np.float32)
        self._places = {token: place for place, token in enumerate(first.tolist())}

    @property
    def ids(self) -> IntArray:
        """The tokens."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> FloatArray:
        """How often the answer has each."""
        return self._counts[: len(self._places)]

    def add(self, token: int) -> None:
        """Count a token of the answer."""
        place = self._places.setdefault(token, len(self._places))
        self._ids[place] = token
        self._counts[place] += 1


def _possible(scores: FloatArray, token: int) -> int:
    if not math.isfinite(scores[token]):
        raise ArithmeticError("no token of the vocabulary is allowed here")
    return token


def candidates(scores: FloatArray, sampling: Sampling) -> tuple[IntArray | None, FloatArray]:
    """The ids that may be drawn, ascending (None for all), and their weights, which do not sum to 1.

    In the order of their ids and not of their weights: so a last digit that differs between batches of other sizes
    moves a border a little and cannot make two tokens change places.
    """
    peak = scores.max()
    if not math.isfinite(peak):
        raise ArithmeticError(NO_NUMBERS)
    ids: IntArray | None = None
    if 0 < sampling.top_k < scores.size:
        ids = _largest(scores, sampling.top_k)
        scores = scores[ids]
    # The peak goes first: nothing can overflow, however low the temperature.
    weights = np.exp((scores - peak) * np.float32(1 / sampling.temperature))
    if sampling.top_p < 1:
        ids, weights = _taken(ids, weights, _nucleus(weights, sampling.top_p))
    if sampling.min_p > 0:
        ids, weights = _taken(ids, weights, np.flatnonzero(weights >= np.float32(sampling.min_p)))  # the peak weighs 1
    return ids, weights


def draw(weights: FloatArray, uniform: float) -> int:
    """An index, by chance in proportion to the weights. `uniform` is from 0 to 1, 1 excluded."""
    blocks = np.add.reduceat(weights, np.arange(0, weights.size, BLOCK), dtype=np.float64)
    block, left = _find(blocks, uniform * blocks.sum())
    start = block * BLOCK
    return start + _find(weights[start : start + BLOCK], left)[0]


def _find(weights: FloatArray, target: float) -> tuple[int, float]:
    """Where the running sum passes the target, and what of it is left there."""
    sums = np.cumsum(weights, dtype=np.float64)
    at = int(np.searchsorted(sums, target, side="right"))
    if at == sums.size:  # by rounding
        at = int(np.flatnonzero(weights)[-1])
    return at, target - (float(sums[at - 1]) if at else 0.0)


def _nucleus(weights: FloatArray, top_p: float) -> IntArray:
    """The likeliest tokens up to the one that brings their sum to `top_p` of all, ascending; at least one."""
    enough, few = top_p * float(weights.sum(dtype=np.float64)), FEW
    while True:
        largest = np.sort(weights[_largest(weights, few)])[::-1]
        sums = largest.astype(np.float64).cumsum()
        if sums[-1] >= enough or largest.size == weights.size:
            count = min(int(np.searchsorted(sums, enough)) + 1, largest.size)
            return _exactly(weights, count, largest[count - 1])
        few *= 16


def _exactly(weights: FloatArray, count: int, least: np.float32) -> IntArray:
    """Where the `count` largest weights are, ascending; of equals of the least, the first."""
    found = np.flatnonzero(weights >= least)
    equal = np.flatnonzero(weights[found] == least)
    return np.delete(found, equal[equal.size - (found.size - count) :])


def _largest(values: FloatArray, count: int) -> IntArray:
    """Where the `count` largest values are, ascending; equals of the least of them too."""
    if count >= values.size:
        return np.arange(values.size)
    least = np.partition(values, values.size - count)[values.size - count]
    return np.flatnonzero(values >= least)


def _taken(ids: IntArray | None, weights: FloatArray, kept: IntArray) -> tuple[IntArray, FloatArray]:
    return kept if ids is None else ids[kept], weights[kept]


def _with_logprobs(logits: FloatArray, token: int, count: int) -> Picked:
    peak = logits.max()
    total = float(peak) + math.log(float(np.exp(logits - peak).sum(dtype=np.float64)))
    best = _largest(logits, count) if count else np.empty(0, np.int64)
    best = best[np.argsort(-logits[best], kind="stable")][:count]
    top = tuple((int(i), _finite(float(logits[i]) - total)) for i in best)
    return Picked(token, _finite(float(logits[token]) - total), top)


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST)


def _chance(sampling: Sampling) -> Callable[[], float]:
    """Numbers from 0 to 1, the same for the same seed and choice. Python's own: images leave numpy's out."""
    start = None if sampling.seed is None else f"{sampling.seed} {sampling.choice}"
    return random.Random(start).random  # noqa: S311 - it draws words, no secrets
