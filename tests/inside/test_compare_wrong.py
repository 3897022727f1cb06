"""What is no number, of another shape or not there is a miss, whatever the bound."""

import numpy as np
import pytest

from images.inside.records import Bounds
from tests.inside.comparing import SEEDS, embeddings, logits, measure, missed, normal

BROKEN = pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
ANY = Bounds(max_abs_diff=1e30)


@BROKEN
@pytest.mark.parametrize("seed", SEEDS)
def test_a_number_that_is_none_is_infinitely_wrong_wherever_it_stands(broken: float, seed: int) -> None:
    original = normal(seed, 5, 7)
    ours = original.copy()
    ours.flat[np.random.default_rng(seed).integers(ours.size)] = broken
    assert missed(measure(logits(original), logits(ours)), ANY) == ["max_abs_diff"]


@BROKEN
@pytest.mark.parametrize("place", [0, 1, 2])
def test_items_that_are_right_do_not_hide_it(broken: float, place: int) -> None:
    arrays = [normal(item, 3) for item in range(3)]
    ours = [array + np.float32(0.5) for array in arrays]
    ours[place][1] = broken
    assert measure(logits(*arrays), logits(*ours)).max_abs_diff == np.inf


@BROKEN
def test_it_is_wrong_even_where_the_original_has_the_same(broken: float) -> None:
    array = np.array([1, broken], np.float32)
    assert missed(measure(logits(array), logits(array.copy())), ANY) == ["max_abs_diff"]


@BROKEN
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_vector_with_such_a_number_is_the_opposite(broken: float) -> None:
    figures = measure(embeddings(normal(0, 4)), embeddings(np.array([1, 2, 3, broken], np.float32)))
    assert figures.cosine == -1.0


@pytest.mark.parametrize("shape", [(5,), (7, 5), (1, 5, 7), (5, 6), (5, 8), (35,), (5, 1), (0,)])
def test_another_shape_is_a_miss(shape: tuple[int, ...]) -> None:
    assert missed(measure(logits(normal(0, 5, 7)), logits(normal(0, *shape))), ANY) == ["max_abs_diff"]


@pytest.mark.parametrize("size", [0, 1, 3, 5])
def test_a_vector_of_another_length_is_a_miss(size: int) -> None:
    figures = measure(embeddings(normal(0, 4)), embeddings(normal(0, size)))
    assert missed(figures, Bounds(cosine=-0.99)) == ["cosine"]


def test_an_output_that_is_not_there_is_a_miss() -> None:
    original = {"start_logits": normal(0, 4), "end_logits": normal(1, 4)}
    ours = {"start_logits": original["start_logits"]}
    assert missed(measure([original], [ours]), ANY) == ["max_abs_diff"]


def test_an_embedding_that_is_not_there_is_a_miss_by_every_figure() -> None:
    assert missed(measure(embeddings(normal(0, 4)), [{}]), Bounds(max_abs_diff=1e30, cosine=-0.99)) == [
        "max_abs_diff",
        "cosine",
    ]


def test_an_output_beyond_the_originals_is_nobodys_business() -> None:
    original = {"logits": normal(0, 4)}
    assert measure([original], [original | {"hidden": normal(1, 4)}]).max_abs_diff == 0.0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_missing_or_surplus_item_is_a_difference(count: int) -> None:
    arrays = [normal(item, 4) for item in range(3)]
    assert missed(measure(logits(*arrays[:2]), logits(*arrays[:count])), ANY) == ["max_abs_diff"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_missing_or_surplus_embedding_is_a_miss_by_cosine_too(count: int) -> None:
    vectors = [normal(item, 4) for item in range(3)]
    figures = measure(embeddings(*vectors[:2]), embeddings(*vectors[:count]))
    assert missed(figures, Bounds(cosine=-0.99)) == ["cosine"]
