"""The gate: an artifact's results against the original's, and the figures against the bounds. Pure.

A figure that is not a number counts as infinitely wrong. Bounds that say nothing about a task are an error, never a
pass.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from images.inside.contract import FloatArray, Outputs, Task
from images.inside.errors import ArtifactError
from images.inside.records import Bounds, Case, Struct

CASES = "cases.json"
OUTPUTS = "outputs.npz"
VECTORS = ("sentence_embedding", "last_hidden_state")
"""Outputs that are embeddings, whose direction is what counts."""
PIXELS = "pixel_values"
"""Array beside an item's outputs: some values of what the model was given, where that was a picture."""
ROWS = "rows"
"""Array beside an item's outputs: the token positions that were kept of them, where not all were."""
UPPER = frozenset({"max_abs_diff", "kl", "perplexity", "pixels"})
"""Figures that a bound holds from above; the others are held from below."""


class Reference(msgspec.Struct, frozen=True):
    """The original's results.

    Attributes:
        cases: the suite's inputs with the original's answers.
        outputs: by case, one mapping an item of its raw outputs, float32 without padding.

    """

    cases: tuple[Case, ...]
    outputs: Mapping[str, list[dict[str, Any]]]


class Figures(Struct, kw_only=True):
    """How far one case is from the original; a figure that the task does not have is None.

    Attributes:
        case: the input's name.
        max_abs_diff: largest absolute difference of the raw outputs, on real tokens.
        cosine: smallest cosine similarity of the embeddings.
        agreement: share of equal best answers.
        kl: mean Kullback-Leibler divergence of next tokens, in nats.
        perplexity: of the original's answer, as a multiple of its own.
        greedy: share of the answer without chance that is the original's, from its beginning.
        pixels: largest absolute difference of the preprocessed pictures.

    """

    case: str
    max_abs_diff: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    kl: float | None = None
    perplexity: float | None = None
    greedy: float | None = None
    pixels: float | None = None


class Miss(Struct, kw_only=True):
    """A figure past its bound."""

    case: str
    figure: str
    value: float
    bound: float

    def __str__(self) -> str:
        relation = "above" if self.figure in UPPER else "below"
        return f"input {self.case!r}: {self.figure} {self.value:.6g} is {relation} the bound {self.bound:g}"


def load(folder: Path) -> Reference:
    """Read a reference folder. Raises `ArtifactError` when it is damaged."""
    try:
        cases = msgspec.json.decode((folder / CASES).read_bytes(), type=tuple[Case, ...])
        # Opened here: of a file that is no archive, numpy would leave it open.
        with (folder / OUTPUTS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            outputs = {case.name: _items(case.name, arrays) for case in cases}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise ArtifactError(f"reference: {error}") from error
    return Reference(cases=cases, outputs=outputs)


def save(folder: Path, reference: Reference) -> None:
    """Write a reference folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CASES).write_bytes(msgspec.json.format(msgspec.json.encode(reference.cases), indent=2))
    arrays = {
        f"{name}/{index}/{key}": array
        for name, items in reference.outputs.items()
        for index, item in enumerate(items)
        for key, array in item.items()
    }
    np.savez_compressed(folder / OUTPUTS, **arrays)


def figures(task: Task, case: Case, original: Sequence[Outputs], ours: Sequence[Outputs], answer: Any) -> Figures:
    """Measure one case.

    Args:
        task: the task, which knows when two answers agree.
        case: the input with the original's answer.
        original: the original's outputs, one mapping an item.
        ours: the artifact's, likewise.
        answer: ours to the same payload.

    """
    pairs = _pairs(original, ours)
    return Figures(
        case=case.name,
        max_abs_diff=max((_difference(one, other) for one, other in pairs), default=None),
        cosine=min((_cosine(one, other) for one, other in _vectors(original, ours)), default=None),
        agreement=None if case.answer is None else task.agreement(answer, case.answer),
        pixels=max((_difference(one, other) for one, other in _pixels(original, ours)), default=None),
    )


def misses(measured: Sequence[Figures], bounds: Bounds) -> list[Miss]:
    """Every figure past its bound. Raises `ValueError` when no bound holds any figure: that would prove nothing."""
    held = [
        Miss(case=entry.case, figure=name, value=value, bound=bound)
        for entry in measured
        for name in Bounds.__struct_fields__
        if (bound := getattr(bounds, name)) is not None and (value := getattr(entry, name)) is not None
    ]
    if not held:
        raise ValueError("no bound of this mode holds any figure of this task")
    return [entry for entry in held if not _within(entry)]


def worst(measured: Sequence[Figures]) -> dict[str, Figures]:
    """The worst case by figure name, for the report."""
    found = {}
    for name in Bounds.__struct_fields__:
        entries = [entry for entry in measured if getattr(entry, name) is not None]
        sign = -1 if name in UPPER else 1
        if entries:
            found[name] = min(entries, key=lambda entry: sign * getattr(entry, name))
    return found


def _within(entry: Miss) -> bool:
    return entry.value <= entry.bound if entry.figure in UPPER else entry.value >= entry.bound


def _pairs(original: Sequence[Outputs], ours: Sequence[Outputs]) -> list[tuple[FloatArray, FloatArray]]:
    if len(original) != len(ours):
        return [(np.zeros(1, np.float32), np.full(1, np.inf, np.float32))]
    return [
        (array, _select(mine.get(name), theirs.get(ROWS)))
        for theirs, mine in zip(original, ours, strict=True)
        for name, array in theirs.items()
        if name not in {ROWS, PIXELS}
    ]


def _pixels(original: Sequence[Outputs], ours: Sequence[Outputs]) -> list[tuple[FloatArray, FloatArray]]:
    """The pictures as the model saw them, in pairs; a missing one is a difference of another number of outputs."""
    return [
        (theirs[PIXELS], _select(mine.get(PIXELS), None))
        for theirs, mine in zip(original, ours, strict=False)
        if PIXELS in theirs
    ]


def _vectors(original: Sequence[Outputs], ours: Sequence[Outputs]) -> list[tuple[FloatArray, FloatArray]]:
    """The embeddings in pairs: one a text, or one a token of a model that states no pooling."""
    if len(original) != len(ours) and any(name in item for item in (*original, *ours) for name in VECTORS):
        return [(np.zeros(1, np.float32), _select(None, None))]
    whole = [
        (theirs[name], _select(mine.get(name), None))
        for theirs, mine in zip(original, ours, strict=False)
        for name in VECTORS
        if name in theirs
    ]
    return [pair for one, other in whole for pair in _rows(one, other)]


def _rows(one: FloatArray, other: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    if one.shape != other.shape:
        return [(one.ravel(), other.ravel())]
    return list(zip(np.atleast_2d(one), np.atleast_2d(other), strict=True))


def _select(array: FloatArray | None, rows: Any) -> FloatArray:
    if array is None:
        return np.full(0, np.nan, np.float32)
    return array if rows is None else array[rows]


def _difference(one: FloatArray, other: FloatArray) -> float:
    if one.shape != other.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):  # infinity less infinity: no number, and so a miss
        largest = float(np.abs(one - other).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _cosine(one: FloatArray, other: FloatArray) -> float:
    if one.shape != other.shape:
        return -1.0
    cosine = float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
    return cosine if np.isfinite(cosine) else -1.0


def _items(case: str, arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = [key.split("/") for key in arrays if key.startswith(f"{case}/")]
    count = 1 + max((int(index) for _, index, _ in keys), default=-1)
    return [
        {name: arrays[f"{case}/{index}/{name}"] for _, found, name in keys if int(found) == index}
        for index in range(count)
    ]
