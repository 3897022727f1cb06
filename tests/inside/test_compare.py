from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from images.inside import compare, tasks
from images.inside.compare import Figures, Miss, Reference
from images.inside.contract import FloatArray, Outputs
from images.inside.errors import ArtifactError
from images.inside.records import Bounds, Case

CLASSES = tasks.load("text-classification")
VECTORS = tasks.load("feature-extraction")
SEEDS = range(8)
BROKEN = pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
ALL = Bounds(max_abs_diff=1e30, cosine=-1.0, agreement=0.0)


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


def ranking(*labels: str) -> list[list[dict[str, Any]]]:
    return [[{"label": label, "score": 1 / (place + 1)} for place, label in enumerate(labels)]]


def missed(figures: Figures, bounds: Bounds) -> list[str]:
    return [miss.figure for miss in compare.misses([figures], bounds)]


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


# The share of equal answers


@pytest.mark.parametrize(("ours", "agreement"), [(("a", "b"), 1.0), (("b", "a"), 0.0)])
def test_the_task_says_whether_answers_agree(ours: tuple[str, ...], agreement: float) -> None:
    figures = compare.figures(CLASSES, case(ranking("a", "b")), [], [], ranking(*ours))
    assert figures.agreement == agreement


def test_an_answer_that_the_original_does_not_have_is_not_compared() -> None:
    assert compare.figures(CLASSES, case(None), [], [], ranking("a")).agreement is None


def test_the_figures_carry_the_name_of_their_case() -> None:
    assert measure([], []).case == "a"


# What is no number, or not there, is a miss

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


# Bounds


@pytest.mark.parametrize(
    ("figures", "bounds"),
    [
        (Figures(case="a", max_abs_diff=0.1), Bounds(max_abs_diff=0.1)),
        (Figures(case="a", cosine=0.9), Bounds(cosine=0.9)),
        (Figures(case="a", agreement=1.0), Bounds(agreement=1.0)),
        (Figures(case="a", max_abs_diff=9.0, cosine=1.0), Bounds(cosine=0.9)),
    ],
)
def test_a_figure_at_its_bound_passes(figures: Figures, bounds: Bounds) -> None:
    assert missed(figures, bounds) == []


@pytest.mark.parametrize(
    ("figures", "bounds", "message"),
    [
        (
            Figures(case="a", max_abs_diff=0.125),
            Bounds(max_abs_diff=1e-4),
            "input 'a': max_abs_diff 0.125 is above the bound 0.0001",
        ),
        (Figures(case="a", cosine=0.5), Bounds(cosine=0.985), "input 'a': cosine 0.5 is below the bound 0.985"),
        (Figures(case="a", agreement=0.0), Bounds(agreement=1.0), "input 'a': agreement 0 is below the bound 1"),
        (Figures(case="a", kl=0.5), Bounds(kl=0.25), "input 'a': kl 0.5 is above the bound 0.25"),
        (Figures(case="a", perplexity=2), Bounds(perplexity=1.5), "input 'a': perplexity 2 is above the bound 1.5"),
        (Figures(case="a", greedy=0.5), Bounds(greedy=1.0), "input 'a': greedy 0.5 is below the bound 1"),
        (
            Figures(case="a", max_abs_diff=float("inf")),
            Bounds(max_abs_diff=1e-4),
            "input 'a': max_abs_diff inf is above the bound 0.0001",
        ),
    ],
)
def test_a_miss_names_input_figure_value_and_bound(figures: Figures, bounds: Bounds, message: str) -> None:
    assert [str(miss) for miss in compare.misses([figures], bounds)] == [message]


def test_every_miss_of_every_case_is_found() -> None:
    measured = [Figures(case=name, max_abs_diff=1.0, agreement=0.0) for name in "ab"]
    found = compare.misses(measured, Bounds(max_abs_diff=0.1, agreement=1.0))
    assert [(miss.case, miss.figure) for miss in found] == [
        *(("a", "max_abs_diff"), ("a", "agreement")),
        *(("b", "max_abs_diff"), ("b", "agreement")),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tighter_bound_never_misses_less(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(size=20)
    measured = [Figures(case=str(place), max_abs_diff=float(value)) for place, value in enumerate(values)]
    loose, tight = (len(compare.misses(measured, Bounds(max_abs_diff=bound))) for bound in (0.6, 0.3))
    assert tight >= loose
    assert tight == (values > 0.3).sum()


def test_not_a_number_keeps_no_bound() -> None:
    measured = Figures(case="a", max_abs_diff=float("nan"), cosine=float("nan"), agreement=float("nan"))
    assert missed(measured, ALL) == ["max_abs_diff", "cosine", "agreement"]


@pytest.mark.parametrize(
    ("measured", "bounds"),
    [
        ([], ALL),
        ([Figures(case="a")], ALL),
        ([Figures(case="a", max_abs_diff=0.0)], Bounds()),
        ([Figures(case="a", max_abs_diff=0.0)], Bounds(cosine=0.9, agreement=1.0)),
    ],
)
def test_bounds_that_hold_nothing_prove_nothing(measured: list[Figures], bounds: Bounds) -> None:
    with pytest.raises(ValueError, match="no bound of this mode holds any figure of this task"):
        compare.misses(measured, bounds)


# The worst


def test_the_worst_case_of_each_figure_is_found() -> None:
    measured = [
        Figures(case="a", max_abs_diff=1e-6, cosine=0.99, agreement=1.0),
        Figures(case="b", max_abs_diff=1e-3, cosine=0.95),
        Figures(case="c", cosine=0.97, agreement=0.5),
    ]
    assert {name: entry.case for name, entry in compare.worst(measured).items()} == {
        "max_abs_diff": "b",
        "cosine": "b",
        "agreement": "c",
    }


def test_a_figure_that_no_case_has_has_no_worst() -> None:
    assert compare.worst([Figures(case="a", cosine=1.0)]).keys() == {"cosine"}


def test_of_nothing_nothing_is_the_worst() -> None:
    assert compare.worst([]) == {}


def test_infinitely_wrong_is_the_worst() -> None:
    measured = [Figures(case=name, max_abs_diff=value) for name, value in (("a", 1.0), ("b", float("inf")))]
    assert compare.worst(measured)["max_abs_diff"].case == "b"


# On disk


def reference(**outputs: list[Outputs]) -> Reference:
    cases = tuple(Case(name=name, payload={"inputs": name}, answer=[1, {"a": "é"}]) for name in outputs)
    return Reference(cases=cases, outputs={name: [dict(item) for item in items] for name, items in outputs.items()})


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = reference(short=logits(normal(0, 3)), batch=logits(*(normal(item, item + 1, 2) for item in range(12))))
    compare.save(tmp_path / "new", written)
    read = compare.load(tmp_path / "new")
    assert read.cases == written.cases
    assert all(
        np.array_equal(one["logits"], other["logits"])
        for name in written.outputs
        for one, other in zip(written.outputs[name], read.outputs[name], strict=True)
    )


def test_a_case_without_outputs_is_kept(tmp_path: Path) -> None:
    compare.save(tmp_path, reference(none=[]))
    assert compare.load(tmp_path).outputs == {"none": []}


def test_a_case_is_not_taken_for_one_whose_name_it_begins(tmp_path: Path) -> None:
    compare.save(tmp_path, reference(a=logits(normal(0, 1)), ab=logits(normal(0, 2), normal(0, 2))))
    assert {name: len(items) for name, items in compare.load(tmp_path).outputs.items()} == {"a": 1, "ab": 2}


@pytest.mark.parametrize("name", [compare.CASES, compare.OUTPUTS])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"[1, 2]", b"\xff"])
def test_a_damaged_reference_is_a_damaged_artifact(name: str, content: bytes | None, tmp_path: Path) -> None:
    compare.save(tmp_path, reference(a=logits(normal(0, 1))))
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"^reference: "):
        compare.load(tmp_path)


def test_a_reference_runs_no_code_when_it_is_read(tmp_path: Path) -> None:
    compare.save(tmp_path, reference(a=logits(normal(0, 1))))
    stored: dict[str, Any] = {"a/0/logits": np.array([{"an": "object"}], dtype=object)}
    np.savez(tmp_path / compare.OUTPUTS, **stored)
    with pytest.raises(ArtifactError, match=r"allow_pickle=False"):
        compare.load(tmp_path)


def test_a_miss_survives_its_json() -> None:
    miss = Miss(case="a", figure="cosine", value=0.5, bound=0.9)
    assert msgspec.json.decode(msgspec.json.encode(miss), type=Miss) == miss


# Token vectors


def test_of_a_model_without_pooling_the_worst_token_is_its_cosine() -> None:
    tokens, turned = np.eye(2, 3, dtype=np.float32), np.eye(2, 3, dtype=np.float32)
    turned[1] = -turned[1]
    assert measure([{"last_hidden_state": tokens}], [{"last_hidden_state": turned}]).cosine == -1.0


def test_of_a_model_without_pooling_a_missing_token_is_the_opposite() -> None:
    tokens = np.eye(3, dtype=np.float32)
    assert measure([{"last_hidden_state": tokens}], [{"last_hidden_state": tokens[:2]}]).cosine == -1.0
