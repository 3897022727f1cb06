"""Figures against bounds: what passes, what is missed, in which words, and what is the worst."""

import msgspec
import numpy as np
import pytest

from images.inside import compare
from images.inside.compare import Figures, Miss
from images.inside.records import Bounds
from tests.inside.comparing import SEEDS, missed

ALL = Bounds(max_abs_diff=1e30, cosine=-1.0, agreement=0.0)


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


def test_a_miss_survives_its_json() -> None:
    miss = Miss(case="a", figure="cosine", value=0.5, bound=0.9)
    assert msgspec.json.decode(msgspec.json.encode(miss), type=Miss) == miss
