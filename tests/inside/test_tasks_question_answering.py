"""Expected answers are what the transformers pipeline says to the same logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside import tasks
from images.inside.contract import Outputs
from images.inside.errors import InputError
from images.inside.text import Tokenizer
from tests.inside import tiny

TASK = tasks.load("question-answering")
FACTS = tiny.manifest("question-answering")
QUESTION = "Anna works in"
CONTEXT = "Smith works for Siemens in Munich"
# By position: 0 [CLS], 1-3 the question, 5 smith, 8 sie, 9 ##mens, 10 in, 11 mun, 12 ##ich.
START = {0: 1, 1: 8, 9: 3, 8: 2.5, 5: 2}
END = {0: 1, 9: 1, 8: 2.2, 10: 1.4, 12: 2}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.wordpiece(), FACTS)


def logits(tokens: int, start: dict[int, float], end: dict[int, float]) -> Outputs:
    names = {"start_logits": start, "end_logits": end}
    return {name: np.array([at.get(i, 0) for i in range(tokens)], np.float32) for name, at in names.items()}


def ask(tokenizer: Tokenizer, outputs: list[Outputs], context: str = CONTEXT, **parameters: Any) -> Any:
    payload = {"inputs": {"question": QUESTION, "context": context}, "parameters": parameters}
    return TASK.answer(TASK.prepare(payload, tokenizer, FACTS), outputs, FACTS)


def short(answer: dict[str, Any]) -> tuple[Any, ...]:
    return round(answer["score"], 4), answer["start"], answer["end"], answer["answer"]


def test_one_answer_is_widened_to_whole_words(tokenizer: Tokenizer) -> None:
    assert short(ask(tokenizer, [logits(14, START, END)])) == (0.1825, 16, 33, "Siemens in Munich")


@pytest.mark.parametrize(
    ("align", "expected"),
    [
        (True, [(0.1911, 16, 33, "Siemens in Munich"), (0.1395, 16, 23, "Siemens"), (0.0924, 16, 26, "Siemens in")]),
        (False, [(0.1048, 19, 33, "mens in Munich"), (0.0776, 16, 19, "Sie"), (0.0635, 16, 33, "Siemens in Munich")]),
    ],
)
def test_several_answers_come_best_first(expected: list[Any], tokenizer: Tokenizer, *, align: bool) -> None:
    found = ask(tokenizer, [logits(14, START, END)], top_k=3, align_to_words=align)
    assert [short(answer) for answer in found] == expected


def test_an_answer_has_at_most_so_many_tokens(tokenizer: Tokenizer) -> None:
    found = ask(tokenizer, [logits(14, START, END)], max_answer_len=1, align_to_words=False)
    assert short(found) == (0.0776, 16, 19, "Sie")


def test_no_answer_wins_only_if_it_may(tokenizer: Tokenizer) -> None:
    impossible = [logits(14, {0: 9, 9: 3}, {0: 9, 12: 2})]
    assert ask(tokenizer, impossible, handle_impossible_answer=True)["answer"] == ""
    assert ask(tokenizer, impossible)["answer"] == "Siemens in Munich"


def test_answers_that_differ_in_case_are_one(tokenizer: Tokenizer) -> None:
    at = {5: 3, 7: 2.5}
    found = ask(tokenizer, [logits(11, at, at)], "Anna, anna of Berlin", top_k=2, align_to_words=False)
    assert [short(answer) for answer in found] == [(0.3067, 0, 4, "Anna"), (0.186, 0, 10, "Anna, anna")]


def test_a_long_context_is_read_in_windows(tokenizer: Tokenizer) -> None:
    lengths = (12, 12, 12, 10)
    outputs = [logits(n, {5 + i: 1 + i}, {6 + i if 6 + i < n else 5: 1 + i}) for i, n in enumerate(lengths)]
    found = ask(tokenizer, outputs, "a b c d " * 3 + "anna", max_seq_len=12, doc_stride=3, top_k=2)
    assert [short(answer) for answer in found] == [(0.9947, 0, 3, "a b"), (0.1863, 24, 28, "anna")]


def test_a_list_of_questions_is_answered_by_a_list(tokenizer: Tokenizer) -> None:
    payload = {"inputs": [{"question": QUESTION, "context": CONTEXT}]}
    found = TASK.answer(TASK.prepare(payload, tokenizer, FACTS), [logits(14, START, END)], FACTS)
    assert [answer["answer"] for answer in found] == ["Siemens in Munich"]


def test_a_context_without_tokens_has_an_empty_answer(tokenizer: Tokenizer) -> None:
    assert ask(tokenizer, [logits(6, START, END)], " ") == {"score": 0.0, "start": 0, "end": 0, "answer": ""}


def test_a_question_is_cut_on_request(tokenizer: Tokenizer) -> None:
    payload = {"inputs": {"question": QUESTION, "context": "a"}, "parameters": {"max_question_len": 1}}
    items = TASK.prepare(payload, tokenizer, FACTS).items
    assert tokenizer.tokens(items[0].ids) == ["[CLS]", "anna", "[SEP]", "a", "[SEP]"]


def test_a_model_that_pads_on_the_left_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="pads on the left"):
        TASK.prepare(
            {"inputs": {"question": "a", "context": "b"}},
            tokenizer,
            tiny.manifest("question-answering", padding_side="left"),
        )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_seq_len": 17}, "at most 16 tokens"),
        ({"max_seq_len": 12, "doc_stride": 6}, "more than their overlap of 6"),
        ({"topk": 2}, "unknown field `topk`"),
        ({"max_answer_len": 0}, r">= 1 - at `\$.parameters.max_answer_len`"),
    ],
)
def test_what_is_wrong_in_the_parameters_is_named(
    parameters: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=message):
        ask(tokenizer, [], "a b c d " * 5, **parameters)


def test_an_empty_question_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"\$\.inputs\.question"):
        TASK.prepare({"inputs": {"question": "", "context": "a"}}, tokenizer, FACTS)


def answer(text: str, score: float = 0.5) -> dict[str, Any]:
    return {"score": score, "start": 0, "end": len(text), "answer": text}


def test_answers_agree_by_their_text() -> None:
    assert TASK.agreement([answer("a"), answer("b")], [answer("a", 0.1), answer("c")]) == 0.5


def test_answers_without_a_score_are_not_compared() -> None:
    assert TASK.agreement([answer("a")], [answer("a"), answer("b", 0.0)]) == 1


def test_scores_count_where_the_texts_agree() -> None:
    assert TASK.score_difference([answer("a", 0.9), answer("b")], [answer("a", 0.8), answer("c")]) == pytest.approx(0.1)
