from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.inside import texting
from tests.inside.generating import EOS, ids
from tests.inside.serving import MODEL
from tests.inside.texting import HELLO, HTTP, Scripted, body, chunks, expected, raw

# The client asks `uname` what machine it runs on.
pytestmark = pytest.mark.starts_programs
ANSWER = expected("u:hello;a:")
LONG: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 12}
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
BRACES = {str(ids("{")[0]): 100, str(ids("}")[0]): 90}
"""A bias to the shortest JSON object."""


def text(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def streamed(client: openai.OpenAI, **more: Any) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(**LONG, stream=True, **more))


def said(found: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in found for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def test_a_conversation_goes_on_by_the_models_template(client: openai.OpenAI) -> None:
    assert text(client.chat.completions.create(**LONG)) == ANSWER


def test_the_answer_has_every_field_of_the_api_and_no_other(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**LONG, logprobs=True, top_logprobs=2)

    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert texting.unknown(answer) == []


def test_the_answer_says_what_it_cost(client: openai.OpenAI) -> None:
    usage = client.chat.completions.create(**LONG).usage

    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 12, 22)


def test_an_answer_of_the_most_tokens_ends_for_its_length(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(**LONG).choices[0].finish_reason == "length"


def test_the_models_own_end_is_a_stop_that_counts_as_a_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**LONG, logit_bias={str(EOS): 100})

    assert answer.usage
    assert (text(answer), answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("", "stop", 1)


@pytest.mark.parametrize("many", [False, True])
def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(client: openai.OpenAI, many: bool) -> None:
    stop = ANSWER[4:7]
    answer = client.chat.completions.create(**LONG, stop=["never", stop] if many else stop)

    assert (text(answer), answer.choices[0].finish_reason) == (ANSWER.partition(stop)[0], "stop")


def test_without_a_limit_an_answer_fills_the_context(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]

    assert answer.usage
    assert answer.usage.total_tokens == texting.CONTEXT


def test_chunks_put_together_are_the_answer(client: openai.OpenAI) -> None:
    assert said(streamed(client)) == ANSWER


def test_the_clients_own_reader_of_streams_gives_the_answer() -> None:
    reading = texting.connected
    with texting.served(Scripted("well")) as url, reading(url) as client, client.chat.completions.stream(**LONG) as got:
        answer = got.get_final_completion()

    assert answer.choices[0].message.content == "well"


def test_the_role_comes_first_and_the_reason_of_the_end_last(url: str) -> None:
    first, *middle, last = [chunk["choices"][0] for chunk in chunks(raw(url, "chat/completions", body()))]

    assert first["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert (last["delta"], last["finish_reason"]) == ({}, "length")
    assert {(choice["finish_reason"], *choice["delta"]) for choice in middle} == {(None, "content")}


def test_chunks_have_every_field_of_the_api_and_no_other(client: openai.OpenAI) -> None:
    found = streamed(client, logprobs=True, stream_options={"include_usage": True})

    for chunk in found:
        ChatCompletionChunk.model_validate(chunk.model_dump(exclude_unset=True), strict=True)
    assert [texting.unknown(chunk) for chunk in found] == [[]] * len(found)


def test_chunks_of_one_answer_have_one_identity(url: str) -> None:
    found = chunks(raw(url, "chat/completions", body()))

    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in found}) == 1


def test_usage_comes_in_a_last_chunk_of_its_own_when_asked_for(url: str) -> None:
    *others, last = chunks(raw(url, "chat/completions", body(stream_options={"include_usage": True})))

    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}
    assert [chunk["usage"] for chunk in others] == [None] * len(others)


def test_usage_is_left_out_when_not_asked_for(url: str) -> None:
    assert not any("usage" in chunk for chunk in chunks(raw(url, "chat/completions", body())))


def test_a_stream_is_not_kept_back_by_proxies(url: str) -> None:
    answer = HTTP.post(f"{url}/v1/chat/completions", json=body(stream=True))

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")


def test_a_character_is_never_split_between_chunks() -> None:
    words = "Grüße, 世界 🙂"
    with texting.served(Scripted(words)) as url:
        found = chunks(raw(url, "chat/completions", body(max_tokens=None)))
    pieces = [choice["delta"].get("content", "") for chunk in found for choice in chunk["choices"]]

    assert [piece for piece in pieces if piece] == list(words)


def test_a_seed_gives_the_same_text_again(client: openai.OpenAI) -> None:
    first, again = (client.chat.completions.create(**LONG, temperature=1.0, seed=7) for _ in range(2))

    assert text(first) == text(again) == expected("u:hello;a:", temperature=1.0, seed=7)


@pytest.mark.parametrize(
    "how",
    [
        {"top_p": 0.5, "temperature": 1.5},
        {"frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"extra_body": {"top_k": 3, "temperature": 1.0}},
        {"extra_body": {"min_p": 0.4, "temperature": 1.0}},
        {"extra_body": {"repetition_penalty": 1.5}},
    ],
)
def test_every_way_of_sampling_reaches_the_sampler(client: openai.OpenAI, how: dict[str, Any]) -> None:
    flat = {name: value for name, value in how.items() if name != "extra_body"} | how.get("extra_body", {})

    assert text(client.chat.completions.create(**LONG, seed=1, **how)) == expected("u:hello;a:", seed=1, **flat)


def test_several_answers_have_chances_of_their_own(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**LONG, n=3, temperature=1.0, seed=5)

    expectations = [expected("u:hello;a:", temperature=1.0, seed=5, choice=choice) for choice in range(3)]
    assert [choice.message.content for choice in answer.choices] == expectations
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 36)


def test_several_answers_are_streamed_side_by_side(client: openai.OpenAI) -> None:
    found = streamed(client, n=3, temperature=1.0, seed=5)

    expectations = [expected("u:hello;a:", temperature=1.0, seed=5, choice=choice) for choice in range(3)]
    assert [said(found, index) for index in range(3)] == expectations


def test_log_probabilities_come_with_the_likeliest_tokens(client: openai.OpenAI) -> None:
    logprobs = client.chat.completions.create(**LONG, logprobs=True, top_logprobs=3).choices[0].logprobs

    assert logprobs
    tokens = logprobs.content or []
    assert "".join(token.token for token in tokens) == ANSWER
    assert bytes(byte for token in tokens for byte in token.bytes or []).decode() == ANSWER
    assert all(token.top_logprobs[0].token == token.token and len(token.top_logprobs) == 3 for token in tokens)
    assert all(token.logprob < 0 for token in tokens)


def test_streamed_log_probabilities_are_those_of_the_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**LONG, logprobs=True).choices[0].logprobs
    found = [choice.logprobs for chunk in streamed(client, logprobs=True) for choice in chunk.choices]

    assert whole
    assert [token.token for logprobs in found if logprobs for token in logprobs.content or []] == [
        token.token for token in whole.content or []
    ]


def test_tools_are_shown_to_the_model(client: openai.OpenAI) -> None:
    assert text(client.chat.completions.create(**LONG, tools=[TOOL])) == expected("<add>u:hello;a:")


def test_tools_are_kept_from_a_model_that_must_not_call_any(client: openai.OpenAI) -> None:
    assert text(client.chat.completions.create(**LONG, tools=[TOOL], tool_choice="none")) == ANSWER


def test_calls_and_what_came_of_them_are_part_of_the_conversation(client: openai.OpenAI) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": 5}'}}
    messages: Any = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    messages += [{"role": "tool", "tool_call_id": "1", "content": "6"}]

    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12)

    assert text(answer) == expected("u:hello;a:;5t:6;a:")


def test_an_answer_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(**LONG).choices[0].message
    messages: Any = [*HELLO, told.model_dump(), *HELLO]

    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12)

    assert text(answer) == expected(f"u:hello;a:{ANSWER};u:hello;a:")


def test_developers_speak_as_the_system(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "developer", "content": "be kind"}, *HELLO]

    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12)

    assert text(answer) == expected("s:be kind;u:hello;a:")


def test_a_content_in_parts_is_one_text(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]

    assert text(client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12)) == ANSWER


def test_variables_reach_the_template(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**LONG, extra_body={"chat_template_kwargs": {"mood": "glad"}})

    assert text(answer) == expected("u:hello;glada:")


def test_an_answer_can_be_held_to_a_json_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**LONG, response_format={"type": "json_object"}, logit_bias=BRACES)

    assert (text(answer), answer.choices[0].finish_reason) == ("{}", "stop")


def test_null_asks_for_the_default(url: str) -> None:
    fields = ("temperature", "stop", "n", "tools", "store", "response_format", "stream_options", "logit_bias")
    answer = HTTP.post(f"{url}/v1/chat/completions", json=body(**dict.fromkeys(fields)))

    assert answer.json()["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize(
    "asked",
    [
        {"store": False},
        {"service_tier": "auto"},
        {"modalities": ["text"]},
        {"parallel_tool_calls": True},
        {"user": "a"},
    ],
)
def test_what_asks_for_nothing_is_taken(url: str, asked: dict[str, Any]) -> None:
    assert HTTP.post(f"{url}/v1/chat/completions", json=body(**asked)).status_code == 200


REFUSED = [
    ({"store": True}, "store"),
    ({"metadata": {"a": "b"}}, "metadata"),
    ({"audio": {}}, "audio"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"functions": []}, "functions"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
    ({"tools": [TOOL | {"function": {"name": "add", "strict": True}}]}, "tools.strict"),
    ({"parallel_tool_calls": False}, "parallel_tool_calls"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens"),
    ({"surprise": 1}, "surprise"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"n": 0}, "n"),
    ({"n": 1000}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "poet", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "messages[0].mood"),
]


@pytest.mark.parametrize(("asked", "param"), REFUSED, ids=[f"{param}-{at}" for at, (_, param) in enumerate(REFUSED)])
def test_what_cannot_be_honoured_is_a_400_that_names_it(url: str, asked: dict[str, Any], param: str) -> None:
    answer = HTTP.post(f"{url}/v1/chat/completions", json=body(**asked))

    assert answer.status_code == 400
    assert (answer.json()["error"]["type"], answer.json()["error"]["param"]) == ("invalid_request_error", param)


def test_all_unknown_fields_are_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="one, two") as error:
        client.chat.completions.create(**LONG, extra_body={"one": 1, "two": 2})

    assert error.value.code == "unknown_parameter"


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(**{**LONG, "model": "other"})

    assert error.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("words", "limit", "numbers"),
    [("a" * 300, None, ("305", "256")), ("a" * 200, 100, ("205", "100", "256"))],
    ids=["prompt", "together"],
)
def test_a_context_that_is_too_long_is_a_400_with_the_numbers(
    client: openai.OpenAI, words: str, limit: int | None, numbers: tuple[str, ...]
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": words}], max_tokens=limit)

    assert error.value.code == "context_length_exceeded"
    assert all(number in error.value.message for number in numbers)


def test_a_model_without_a_template_says_where_to_send_plain_text() -> None:
    facts = texting.FACTS.__replace__(chat_template="")
    with texting.served(facts=facts) as url, texting.connected(url) as client:
        with pytest.raises(openai.BadRequestError, match="/v1/completions"):
            client.chat.completions.create(**LONG)
        assert [card.id for card in client.models.list()] == [MODEL]
