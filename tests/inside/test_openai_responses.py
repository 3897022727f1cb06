from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.inside import texting
from tests.inside.serving import MODEL
from tests.inside.texting import HTTP, Scripted, expected, named, raw

# The client asks `uname` what machine it runs on.
pytestmark = pytest.mark.starts_programs
ASKED: Any = {"model": MODEL, "input": "hello", "max_output_tokens": 12}
ANSWER = expected("u:hello;a:")
TOOL: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}}
EVENTS = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
ENDS = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]


def test_what_the_user_says_is_answered_by_the_models_template(client: openai.OpenAI) -> None:
    assert client.responses.create(**ASKED).output_text == ANSWER


def test_the_answer_has_every_field_of_the_api_and_no_other(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASKED, tools=[TOOL], include=["message.output_text.logprobs"], top_logprobs=2)

    Response.model_validate(answer.model_dump(), strict=True)
    assert texting.unknown(answer) == []


def test_an_answer_of_the_most_tokens_is_incomplete_for_that(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASKED)

    assert answer.incomplete_details
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_an_answer_that_the_model_ends_is_complete() -> None:
    with texting.served(Scripted("well")) as url, texting.connected(url) as client:
        answer = client.responses.create(**ASKED)

    assert (answer.output_text, answer.status, answer.incomplete_details) == ("well", "completed", None)


def test_the_answer_says_what_it_cost(client: openai.OpenAI) -> None:
    usage = client.responses.create(**ASKED).usage

    assert usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 12, 22)


def test_the_answer_says_how_it_was_asked_for(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASKED, instructions="be kind", metadata={"a": "b"}, user="me")

    assert (answer.temperature, answer.top_p, answer.max_output_tokens) == (0.0, 1.0, 12)
    assert (answer.instructions, answer.metadata, answer.user, answer.model) == ("be kind", {"a": "b"}, "me", MODEL)


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ([{"role": "user", "content": "hello"}], "u:hello;"),
        ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}], "u:hello;"),
        ([{"role": "developer", "content": "x"}, {"role": "user", "content": "y"}], "s:x;u:y;"),
        (
            [
                {"role": "user", "content": "hello"},
                {"type": "function_call", "call_id": "1", "name": "add", "arguments": '{"x": 5}'},
                {"type": "function_call_output", "call_id": "1", "output": "6"},
            ],
            "u:hello;a:;5t:6;",
        ),
    ],
    ids=["message", "parts", "developer", "call"],
)
def test_items_are_messages_of_the_conversation(client: openai.OpenAI, given: Any, prompt: str) -> None:
    assert client.responses.create(**{**ASKED, "input": given}).output_text == expected(f"{prompt}a:")


def test_output_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    output = [item.model_dump() for item in client.responses.create(**ASKED).output]
    given: Any = [{"role": "user", "content": "hello"}, *output, {"role": "user", "content": "more"}]

    answer = client.responses.create(**{**ASKED, "input": given})

    assert answer.output_text == expected(f"u:hello;a:{ANSWER};u:more;a:")


def test_instructions_are_a_system_message_in_front(client: openai.OpenAI) -> None:
    assert client.responses.create(**ASKED, instructions="x").output_text == expected("s:x;u:hello;a:")


def test_tools_are_shown_to_the_model(client: openai.OpenAI) -> None:
    assert client.responses.create(**ASKED, tools=[TOOL]).output_text == expected("<add>u:hello;a:")


def test_log_probabilities_come_when_they_are_included(client: openai.OpenAI) -> None:
    answer: Any = client.responses.create(**ASKED, include=["message.output_text.logprobs"], top_logprobs=2)
    logprobs = answer.output[0].content[0].logprobs

    assert "".join(token.token for token in logprobs) == ANSWER
    assert all(token.top_logprobs[0].token == token.token and len(token.top_logprobs) == 2 for token in logprobs)


def test_events_come_in_the_apis_order(url: str) -> None:
    kinds = [event["type"] for event in named(raw(url, "responses", ASKED))]

    assert kinds == [*EVENTS, *["response.output_text.delta"] * 12, *ENDS, "response.incomplete"]


def test_a_complete_answer_ends_its_stream_as_completed() -> None:
    with texting.served(Scripted("well")) as url:
        last = named(raw(url, "responses", ASKED))[-1]

    assert (last["type"], last["response"]["output"][0]["content"][0]["text"]) == ("response.completed", "well")


def test_events_are_numbered(url: str) -> None:
    numbers = [event["sequence_number"] for event in named(raw(url, "responses", ASKED))]

    assert numbers == list(range(len(numbers)))


def test_events_speak_of_one_item(url: str) -> None:
    found = named(raw(url, "responses", ASKED))

    assert len({event.get("item_id") or event["item"]["id"] for event in found if "response" not in event}) == 1


def test_deltas_put_together_are_the_text_that_is_said_to_be_done(url: str) -> None:
    found = named(raw(url, "responses", ASKED))
    deltas = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
    (done,) = [event["text"] for event in found if event["type"] == "response.output_text.done"]

    assert "".join(deltas) == done == ANSWER


def test_events_have_every_field_of_the_api_and_no_other(client: openai.OpenAI) -> None:
    found = list(client.responses.create(**ASKED, stream=True, include=["message.output_text.logprobs"]))

    for event in found:
        type(event).model_validate(event.model_dump(), strict=True)
    # `bytes` of a log probability are in the API's objects, yet not in the types of its deltas.
    assert {name for event in found for name in texting.unknown(event)} <= {"bytes"}


def test_the_clients_own_reader_of_streams_gives_the_answer() -> None:
    reading = texting.connected
    with texting.served(Scripted("well")) as url, reading(url) as client, client.responses.stream(**ASKED) as got:
        answer = got.get_final_response()

    assert answer.output_text == "well"


def test_an_answer_may_be_ended_by_the_model_at_once() -> None:
    with texting.served(Scripted("")) as url:
        found = named(raw(url, "responses", ASKED))

    assert [event["type"] for event in found] == [*EVENTS, *ENDS, "response.completed"]
    assert found[-1]["response"]["usage"]["output_tokens"] == 1


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"strict": True}]}, "tools.strict"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": "a"}, "stop"),
        ({"input": [{"type": "item_reference", "id": "1"}]}, "input[0].type"),
        ({"input": [{"content": "hello"}]}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"input": []}, "input"),
        ({"input": "a" * 300}, "input"),
        ({"stream_options": {}}, "stream_options"),
    ],
    ids=repr,
)
def test_what_cannot_be_honoured_is_a_400_that_names_it(url: str, asked: dict[str, Any], param: str) -> None:
    answer = HTTP.post(f"{url}/v1/responses", json={**ASKED, **asked})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "asked", [{"store": False}, {"background": False}, {"truncation": "disabled"}, {"reasoning": None}], ids=repr
)
def test_what_asks_for_nothing_is_taken(url: str, asked: dict[str, Any]) -> None:
    assert HTTP.post(f"{url}/v1/responses", json={**ASKED, **asked}).status_code == 200
