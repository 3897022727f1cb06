"""Whether a module is the original at every shape: measured on a grid of batches and lengths, never assumed."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from images.inside import collate, modality, suite
from images.inside.compare import PIXELS
from images.inside.contract import Batch, FloatArray, Item, Outputs, Pixels, Runner
from images.inside.records import ImageFacts, Manifest
from images.inside.text import Tokenizer

ROWS = (1, 2, 3, 4)
SHORT = (5, 17, 33)
"""Tokens of the longest row, tried with every number of rows; half the limit and the limit are tried with two."""
LEAST = 3
"""Tokens of a row that padding leaves."""
STEP = 40
"""Characters after which the next row's text begins."""
EXAMPLE_TOKENS = 16
"""Of what a module is made from, two rows and one of them padded: none of the grid's shapes."""


class Shape(NamedTuple):
    """A batch: rows, tokens of the longest, and whether each is a quarter shorter than the one before.

    Pictures have no tokens.
    """

    rows: int
    tokens: int = 0
    padded: bool = False

    def __str__(self) -> str:
        tokens = f" of {self.tokens} tokens" if self.tokens else ""
        return f"{self.rows} row{'s' * (self.rows > 1)}{tokens}{', padded' if self.padded else ''}"


class Found(NamedTuple):
    """What was measured at one shape: the largest absolute difference; infinite where the module failed."""

    shape: Shape
    difference: float


class Inputs(Protocol):
    """Inputs to try a module with."""

    def rows(self, shape: Shape) -> Sequence[Any]:
        """The items of a batch of that shape, another one in each row."""
        ...

    def batch(self, rows: Sequence[Any]) -> Batch:
        """Items as one batch."""
        ...

    def grid(self) -> list[Shape]:
        """The shapes to try."""
        ...


class Texts:
    """Real texts of any length in tokens, up to the model's limit; padded where the original bears padding."""

    def __init__(self, tokenizer: Tokenizer, manifest: Manifest) -> None:
        self._tokenizer, self._manifest = tokenizer, manifest

    def rows(self, shape: Shape) -> list[Item]:
        """Texts of that shape."""
        shorter = shape.tokens // 4 if shape.padded else 0
        return [self._item(row, max(LEAST, shape.tokens - row * shorter)) for row in range(shape.rows)]

    def batch(self, rows: Sequence[Item]) -> Batch:
        """Texts padded to the longest."""
        return collate.batch(rows, self._manifest)

    def grid(self) -> list[Shape]:
        """Short ones in every number of rows, half the limit and the limit in one row and two."""
        limit = self._manifest.max_length
        short = [Shape(rows, tokens) for tokens in SHORT for rows in ROWS if tokens < limit]
        shapes = [*short, *(Shape(rows, tokens) for tokens in (limit // 2, limit) for rows in (1, 2))]
        padded = [shape._replace(padded=True) for shape in shapes if self._manifest.padding and shape.rows > 1]
        return [*shapes, *padded]

    def _item(self, row: int, tokens: int) -> Item:
        text = f"{suite.LONG[STEP * row :]} {suite.LONG}"
        self._tokenizer.max_length = tokens
        return self._tokenizer.encode(" ".join([text] * (1 + tokens // len(text.split()))), truncate=True).item


class Pictures:
    """Noise of the model's size."""

    def __init__(self, facts: ImageFacts) -> None:
        self._size, self._chance = (3, facts.height, facts.width), np.random.default_rng(0)

    def rows(self, shape: Shape) -> list[Pixels]:
        """Pictures, a new one in each row."""
        return [Pixels(self._chance.standard_normal(self._size, np.float32)) for _ in range(shape.rows)]

    def batch(self, rows: Sequence[Pixels]) -> Batch:
        """Their stack."""
        return {PIXELS: np.stack([item.values for item in rows])}

    def grid(self) -> list[Shape]:
        """Every number of rows: the rest of the shape is the model's."""
        return [Shape(rows) for rows in ROWS]


def measure(original: Runner, made: Runner, inputs: Inputs, manifest: Manifest) -> list[Found]:
    """At each shape, how far a module's rows are from the original's, which has each row alone and unpadded."""
    return [Found(shape, _difference(original, made, inputs.rows(shape), manifest)) for shape in inputs.grid()]


def _difference(original: Runner, made: Runner, rows: Sequence[Any], manifest: Manifest) -> float:
    predict = modality.of(manifest).predict
    alone = [predict(original, [row], manifest)[0] for row in rows]
    try:
        ours = predict(made, rows, manifest)
    except (RuntimeError, ValueError, IndexError):  # at another shape a module may fail, or give too few rows
        return float("inf")
    return max(_worst(one, other) for one, other in zip(alone, ours, strict=True))


def _worst(original: Outputs, ours: Outputs) -> float:
    return max(_apart(array, ours[name]) for name, array in original.items())


def _apart(original: FloatArray, ours: FloatArray) -> float:
    if original.shape != ours.shape:
        return float("inf")
    return float(np.nan_to_num(np.abs(original - ours), nan=np.inf).max(initial=0))
