"""Which matrix products get scales fixed beforehand: those that rounding to 256 steps puts the least noise into."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.tflite import static
from targets.tflite.static import Product


def product(weights: int, scope: str) -> Product:
    return Product(weights, scope, (0, "in"), (1, "out"))


def ratio(values: list[float], low: float, high: float) -> float:
    return static.decibels(*static.power(np.array(values, np.float32), low, high))


def test_numbers_on_the_steps_have_no_noise() -> None:
    assert static.power(np.array([0, 1, 255], np.float32), 0, 255) == (65026, 0)


def test_an_outlier_leaves_the_others_few_steps() -> None:
    values = [0.5, -0.5, 1.0, 0.3]
    assert ratio(values, -1, 1) > ratio(values, -1, 160) + 30


def test_numbers_beyond_the_range_are_noise() -> None:
    assert ratio([10.0], -1, 1) == pytest.approx(20 * np.log10(10 / 9), abs=0.1)


@pytest.mark.parametrize(("low", "high"), [(2.0, 4.0), (-4.0, -2.0)])
def test_zero_is_a_step_of_every_range(low: float, high: float) -> None:
    assert static.power(np.zeros(3, np.float32), low, high) == (0, 0)


def test_a_tensor_that_is_always_zero_is_no_division_by_it() -> None:
    assert np.isfinite(ratio([0.0, 0.0], 0, 0))


def test_the_cleanest_product_comes_first() -> None:
    products = {"tokens_8": [product(1, "a"), product(2, "b"), product(3, "c")]}
    assert static.cleanest(products, {"a": 10, "b": 30, "c": 20}) == [["b"], ["c"], ["a"]]


def test_the_worst_length_of_a_product_counts() -> None:
    products = {"tokens_8": [product(1, "a"), product(2, "b")], "tokens_16": [product(1, "a1"), product(2, "b1")]}
    ratios = {"a": 40, "a1": 10, "b": 20, "b1": 20}
    assert static.cleanest(products, ratios) == [["b", "b1"], ["a", "a1"]]


@pytest.mark.parametrize(
    ("kept", "scopes"), [(1.0, ["a", "a1", "b", "b1"]), (0.5, ["a", "a1"]), (0.6, ["a", "a1", "b", "b1"]), (0.0, [])]
)
def test_at_least_a_share_of_the_products_is_kept_at_all_their_lengths(kept: float, scopes: list[str]) -> None:
    assert static.chosen([["a", "a1"], ["b", "b1"]], kept) == scopes


class Interpreter:
    """LiteRT's, for a file whose signatures take ids alone."""

    def __init__(self, file: str) -> None:
        """Read nothing."""

    def get_signature_runner(self, _name: str) -> "Interpreter":
        """All are alike."""
        return self

    def get_input_details(self) -> dict[str, Any]:
        """Ids, as narrow numbers."""
        return {"input_ids": {"dtype": np.int32}}


def test_a_signature_is_asked_what_it_takes_in_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("ai_edge_litert.interpreter")
    module.__dict__["Interpreter"] = Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = {"input_ids": np.ones((1, 4), np.int64), "attention_mask": np.ones((1, 4), np.int64)}
    ((asked,),) = static._taken(Path("model.tflite"), {"tokens_4": [row]}).values()
    assert {name: array.dtype for name, array in asked.items()} == {"input_ids": np.int32}
