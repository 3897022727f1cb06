"""Expected tokens are what the transformers pipeline answers to the same logits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside import tasks
from images.inside.errors import InputError
from images.inside.text import Tokenizer
from tests.inside import tiny

TASK = tasks.load("fill-mask")
FACTS = tiny.manifest("fill-mask")
ANNA, BERLIN, HAMBURG = (tiny.WORDS.index(word) for word in ("anna", "berlin", "hamburg"))
TEXT = "The capital is [MASK] . it 's"
SCORES = {(4, BERLIN): 5, (4, HAMBURG): 4, (4, ANNA): 3}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.wordpiece(), FACTS)


def ask(tokenizer: Tokenizer, text: str | list[str], scores: Mapping[tuple[int, int], float], **parameters: Any) -> Any:
    prepared = TASK.prepare({"inputs": text, "parameters": parameters}, tokenizer, FACTS)
    logits = np.zeros((16, len(tiny.WORDS)), np.float32)
    for place, score in scores.items():
        logits[place] = score
    return TASK.answer(prepared, [{"logits": logits[: len(item.ids)]} for item in prepared.items], FACTS)


def test_the_likeliest_tokens_come_first(tokenizer: Tokenizer) -> None:
    first, second = ask(tokenizer, TEXT, SCORES, top_k=2)
    sequence = "the capital is berlin. ' s"
    assert first == {"score": pytest.approx(0.598207), "token": BERLIN, "token_str": "berlin", "sequence": sequence}
    assert (round(second["score"], 4), second["token_str"]) == (0.2201, "hamburg")


def test_five_tokens_are_proposed_by_default(tokenizer: Tokenizer) -> None:
    assert len(ask(tokenizer, TEXT, SCORES)) == 5


def test_only_targets_are_proposed_and_a_word_stands_for_its_first_token(tokenizer: Tokenizer) -> None:
    found = ask(tokenizer, TEXT, SCORES, targets=["munich", "Hamburg", "hamburg"])
    assert [(round(entry["score"], 4), entry["token_str"]) for entry in found] == [(0.2201, "hamburg"), (0.004, "mun")]


def test_several_masks_have_a_ranking_each_and_keep_the_other_masks(tokenizer: Tokenizer) -> None:
    found = ask(tokenizer, "[MASK] is [MASK]", {(1, ANNA): 5, (3, BERLIN): 5}, top_k=1)
    assert [[entry["sequence"] for entry in ranking] for ranking in found] == [
        ["[CLS] anna is [MASK] [SEP]"],
        ["[CLS] [MASK] is berlin [SEP]"],
    ]


def test_a_list_of_texts_is_answered_by_a_list(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, [TEXT], SCORES) == [ask(tokenizer, TEXT, SCORES)]


def test_a_text_without_a_mask_is_refused_with_the_mask_token(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"needs the mask token \[MASK\]"):
        ask(tokenizer, [TEXT, "<mask>"], SCORES)


def test_a_mask_that_was_cut_off_is_missing(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="needs the mask token"):
        ask(tokenizer, "a " * 20 + "[MASK]", SCORES, truncate=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"targets": [" "]}, r"\$\.parameters\.targets"),
        ({"targets": []}, r"length >= 1 - at `\$.parameters.targets`"),
        ({"top_k": 101}, "<= 100"),
        ({"tokenizer_kwargs": {}}, "unknown field `tokenizer_kwargs`"),
    ],
)
def test_what_is_wrong_in_the_parameters_is_named(
    parameters: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=message):
        ask(tokenizer, TEXT, SCORES, **parameters)


def proposal(token: int, score: float = 0.5) -> dict[str, Any]:
    return {"token": token, "score": score}


def test_answers_agree_mask_by_mask() -> None:
    ours = [[proposal(1), proposal(2)], [[proposal(3)], [proposal(4)]]]
    original = [[proposal(1), proposal(5)], [[proposal(3)], [proposal(9)]]]
    assert TASK.agreement(ours, original) == pytest.approx(2 / 3)


def test_scores_count_where_the_tokens_agree() -> None:
    assert TASK.score_difference([proposal(1, 0.9)], [proposal(1, 0.6)]) == pytest.approx(0.3)
