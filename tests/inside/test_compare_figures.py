"""How far outputs and answers are from the original's: differences, cosines, equal answers."""

from typing import Any

import numpy as np
import pytest

from images.inside import compare, tasks
from images.inside.contract import FloatArray, Outputs
from images.inside.records import Bounds
from tests.inside.comparing import SEEDS, case, embeddings, logits, measure, missed, normal

CLASSES = tasks.load("text-classification")


def ranking(*labels: str) -> list[list[dict[str, Any]]]:
    return [[{"label": label, "score": 1 / (place + 1)} for place, label in enumerate(labels)]]


# Pictures as the model saw them


def seen(pixels: FloatArray) -> list[Outputs]:
    return [{"pixel_values": pixels, "logits": np.zeros(2, np.float32)}]


def test_other_pixels_are_a_figure_of_their_own() -> None:
    figures = measure(seen(np.zeros(9, np.float32)), seen(np.full(9, 0.25, np.float32)))
    assert (figures.pixels, figures.max_abs_diff) == (0.25, 0.0)
    assert missed(figures, Bounds(max_abs_diff=1e-4, pixels=1e-5)) == ["pixels"]


def test_pixels_that_are_missing_are_as_wrong_as_can_be() -> None:
    figures = measure(seen(np.zeros(9, np.float32)), logits(np.zeros(2, np.float32)))
    assert figures.pixels == np.inf


def test_texts_have_no_figure_of_pixels() -> None:
    assert measure(logits(normal(0, 3)), logits(normal(0, 3))).pixels is None


# The largest difference


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_outputs_differ_by_nothing(seed: int) -> None:
    array = normal(seed, 5, 7)
    assert measure(logits(array), logits(array.copy())).max_abs_diff == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_one_changed_number_is_the_difference_wherever_it_stands(seed: int) -> None:
    array = np.zeros((5, 7), np.float32)
    changed = array.copy()
    changed.flat[np.random.default_rng(seed).integers(array.size)] = -0.25
    assert measure(logits(array), logits(changed)).max_abs_diff == 0.25


@pytest.mark.parametrize("seed", SEEDS)
def test_the_difference_is_the_same_both_ways(seed: int) -> None:
    one, other = logits(normal(seed, 5, 7)), logits(normal(seed + 100, 5, 7))
    assert measure(one, other).max_abs_diff == measure(other, one).max_abs_diff


@pytest.mark.parametrize("seed", SEEDS)
def test_the_difference_is_the_largest_of_all_items_and_outputs(seed: int) -> None:
    arrays = [normal(seed + item, 3) for item in range(4)]
    ours = [array + np.float32(item) for item, array in enumerate(arrays)]
    assert measure(logits(*arrays), logits(*ours)).max_abs_diff == pytest.approx(3.0, abs=1e-5)


def test_the_difference_is_not_made_smaller_by_an_output_that_fits() -> None:
    original = {"start_logits": normal(0, 4), "end_logits": normal(1, 4)}
    ours = original | {"end_logits": original["end_logits"] + 1}
    assert measure([original], [ours]).max_abs_diff == pytest.approx(1.0, abs=1e-6)


def test_an_empty_output_differs_by_nothing() -> None:
    assert measure(logits(normal(0, 0)), logits(normal(0, 0))).max_abs_diff == 0.0


def test_a_case_without_outputs_has_no_difference() -> None:
    assert measure([], []).max_abs_diff is None


# The smallest cosine


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_length_of_a_vector_does_not_change_its_cosine(seed: int, scale: float) -> None:
    vector = normal(seed, 32)
    assert measure(embeddings(vector), embeddings(vector * np.float32(scale))).cosine == pytest.approx(1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_opposite_vector_has_the_opposite_cosine(seed: int) -> None:
    vector = normal(seed, 32)
    assert measure(embeddings(vector), embeddings(-vector)).cosine == pytest.approx(-1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_turned_vector_has_the_cosine_of_its_angle(seed: int) -> None:
    angle = np.random.default_rng(seed).uniform(0, np.pi)
    original, ours = np.array([1, 0], np.float32), np.array([np.cos(angle), np.sin(angle)], np.float32)
    assert measure(embeddings(original), embeddings(ours)).cosine == pytest.approx(np.cos(angle), abs=1e-6)


def test_the_cosine_is_the_smallest_of_all_items() -> None:
    one = np.array([1, 0], np.float32)
    other = np.array([0, 1], np.float32)
    assert measure(embeddings(one, one, one), embeddings(one, other, one)).cosine == pytest.approx(0.0)


def test_a_vector_of_nothing_is_like_no_other() -> None:
    assert measure(embeddings(normal(0, 4)), embeddings(np.zeros(4, np.float32))).cosine == 0.0


def test_outputs_that_are_no_embeddings_have_no_cosine() -> None:
    assert measure(logits(normal(0, 4)), logits(normal(0, 4))).cosine is None


# Token vectors


def test_of_a_model_without_pooling_the_worst_token_is_its_cosine() -> None:
    tokens, turned = np.eye(2, 3, dtype=np.float32), np.eye(2, 3, dtype=np.float32)
    turned[1] = -turned[1]
    assert measure([{"last_hidden_state": tokens}], [{"last_hidden_state": turned}]).cosine == -1.0


def test_of_a_model_without_pooling_a_missing_token_is_the_opposite() -> None:
    tokens = np.eye(3, dtype=np.float32)
    assert measure([{"last_hidden_state": tokens}], [{"last_hidden_state": tokens[:2]}]).cosine == -1.0


# The share of equal answers


@pytest.mark.parametrize(("ours", "agreement"), [(("a", "b"), 1.0), (("b", "a"), 0.0)])
def test_the_task_says_whether_answers_agree(ours: tuple[str, ...], agreement: float) -> None:
    figures = compare.figures(CLASSES, case(ranking("a", "b")), [], [], ranking(*ours))
    assert figures.agreement == agreement


def test_an_answer_that_the_original_does_not_have_is_not_compared() -> None:
    assert compare.figures(CLASSES, case(None), [], [], ranking("a")).agreement is None


def test_the_figures_carry_the_name_of_their_case() -> None:
    assert measure([], []).case == "a"


# Rows that were kept


def test_of_an_output_of_which_rows_were_kept_those_rows_are_compared() -> None:
    whole, rows = normal(0, 6, 4), np.array([1, 4])
    original = {compare.ROWS: rows, "logits": whole[rows]}
    assert measure([original], [{"logits": whole}]).max_abs_diff == 0.0


@pytest.mark.parametrize(("row", "difference"), [(4, 1.0), (2, 0.0)])
def test_rows_that_were_not_kept_are_not_compared(row: int, difference: float) -> None:
    whole, rows = normal(0, 6, 4), np.array([1, 4])
    ours = whole.copy()
    ours[row] += 1
    figures = measure([{compare.ROWS: rows, "logits": whole[rows]}], [{"logits": ours}])
    assert figures.max_abs_diff == pytest.approx(difference, abs=1e-6)


def test_every_item_has_its_own_rows() -> None:
    arrays = [normal(0, 6, 4), normal(1, 3, 4)]
    rows = [np.array([5]), np.array([0, 2])]
    original = [{compare.ROWS: kept, "logits": array[kept]} for array, kept in zip(arrays, rows, strict=True)]
    assert measure(original, logits(*arrays)).max_abs_diff == 0.0
