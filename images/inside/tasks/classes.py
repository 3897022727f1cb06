"""What the tasks share that give labels with scores: logits to rankings, and the comparison of rankings."""

from typing import Any, Literal

import numpy as np

from images.inside.contract import FloatArray
from images.inside.tasks.common import Ranking, largest_difference, rankings, same_best, share, softmax

SCORE_TOLERANCE = 0.05
"""How far a single-label model's score may be from the original's; relative beyond 1."""
Function = Literal["sigmoid", "softmax", "none"]


def ranking(logits: FloatArray, function: Function, labels: list[str]) -> Ranking:
    """All labels with their scores, best first."""
    pairs = zip(labels, _scores(logits, function).tolist(), strict=True)
    return [{"label": label, "score": score} for label, score in sorted(pairs, key=lambda pair: -pair[1])]


def agreement(ours: Any, original: Any) -> float:
    """Share of inputs whose best label is the same, by its name; of a single-label model, whose score is."""
    return share([same_best(*pair, "label") and _same_score(*pair) for pair in rankings(ours, original)])


def score_difference(ours: Any, original: Any) -> float:
    """The largest difference of a label's scores where the best labels agree."""
    agreeing = [pair for pair in rankings(ours, original) if same_best(*pair, "label")]
    return largest_difference(pair for both in agreeing for pair in _score_pairs(*both))


def _scores(logits: FloatArray, function: Function) -> FloatArray:
    if function == "softmax":
        return softmax(logits)
    return _sigmoid(logits) if function == "sigmoid" else logits


def _sigmoid(logits: FloatArray) -> FloatArray:
    # By halves of the axis, so that no exponent overflows.
    small = np.exp(-np.abs(logits))
    shares: FloatArray = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return shares


def _same_score(ours: Ranking, original: Ranking) -> bool:
    """A model with a single label (a regression, a reranker) always names it: what it says is the score."""
    one, other = ours[0]["score"], original[0]["score"]
    return len(original) > 1 or abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(other))


def _score_pairs(ours: Ranking, original: Ranking) -> list[tuple[float, float]]:
    scores = {entry["label"]: entry["score"] for entry in original}
    return [(entry["score"], scores[entry["label"]]) for entry in ours if entry["label"] in scores]
