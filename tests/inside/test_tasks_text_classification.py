"""Expected scores are what the transformers pipeline answers to the same logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside import tasks
from images.inside.errors import InputError
from images.inside.records import Manifest
from images.inside.text import Tokenizer
from tests.inside import tiny

TASK = tasks.load("text-classification")
THREE = tiny.manifest("text-classification", labels=["bad", "good", "fair"])


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.wordpiece(), THREE)


def ask(
    tokenizer: Tokenizer, logits: list[float], facts: Manifest = THREE, **parameters: Any
) -> list[tuple[str, float]]:
    prepared = TASK.prepare({"inputs": "a b", "parameters": parameters}, tokenizer, facts)
    ranking = TASK.answer(prepared, [{"logits": np.array(logits, np.float32)}], facts)[0]
    return [(entry["label"], round(entry["score"], 4)) for entry in ranking]


def test_all_labels_come_best_first(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, [1, 3, 2]) == [("good", 0.6652), ("fair", 0.2447), ("bad", 0.09)]


def test_top_k_limits_the_labels(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, [1, 3, 2], top_k=1) == [("good", 0.6652)]


@pytest.mark.parametrize(
    ("function", "score"), [("sigmoid", 0.9526), ("softmax", 0.6652), ("none", 3.0), (None, 0.6652)]
)
def test_the_function_to_apply_may_be_named(function: str | None, score: float, tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, [1, 3, 2], function_to_apply=function)[0] == ("good", score)


@pytest.mark.parametrize(
    ("problem", "labels", "logits", "score"),
    [
        ("", ["one"], [1], 0.7311),
        ("regression", ["one"], [2.5], 2.5),
        ("multi_label_classification", ["one", "two"], [2, -1], 0.8808),
        ("single_label_classification", ["one", "two"], [2, -1], 0.9526),
    ],
)
def test_the_problem_type_decides_the_function(
    problem: str, labels: list[str], logits: list[float], score: float, tokenizer: Tokenizer
) -> None:
    facts = tiny.manifest("text-classification", labels=labels, problem_type=problem)
    assert ask(tokenizer, logits, facts)[0] == ("one", score)


def test_huge_logits_do_not_overflow(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, [-200, 200, 0], function_to_apply="sigmoid") == [("good", 1.0), ("fair", 0.5), ("bad", 0.0)]


def test_a_pair_is_one_input_of_two_texts(tokenizer: Tokenizer) -> None:
    items = TASK.prepare({"inputs": [{"text": "a", "text_pair": "b"}, "c"]}, tokenizer, THREE).items
    assert [tokenizer.tokens(item.ids) for item in items] == [
        ["[CLS]", "a", "[SEP]", "b", "[SEP]"],
        ["[CLS]", "c", "[SEP]"],
    ]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"return_all_scores": True}, r"unknown field `return_all_scores` - at `\$.parameters`"),
        ({"top_k": 0}, r">= 1 - at `\$.parameters.top_k`"),
        ({"top_k": True}, "got `bool`"),
        ({"function_to_apply": "tanh"}, "'tanh'"),
    ],
)
def test_what_is_wrong_in_the_parameters_is_named(
    parameters: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=message):
        ask(tokenizer, [1, 3, 2], **parameters)


def ranking(**scores: float) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in scores.items()]


def test_answers_agree_when_the_best_labels_do() -> None:
    ours = [ranking(good=0.6, bad=0.4), ranking(good=0.6, bad=0.4)]
    assert TASK.agreement(ours, [ranking(good=0.7, bad=0.3), ranking(bad=0.9, good=0.1)]) == 0.5


def test_swapped_labels_do_not_agree() -> None:
    assert TASK.agreement([ranking(bad=0.6, good=0.4)], [ranking(good=0.6, bad=0.4)]) == 0


def test_a_missing_answer_does_not_agree() -> None:
    assert TASK.agreement([ranking(good=1)], [ranking(good=1), ranking(good=1)]) == 0.5


def test_scores_differ_by_label() -> None:
    ours, original = [ranking(good=0.5, bad=0.3, fair=0.2)], [ranking(good=0.5, fair=0.3, bad=0.2)]
    assert TASK.score_difference(ours, original) == pytest.approx(0.1)


@pytest.mark.parametrize(("score", "agreement"), [(0.5, 1.0), (0.54, 1.0), (0.56, 0.0), (float("nan"), 0.0)])
def test_single_label_models_agree_by_their_score(score: float, agreement: float) -> None:
    ours, original = [[{"label": "relevance", "score": score}]], [[{"label": "relevance", "score": 0.5}]]
    assert tasks.load("text-classification").agreement(ours, original) == agreement
