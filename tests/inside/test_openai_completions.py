from typing import Any

import openai
import pytest
from openai.types import Completion

from tests.inside import texting
from tests.inside.generating import ids
from tests.inside.serving import MODEL
from tests.inside.texting import HTTP, Scripted, chunks, expected, raw

# The client asks `uname` what machine it runs on.
pytestmark = pytest.mark.starts_programs
PROMPT: Any = {"model": MODEL, "prompt": "once", "max_tokens": 12}
ANSWER = expected("once")


def texts(answer: Completion) -> list[str]:
    return [choice.text for choice in answer.choices]


def test_a_text_goes_on(client: openai.OpenAI) -> None:
    assert texts(client.completions.create(**PROMPT)) == [ANSWER]


def test_what_the_tokenizer_puts_first_comes_before_a_text() -> None:
    with texting.served(facts=texting.FACTS.__replace__(bos=0)) as url, texting.connected(url) as client:
        answer = client.completions.create(**PROMPT)

    assert answer.usage
    assert (texts(answer) == [ANSWER], answer.usage.prompt_tokens) == (False, 5)


def test_the_answer_has_every_field_of_the_api_and_no_other(client: openai.OpenAI) -> None:
    answer = client.completions.create(**PROMPT, logprobs=2)

    Completion.model_validate(answer.model_dump(), strict=True)
    assert texting.unknown(answer) == []


def test_an_answer_has_16_tokens_when_nothing_is_said(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="once")

    assert answer.usage
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (16, "length")


@pytest.mark.parametrize(
    ("prompt", "count"),
    [(["once", "twice"], 2), (ids("once"), 1), ([ids("once"), ids("twice")], 2)],
    ids=["texts", "tokens", "lists of tokens"],
)
def test_prompts_may_be_many_and_tokens(client: openai.OpenAI, prompt: Any, count: int) -> None:
    answer = client.completions.create(**{**PROMPT, "prompt": prompt})

    assert texts(answer) == [ANSWER, expected("twice")][:count]


def test_answers_to_the_first_prompt_come_first(client: openai.OpenAI) -> None:
    answer = client.completions.create(**{**PROMPT, "prompt": ["once", "twice"]}, n=2, temperature=1.0, seed=4)

    assert texts(answer) == [
        expected(prompt, temperature=1.0, seed=4, choice=choice) for prompt in ("once", "twice") for choice in (0, 1)
    ]
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 48)


def test_chunks_put_together_are_the_answers(client: openai.OpenAI) -> None:
    found = list(client.completions.create(**{**PROMPT, "prompt": ["once", "twice"]}, stream=True))
    choices = [choice for chunk in found for choice in chunk.choices]

    whole = ["".join(choice.text for choice in choices if choice.index == index) for index in (0, 1)]
    assert whole == [ANSWER, expected("twice")]


def test_the_last_chunk_of_an_answer_says_why_it_ended(url: str) -> None:
    *others, last = chunks(raw(url, "completions", PROMPT))

    assert last["choices"][0]["finish_reason"] == "length"
    assert {chunk["choices"][0]["finish_reason"] for chunk in others} == {None}
    assert {chunk["object"] for chunk in others} == {"text_completion"}


def test_usage_comes_in_a_last_chunk_of_its_own_when_asked_for(url: str) -> None:
    *others, last = chunks(raw(url, "completions", PROMPT | {"stream_options": {"include_usage": True}}))

    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 12)
    assert {chunk["usage"] for chunk in others} == {None}


def test_log_probabilities_are_one_entry_a_token() -> None:
    with texting.served(Scripted("well")) as url, texting.connected(url) as client:
        logprobs = client.completions.create(**PROMPT, logprobs=2).choices[0].logprobs

    assert logprobs
    assert "".join(logprobs.tokens or []) == "well"
    assert logprobs.text_offset == [0, 1, 2, 3]
    tops = zip(logprobs.tokens or [], logprobs.token_logprobs or [], logprobs.top_logprobs or [], strict=True)
    assert all(len(top) == 2 and top[token] == value for token, value, top in tops)


def test_only_the_chosen_tokens_have_theirs_when_none_else_are_asked_for(client: openai.OpenAI) -> None:
    logprobs = client.completions.create(**PROMPT, logprobs=0).choices[0].logprobs

    assert logprobs
    assert (logprobs.top_logprobs, len(logprobs.tokens or [])) == (None, 12)


def test_a_part_of_a_character_is_shown_as_its_bytes_where_the_character_is() -> None:
    with texting.served(Scripted("aéb")) as url, texting.connected(url) as client:
        logprobs = client.completions.create(**PROMPT, logprobs=0).choices[0].logprobs

    assert logprobs
    assert logprobs.tokens == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    assert logprobs.text_offset == [0, 1, 1, 2]


def test_streamed_offsets_go_on_from_chunk_to_chunk() -> None:
    with texting.served(Scripted("well")) as url:
        found = [chunk["choices"][0]["logprobs"] for chunk in chunks(raw(url, "completions", PROMPT | {"logprobs": 0}))]

    assert [offset for logprobs in found for offset in logprobs["text_offset"]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"surprise": 1}, "surprise"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": "a" * 250}, "prompt"),
        ({"prompt": ["a"] * 1000}, "prompt"),
        ({"stream_options": {}}, "stream_options"),
    ],
    ids=repr,
)
def test_what_cannot_be_honoured_is_a_400_that_names_it(url: str, asked: dict[str, Any], param: str) -> None:
    answer = HTTP.post(f"{url}/v1/completions", json={**PROMPT, **asked})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("asked", [{"echo": False}, {"suffix": ""}, {"best_of": 1}], ids=repr)
def test_what_asks_for_nothing_is_taken(url: str, asked: dict[str, Any]) -> None:
    assert HTTP.post(f"{url}/v1/completions", json={**PROMPT, **asked}).status_code == 200
