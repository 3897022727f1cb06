"""Outputs for the tests of comparing, and the two questions that they ask: how far apart, and past which bounds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from images.inside import compare, tasks
from images.inside.compare import Figures
from images.inside.contract import FloatArray, Outputs
from images.inside.records import Bounds, Case

VECTORS = tasks.load("feature-extraction")
SEEDS = range(8)


def normal(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def case(answer: Any = None) -> Case:
    return Case(name="a", payload={"inputs": "a"}, answer=answer)


def measure(original: Sequence[Outputs], ours: Sequence[Outputs]) -> Figures:
    return compare.figures(VECTORS, case(), original, ours, None)


def logits(*arrays: FloatArray) -> list[Outputs]:
    return [{"logits": array} for array in arrays]


def embeddings(*arrays: FloatArray) -> list[Outputs]:
    return [{"sentence_embedding": array} for array in arrays]


def missed(figures: Figures, bounds: Bounds) -> list[str]:
    return [miss.figure for miss in compare.misses([figures], bounds)]
