"""Expected entities are what the transformers pipeline answers to the same logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside import tasks
from images.inside.errors import InputError, TooLongError
from images.inside.text import Tokenizer
from tests.inside import tiny

TASK = tasks.load("token-classification")
LABELS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "LOC"]
FACTS = tiny.manifest("token-classification", labels=LABELS)
TEXT = "Anna Smith works for Siemens in Munich"
# One row for each of: [CLS] anna smith works for sie ##mens in mun ##ich [SEP]
ROWS: list[dict[str, float]] = [
    {"LOC": 9},
    {"B-PER": 3},
    {"I-PER": 2},
    {"O": 2},
    {"O": 2},
    {"B-ORG": 2},
    {"LOC": 3},
    {"O": 1},
    {"B-ORG": 1, "LOC": 0.9},
    {"LOC": 2},
    {"B-PER": 9},
]
ANNA = ("PER", 0.6985, "anna smith", 0, 10)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.wordpiece(), FACTS)


def logits(rows: list[dict[str, float]]) -> dict[str, Any]:
    return {"logits": np.array([[row.get(label, 0) for label in LABELS] for row in rows], np.float32)}


def short(entity: dict[str, Any]) -> tuple[Any, ...]:
    label = entity.get("entity", entity.get("entity_group"))
    return label, round(entity["score"], 4), entity["word"], entity["start"], entity["end"]


def ask(tokenizer: Tokenizer, **parameters: Any) -> list[dict[str, Any]]:
    prepared = TASK.prepare({"inputs": TEXT, "parameters": parameters}, tokenizer, FACTS)
    found: list[dict[str, Any]] = TASK.answer(prepared, [logits(ROWS)], FACTS)
    return found


def test_without_aggregation_each_token_answers(tokenizer: Tokenizer) -> None:
    first, *_, last = ask(tokenizer, aggregation_strategy="none")
    assert first == {
        "entity": "B-PER",
        "score": pytest.approx(0.800682, abs=1e-6),
        "index": 1,
        "word": "anna",
        "start": 0,
        "end": 4,
    }
    assert short(last) == ("LOC", 0.5964, "##ich", 35, 38)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (
            "simple",
            [
                ANNA,
                ("ORG", 0.5964, "sie", 21, 24),
                ("LOC", 0.8007, "##mens", 24, 28),
                ("ORG", 0.2962, "mun", 32, 35),
                ("LOC", 0.5964, "##ich", 35, 38),
            ],
        ),
        ("first", [ANNA, ("ORG", 0.5964, "siemens", 21, 28), ("ORG", 0.2962, "munich", 32, 38)]),
        ("average", [ANNA, ("LOC", 0.4407, "siemens", 21, 28), ("LOC", 0.4322, "munich", 32, 38)]),
        ("max", [ANNA, ("LOC", 0.8007, "siemens", 21, 28), ("LOC", 0.5964, "munich", 32, 38)]),
    ],
)
def test_tokens_are_grouped_by_the_strategy(
    strategy: str, expected: list[tuple[Any, ...]], tokenizer: Tokenizer
) -> None:
    assert [short(entity) for entity in ask(tokenizer, aggregation_strategy=strategy)] == expected


def test_tokens_are_grouped_by_default(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer) == ask(tokenizer, aggregation_strategy="simple")


def test_ignored_labels_are_left_out(tokenizer: Tokenizer) -> None:
    found = ask(tokenizer, aggregation_strategy="first", ignore_labels=["PER", "ORG"])
    assert [entity["entity_group"] for entity in found] == ["O", "O"]


def test_a_tokenizer_that_does_not_mark_subwords_goes_by_spaces(tmp_path: Path) -> None:
    tokenizer = tiny.load(tmp_path, tiny.bytelevel(), FACTS)
    payload = {"inputs": "ab c", "parameters": {"aggregation_strategy": "first", "ignore_labels": []}}
    rows: list[dict[str, float]] = [{}, {"B-PER": 2}, {"O": 3}, {"LOC": 1}, {"LOC": 2}, {}]
    found = TASK.answer(TASK.prepare(payload, tokenizer, FACTS), [logits(rows)], FACTS)
    assert [short(entity) for entity in found] == [("PER", 0.5964, "ab", 0, 2), ("LOC", 0.4743, " c", 3, 4)]


def test_an_unknown_token_answers_with_its_text(tokenizer: Tokenizer) -> None:
    payload = {"inputs": "Łódź", "parameters": {"aggregation_strategy": "none"}}
    rows: list[dict[str, float]] = [{}, {"LOC": 1}, {}]
    assert TASK.answer(TASK.prepare(payload, tokenizer, FACTS), [logits(rows)], FACTS)[0]["word"] == "Łódź"


def test_of_entities_found_in_two_windows_the_longer_stays(tokenizer: Tokenizer) -> None:
    payload = {"inputs": "a b c d " * 5, "parameters": {"stride": 6}}
    one: list[dict[str, float]] = [{"O": 1}] * 16
    two = one[:14]
    one = [*one[:13], {"O": 1, "B-PER": 3}, {"O": 1, "I-PER": 3}, one[15]]
    two = [*two[:5], {"O": 1, "B-PER": 2}, {"O": 1, "I-PER": 2}, {"O": 1, "I-PER": 2}, *two[8:]]
    prepared = TASK.prepare(payload, tokenizer, FACTS)
    found = TASK.answer(prepared, [logits(one), logits(two)], FACTS)
    assert [short(entity) for entity in found] == [("PER", 0.5238, "a b c", 24, 29)]


def test_a_list_of_texts_is_answered_by_a_list_a_text(tokenizer: Tokenizer) -> None:
    prepared = TASK.prepare({"inputs": ["", TEXT]}, tokenizer, FACTS)
    first, second = TASK.answer(prepared, [logits([{}, {}]), logits(ROWS)], FACTS)
    assert (first, second) == ([], ask(tokenizer))


def test_a_text_that_is_too_long_is_refused_by_default(tokenizer: Tokenizer) -> None:
    with pytest.raises(TooLongError):
        TASK.prepare({"inputs": "a " * 20}, tokenizer, FACTS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stride": 2, "aggregation_strategy": "none"}, r"\$\.parameters\.stride"),
        ({"grouped_entities": True}, "unknown field `grouped_entities`"),
        ({"aggregation_strategy": "last"}, "'last'"),
        ({"ignore_labels": "O"}, "Expected `array`, got `str`"),
    ],
)
def test_what_is_wrong_in_the_parameters_is_named(
    parameters: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=message):
        ask(tokenizer, **parameters)


def token(label: str, index: int, score: float = 1.0) -> dict[str, Any]:
    return {"entity": label, "score": score, "index": index, "word": "w", "start": index, "end": index + 1}


def test_answers_agree_token_by_token() -> None:
    original = [[token("O", 1), token("B-PER", 2)], [token("O", 1), token("O", 2)]]
    ours = [[token("O", 1), token("I-PER", 2)], [token("O", 1), token("O", 2)]]
    assert TASK.agreement(ours, original) == 0.75


def test_entities_that_only_one_has_do_not_agree() -> None:
    assert TASK.agreement([token("B-PER", 1)], [token("B-PER", 2)]) == 0


def test_no_entities_on_either_side_agree() -> None:
    assert TASK.agreement([], []) == 1


def test_scores_count_where_the_labels_agree() -> None:
    ours, original = [token("O", 1, 0.9), token("O", 2, 0.1)], [token("O", 1, 0.7), token("B-PER", 2, 0.9)]
    assert TASK.score_difference(ours, original) == pytest.approx(0.2)
