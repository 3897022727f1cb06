from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from images.inside import collate
from images.inside.contract import IntArray, Item, Outputs
from images.inside.records import Manifest
from tests.inside import serving

SEEDS = range(8)
SIDES = pytest.mark.parametrize("side", ["left", "right"])


def facts(side: str = "right", task: str = "token-classification", **changes: object) -> Manifest:
    return serving.manifest(**{"task": task, "padding_side": side, "pad_token_id": 9, "embedding": None, **changes})


def items(*lengths: int, seed: int = 0) -> list[Item]:
    random = np.random.default_rng(seed)
    return [
        Item(tuple(random.integers(10, 99, length).tolist()), tuple(random.integers(0, 2, length).tolist()))
        for length in lengths
    ]


def random_items(seed: int) -> list[Item]:
    random = np.random.default_rng(seed)
    return items(*random.integers(1, 12, random.integers(1, 9)).tolist(), seed=seed)


class Echo:
    """Gives every token's id back, and every text's sum; notes the shapes it is asked."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, batch: Mapping[str, IntArray]) -> Outputs:
        """The ids as float32."""
        ids = batch["input_ids"].astype(np.float32)
        self.shapes.append(ids.shape)
        return {"tokens": ids, "pairs": np.stack([ids, ids], axis=-1), "sum": (ids * batch["attention_mask"]).sum(1)}

    def describe(self) -> dict[str, str]:
        """Its name."""
        return {"runtime": "echo"}


def predicted(given: Sequence[Item], manifest: Manifest) -> list[Outputs]:
    return collate.predict(Echo(), given, manifest)


# A batch


def test_a_batch_is_as_long_as_its_longest_item() -> None:
    arrays = collate.batch(items(2, 5, 3), facts())
    assert arrays.keys() == {"input_ids", "attention_mask", "token_type_ids"}
    assert {(array.shape, str(array.dtype)) for array in arrays.values()} == {((3, 5), "int64")}


@pytest.mark.parametrize(
    ("side", "row"),
    [("right", [4, 5, 9]), ("left", [9, 4, 5])],
)
def test_padding_stands_on_the_tokenizers_side(side: str, row: list[int]) -> None:
    given = [Item((1, 2, 3), (0, 0, 1)), Item((4, 5), (0, 1))]
    assert collate.batch(given, facts(side))["input_ids"].tolist() == [[1, 2, 3], row]


@pytest.mark.parametrize(("side", "row"), [("right", [0, 1, 0]), ("left", [0, 0, 1])])
def test_padding_belongs_to_the_first_segment(side: str, row: list[int]) -> None:
    given = [Item((1, 2, 3), (0, 0, 1)), Item((4, 5), (0, 1))]
    assert collate.batch(given, facts(side))["token_type_ids"].tolist() == [[0, 0, 1], row]


@SIDES
@pytest.mark.parametrize("seed", SEEDS)
def test_the_mask_is_one_exactly_on_real_tokens(side: str, seed: int) -> None:
    given = random_items(seed)
    arrays = collate.batch(given, facts(side))
    assert arrays["attention_mask"].sum(axis=1).tolist() == [len(item.ids) for item in given]
    assert ((arrays["input_ids"] == 9) == (arrays["attention_mask"] == 0)).all()


@SIDES
@pytest.mark.parametrize("seed", SEEDS)
def test_every_token_is_in_the_batch_in_order(side: str, seed: int) -> None:
    given = random_items(seed)
    arrays = collate.batch(given, facts(side))
    real = [row[mask == 1] for row, mask in zip(arrays["input_ids"], arrays["attention_mask"], strict=True)]
    assert [tuple(row.tolist()) for row in real] == [item.ids for item in given]


# And back


@SIDES
@pytest.mark.parametrize("seed", SEEDS)
def test_outputs_come_back_by_item_without_padding(side: str, seed: int) -> None:
    given = random_items(seed)
    assert [tuple(output["tokens"]) for output in predicted(given, facts(side))] == [item.ids for item in given]


@SIDES
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_of_more_than_one_number_a_token_lose_their_padding_too(side: str, seed: int) -> None:
    given = random_items(seed)
    shapes = [output["pairs"].shape for output in predicted(given, facts(side))]
    assert shapes == [(len(item.ids), 2) for item in given]


@SIDES
@pytest.mark.parametrize("seed", SEEDS)
def test_outputs_do_not_depend_on_what_else_is_in_the_batch(side: str, seed: int) -> None:
    given = random_items(seed)
    together = predicted(given, facts(side))
    alone = [predicted([item], facts(side))[0] for item in given]
    assert all(
        np.array_equal(one[name], other[name]) for one, other in zip(together, alone, strict=True) for name in one
    )


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
def test_one_row_a_text_is_not_cut_though_it_is_as_long_as_the_batch(task: str) -> None:
    embedding = serving.manifest().embedding if task == "feature-extraction" else None
    manifest = facts(task=task, embedding=embedding)
    outputs: Outputs = {"logits": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert [output["logits"].shape for output in collate.split(outputs, items(1, 3), manifest)] == [(3,), (3,)]


def test_vectors_of_tokens_are_cut() -> None:
    outputs: Outputs = {"last_hidden_state": np.zeros((2, 3, 4), np.float32)}
    split = collate.split(outputs, items(1, 3), facts(task="feature-extraction"))
    assert [output["last_hidden_state"].shape for output in split] == [(1, 4), (3, 4)]


# Models that do not bear padding


def test_items_go_to_the_runner_as_one_batch() -> None:
    echo = Echo()
    collate.predict(echo, items(2, 3, 2), facts())
    assert echo.shapes == [(3, 3)]


def test_a_model_that_does_not_bear_padding_gets_none() -> None:
    echo = Echo()
    collate.predict(echo, items(2, 3, 2, 3, 1), facts(padding=False))
    assert sorted(echo.shapes) == [(1, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize("seed", SEEDS)
def test_its_outputs_come_back_in_order_all_the_same(seed: int) -> None:
    given = random_items(seed)
    found = predicted(given, facts(padding=False))
    assert [tuple(output["tokens"]) for output in found] == [item.ids for item in given]


def test_a_model_that_knows_no_segments_sees_the_first_only() -> None:
    arrays = collate.batch([Item((1, 2), (0, 1))], facts(token_types=False))
    assert arrays["token_type_ids"].tolist() == [[0, 0]]
