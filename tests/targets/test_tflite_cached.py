"""A decoder whose cache goes in and out: parts of a prompt, single tokens and both give the same logits."""

from typing import Any

import numpy as np
import pytest

from targets.tflite import cached
from targets.tflite.cached import Cached

CONTEXT, PART, WORDS = 24, 8, 5


def attend(tokens: Any, input_pos: Any, mask: Any, kv_cache_k_0: Any) -> dict[str, Any]:
    """A model of one number a place: its logits are a weighted sum of the numbers that the last token sees."""
    cache = kv_cache_k_0.copy()
    cache[0, 0, input_pos, 0] = tokens[0] * (1.0 + input_pos / 7)
    seen = mask[0, 0, -1] == 0
    total = float((cache[0, 0, :, 0] * seen * np.arange(1, CONTEXT + 1)).sum())
    return {"logits": (total * np.arange(1, WORDS + 1))[None, None].astype(np.float32), "kv_cache_k_0": cache}


def generator(slots: int = 2) -> Cached:
    empty = {"kv_cache_k_0": np.zeros((1, 1, CONTEXT, 1))}
    return Cached(attend, attend, PART, slots, empty, {"runtime": "table"})


def one_by_one(ids: list[int]) -> list[float]:
    told = generator()
    for token in ids:
        logits = told.decode([0], [token])[0]
    return [float(value) for value in logits]


IDS = [int(token) for token in np.random.default_rng(5).integers(1, 9, CONTEXT)]


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 9, 14, 15, 16, 17, 23, 24])
def test_a_prompt_is_read_as_if_token_by_token(count: int) -> None:
    assert generator().prefill(0, IDS[:count]).tolist() == pytest.approx(one_by_one(IDS[:count]))


@pytest.mark.parametrize("first", [1, 3, 7, 8, 9, 16])
def test_a_prompt_in_two_parts_is_the_same_prompt(first: int) -> None:
    told = generator()
    told.prefill(0, IDS[:first])
    assert told.prefill(0, IDS[first:]).tolist() == pytest.approx(one_by_one(IDS))


def test_what_fills_a_short_prompt_up_is_not_seen_later() -> None:
    told = generator()
    told.prefill(0, IDS[:7])
    assert told.decode([0], [IDS[7]])[0].tolist() == pytest.approx(one_by_one(IDS[:8]))


def test_slots_do_not_see_each_other() -> None:
    told = generator()
    told.prefill(0, IDS[:9])
    told.prefill(1, IDS[3:6])
    both = told.decode([0, 1], [IDS[9], IDS[6]])
    assert both[0].tolist() == pytest.approx(one_by_one(IDS[:10]))
    assert both[1].tolist() == pytest.approx(one_by_one(IDS[3:7]))


def test_a_slot_that_was_released_is_empty() -> None:
    told = generator()
    told.prefill(0, IDS[:9])
    told.release(0)
    assert told.length(0) == 0
    assert told.prefill(0, IDS[:3]).tolist() == pytest.approx(one_by_one(IDS[:3]))


def test_a_slot_knows_its_length() -> None:
    told = generator()
    told.prefill(0, IDS[:9])
    told.decode([0], [IDS[9]])
    assert (told.length(0), told.length(1)) == (10, 0)


def test_no_call_reaches_beyond_the_context() -> None:
    for total in range(1, CONTEXT + 1):
        for call in cached.calls(0, total, PART):
            assert call.start + (PART if call.wide else 1) <= max(CONTEXT, PART)
