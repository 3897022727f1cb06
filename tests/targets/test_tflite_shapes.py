"""Fixed shapes: the smallest that holds a sequence, padding that is masked, outputs as if there had been none."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from images.inside import collate
from images.inside.contract import IntArray, Item, Outputs
from images.inside.errors import ArtifactError, TooLongError
from images.inside.records import Manifest
from targets.tflite import shapes
from tests.inside.tiny import manifest

KNOWN = [4, 8]


def rows(*lengths: int, facts: Manifest) -> dict[str, IntArray]:
    """Rows of so many tokens, numbered from 5."""
    items = [Item(tuple(range(5, 5 + length)), (1,) * length) for length in lengths]
    return collate.batch(items, facts)


def row(length: int, facts: Manifest, beside: int = 0) -> dict[str, IntArray]:
    """One row of a batch, next to a longer one."""
    whole = rows(length, *([beside] if beside else []), facts=facts)
    return {name: array[0] for name, array in whole.items()}


def test_signatures_are_known_by_their_length() -> None:
    assert shapes.lengths([shapes.name(64), shapes.name(8)]) == [8, 64]


@pytest.mark.parametrize("names", [[], ["serving_default"], ["tokens_many"]])
def test_a_file_without_our_signatures_is_damaged(names: list[str]) -> None:
    with pytest.raises(ArtifactError, match="no signature"):
        shapes.lengths(names)


def test_a_model_for_pictures_has_a_signature_of_its_own() -> None:
    assert shapes.pictures([shapes.PICTURE]) == [shapes.PICTURE]


def test_a_file_without_it_is_damaged() -> None:
    with pytest.raises(ArtifactError, match="no signature picture; it has: tokens_32"):
        shapes.pictures(["tokens_32"])


def test_lengths_beyond_the_models_limit_make_one_at_the_limit() -> None:
    assert shapes.wanted("64,32,256,512", 128) == [32, 64, 128]


def test_a_limit_between_two_lengths_is_used_whole() -> None:
    assert shapes.wanted("32,64,128", 100) == [32, 64, 100]


@pytest.mark.parametrize(("tokens", "length"), [(1, 4), (4, 4), (5, 8), (8, 8)])
def test_the_smallest_shape_that_holds_it_is_taken(tokens: int, length: int) -> None:
    assert shapes.smallest(KNOWN, tokens) == length


def test_what_no_shape_holds_is_refused_with_the_limit() -> None:
    with pytest.raises(TooLongError, match="9 tokens; this model takes at most 8"):
        shapes.smallest(KNOWN, 9)


def test_a_short_row_of_a_long_batch_takes_a_short_shape() -> None:
    assert shapes.fit(row(3, manifest(), beside=8), KNOWN, manifest()).length == 4


@pytest.mark.parametrize("side", ["right", "left"])
def test_what_is_beside_the_text_is_padding_and_masked(side: str) -> None:
    facts = manifest(pad_token_id=9, padding_side=side)
    placed = shapes.fit(row(3, facts), KNOWN, facts)
    given = {name: array[0].tolist() for name, array in placed.given.items()}
    text = {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "token_type_ids": [1, 1, 1]}
    padding = {"input_ids": [9], "attention_mask": [0], "token_type_ids": [0]}
    assert given == {
        name: text[name] + padding[name] if side == "right" else padding[name] + text[name] for name in text
    }


@pytest.mark.parametrize("side", ["right", "left"])
def test_token_outputs_are_those_of_the_text_whatever_the_shape(side: str) -> None:
    facts = manifest("token-classification", padding_side=side)
    items = [Item((5, 6, 7), (0,) * 3), Item((5, 6, 7, 8, 9), (0,) * 5)]
    outputs = collate.predict(_Fixed(facts), items, facts)
    assert [output["logits"].tolist() for output in outputs] == [[[each] for each in item.ids] for item in items]


def test_an_output_a_text_is_left_as_it_is() -> None:
    facts = manifest("text-classification")
    placed = shapes.fit(row(3, facts), KNOWN, facts)
    assert shapes.cut({"logits": np.ones((1, 4), np.float32)}, placed, 3, facts)["logits"].tolist() == [1, 1, 1, 1]


class _Fixed:
    """A runner of fixed shapes whose model repeats each token's id, and shouts where it is padding."""

    def __init__(self, facts: Manifest) -> None:
        self._facts = facts

    def predict(self, batch: Mapping[str, IntArray]) -> Outputs:
        rows = [
            self._row({name: array[index] for name, array in batch.items()}) for index in range(len(batch["input_ids"]))
        ]
        return {"logits": np.stack(rows)}

    def _row(self, one: dict[str, IntArray]) -> Any:
        placed = shapes.fit(one, KNOWN, self._facts)
        shouted = np.where(placed.given["attention_mask"] == 1, placed.given["input_ids"], 1000)
        outputs = {"logits": shouted[..., None].astype(np.float32)}
        return shapes.cut(outputs, placed, len(one["input_ids"]), self._facts)["logits"]

    def describe(self) -> dict[str, str]:
        return {}


def operator(name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"op_name": name, "inputs": inputs, "outputs": outputs}


CHAIN = [
    operator("CAST", [0], [1]),
    operator("ADD", [1, 9], [2]),
    operator("MUL", [2], [3]),
    operator("TANH", [3], [4]),
]
"""Four operators, one behind the other; 9 is a constant."""


def test_without_a_delegate_nothing_is_delegated() -> None:
    assert shapes.delegated(CHAIN) == 0


def test_the_delegates_share_is_what_lies_between_its_inputs_and_outputs() -> None:
    assert shapes.delegated([*CHAIN, operator("DELEGATE", [1, 9], [3])]) == 2 / 4


def test_parts_of_a_delegate_are_added() -> None:
    parts = [operator("DELEGATE", [1, 9], [2]), operator("DELEGATE", [3], [4])]
    assert shapes.delegated([*CHAIN, *parts]) == 2 / 4
