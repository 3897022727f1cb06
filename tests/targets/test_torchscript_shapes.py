"""A module that is another model at some shape is found out, whatever it does there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside.compare import PIXELS
from images.inside.contract import Batch, Outputs
from images.inside.records import Manifest
from targets.torchscript import shapes
from targets.torchscript.shapes import Shape, Texts
from tests.inside import seeing, tiny

LIMIT = 100
MANIFEST = tiny.manifest(max_length=LIMIT)


class Network:
    """Each token's output is its id, spoiled at some shapes."""

    def __init__(self, spoil: Callable[[Any, Any], Any] = lambda values, _: values) -> None:
        self._spoil = spoil

    def predict(self, batch: Batch) -> Outputs:
        ids = batch["input_ids"]
        return {"last_hidden_state": self._spoil(ids[..., None].astype(np.float32), batch["attention_mask"])}

    def describe(self) -> dict[str, str]:
        return {}


def texts(folder: Path, manifest: Manifest = MANIFEST) -> Texts:
    return Texts(tiny.load(folder, tiny.wordpiece(), manifest), manifest)


def wrong(folder: Path, spoil: Callable[[Any, Any], Any]) -> set[Shape]:
    found = shapes.measure(Network(), Network(spoil), texts(folder), MANIFEST)
    return {entry.shape for entry in found if entry.difference}


def test_the_grid_has_one_row_to_four_and_lengths_up_to_the_limit(tmp_path: Path) -> None:
    grid = texts(tmp_path).grid()
    assert {shape.rows for shape in grid} == {1, 2, 3, 4}
    assert {shape.tokens for shape in grid} == {5, 17, 33, 50, LIMIT}
    assert {shape.padded for shape in grid} == {True, False}


def test_the_example_is_not_in_the_grid(tmp_path: Path) -> None:
    assert shapes.EXAMPLE_TOKENS not in {shape.tokens for shape in texts(tmp_path).grid()}


def test_no_row_is_padded_for_a_model_that_does_not_bear_it(tmp_path: Path) -> None:
    assert not [
        shape for shape in texts(tmp_path, tiny.manifest(max_length=LIMIT, padding=False)).grid() if shape.padded
    ]


def test_nothing_is_tried_beyond_the_limit(tmp_path: Path) -> None:
    assert max(shape.tokens for shape in texts(tmp_path, tiny.manifest(max_length=20)).grid()) == 20


@pytest.mark.parametrize("shape", [Shape(1, 5), Shape(4, 33), Shape(2, LIMIT)], ids=str)
def test_rows_have_exactly_the_tokens_asked_for(shape: Shape, tmp_path: Path) -> None:
    assert [len(item.ids) for item in texts(tmp_path).rows(shape)] == [shape.tokens] * shape.rows


def test_padded_rows_are_shorter_one_after_the_other(tmp_path: Path) -> None:
    assert [len(item.ids) for item in texts(tmp_path).rows(Shape(3, 40, padded=True))] == [40, 30, 20]


def test_each_row_is_another_text(tmp_path: Path) -> None:
    assert len({item.ids for item in texts(tmp_path).rows(Shape(4, 33))}) == 4


def test_the_same_model_is_the_same_at_every_shape(tmp_path: Path) -> None:
    assert wrong(tmp_path, lambda values, _: values) == set()


def test_a_module_that_is_wrong_beyond_a_length_is_found(tmp_path: Path) -> None:
    found = wrong(tmp_path, lambda values, _: values + 1 if values.shape[1] > 40 else values)
    assert {shape.tokens for shape in found} == {50, LIMIT}


def test_a_module_that_fails_at_a_number_of_rows_is_found(tmp_path: Path) -> None:
    def two_only(values: Any, _: Any) -> Any:
        if len(values) != 2:
            raise RuntimeError("The size of tensor a (3) must match the size of tensor b (2)")
        return values

    assert {shape.rows for shape in wrong(tmp_path, two_only)} == {1, 3, 4}


def test_a_module_that_forgets_rows_or_tokens_is_found(tmp_path: Path) -> None:
    assert {shape.rows for shape in wrong(tmp_path, lambda values, _: values[:1])} == {2, 3, 4}
    assert {shape.tokens for shape in wrong(tmp_path, lambda values, _: values[:, :16])} == {17, 33, 50, LIMIT}


def test_a_module_that_ignores_the_mask_is_found_where_there_is_padding(tmp_path: Path) -> None:
    found = wrong(tmp_path, lambda values, mask: values + (mask == 0).any())
    assert found
    assert all(shape.padded for shape in found)


def test_what_is_no_number_is_infinitely_wrong(tmp_path: Path) -> None:
    found = shapes.measure(Network(), Network(lambda values, _: values * np.nan), texts(tmp_path), MANIFEST)
    assert {entry.difference for entry in found} == {np.inf}


def test_pictures_vary_in_number_only() -> None:
    facts = seeing.manifest().image
    assert facts
    pictures = shapes.Pictures(facts)
    batch = pictures.batch(pictures.rows(Shape(3)))[PIXELS]
    assert batch.shape == (3, 3, facts.height, facts.width)
    assert [shape.rows for shape in pictures.grid()] == [1, 2, 3, 4]
    assert not np.array_equal(batch[0], batch[1])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(1, 5), "1 row of 5 tokens"),
        (Shape(2, 17, padded=True), "2 rows of 17 tokens, padded"),
        (Shape(3), "3 rows"),
    ],
)
def test_a_shape_is_told_in_words(shape: Shape, words: str) -> None:
    assert str(shape) == words
