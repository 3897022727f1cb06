from typing import Any

import pytest

from images.inside.errors import ArtifactError, InputError
from images.inside.generation.chat import ChatTemplate

TEMPLATE = """{%- if tools %}
    {{- "tools: " }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
{%- endif %}
{% for message in messages %}
    {% if loop.index > 3 %}{% break %}{% endif %}
{{ bos_token }}<|{{ message['role'] }}|>
    {% generation %}
{{ message['content'] | trim }}
    {% endgeneration %}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}"""
CHAT: list[dict[str, Any]] = [{"role": "user", "content": " Grüße <b> "}, {"role": "assistant", "content": "ok "}]
TOOLS = [{"type": "function", "function": {"name": "größe", "description": "a<b"}}]


def render(source: str, *messages: dict[str, Any], **options: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages, **options)


# The expected texts are what transformers 4.57.6 makes of the same template and messages.
def test_messages_become_the_prompt_of_the_original() -> None:
    expected = "<s><|user|>\nGrüße <b>\n<s><|assistant|>\nok\n<|assistant|>\n"
    assert render(TEMPLATE, *CHAT) == expected


def test_tools_are_written_as_json_without_escapes() -> None:
    tools = 'tools: {"type": "function", "function": {"name": "größe", "description": "a<b"}}'
    expected = f"{tools}<s><|user|>\nGrüße <b>\n<s><|assistant|>\nok\n"
    assert render(TEMPLATE, *CHAT, tools=TOOLS, add_generation_prompt=False) == expected


def test_the_last_message_can_be_continued() -> None:
    assert render(TEMPLATE, *CHAT, continue_final_message=True) == "<s><|user|>\nGrüße <b>\n<s><|assistant|>\nok"


def test_a_continued_message_keeps_its_space_where_the_template_does() -> None:
    assert render("{{ messages[-1].content }}<end>", *CHAT, continue_final_message=True) == "ok "


def test_a_message_that_the_template_leaves_out_cannot_be_continued() -> None:
    with pytest.raises(InputError, match="leaves out the message to continue"):
        render("{{ messages[0].content }}", *CHAT, continue_final_message=True)


def test_what_the_template_refuses_is_told_with_its_own_words() -> None:
    with pytest.raises(InputError, match=r"roles must alternate - at `\$\.messages`"):
        render("{{ raise_exception('roles must alternate') }}", *CHAT)


def test_a_failing_template_is_an_error_of_the_input() -> None:
    with pytest.raises(InputError, match=r"\$\.messages"):
        render("{{ messages[0].content + 1 }}", *CHAT)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(1000000) %}x{% endfor %}",
    ],
)
def test_a_template_stays_in_its_sandbox(source: str) -> None:
    with pytest.raises(InputError):
        render(source, *CHAT)


def test_a_source_that_is_no_template_is_a_damaged_artifact() -> None:
    with pytest.raises(ArtifactError, match="chat template"):
        ChatTemplate("{% for %}", {})


def test_contents_in_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert render("{{ messages[0].content }}", {"role": "user", "content": parts}) == "one\ntwo"


def test_contents_that_are_no_text_are_refused_by_name() -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://x"}}
    with pytest.raises(InputError, match=r"text only, not image_url - at `\$\.messages\[0\]\.content`"):
        render("{{ messages[0].content }}", {"role": "user", "content": [picture]})


def test_arguments_of_tool_calls_are_objects() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}
    source = "{{ messages[0].tool_calls[0].function.arguments.a[0] + 1 }}"
    assert render(source, {"role": "assistant", "content": None, "tool_calls": [call]}) == "2"


PLAIN = "{% for message in messages %}{{ message.content }}{{ mood }}{% endfor %}"


def test_tools_are_refused_where_the_template_shows_none() -> None:
    with pytest.raises(InputError, match=r"does not show it tools: .* - at `\$\.tools`"):
        render(PLAIN, *CHAT, tools=TOOLS)


def test_calls_of_tools_are_refused_where_the_template_shows_none() -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    with pytest.raises(InputError, match=r"calls of tools - at `\$\.messages\[2\]\.tool_calls`"):
        render(PLAIN, *CHAT, calls)


def test_a_variable_of_the_template_is_taken() -> None:
    assert render(PLAIN, {"role": "user", "content": "one"}, variables={"mood": " glad"}) == "one glad"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("enable_thinking", "is nothing that this model's template knows"),
        ("messages", "is not the request's to set"),
        ("add_generation_prompt", "is not the request's to set"),
    ],
)
def test_other_variables_are_refused_by_name(name: str, why: str) -> None:
    with pytest.raises(InputError, match=rf"{why} - at `\$\.chat_template_kwargs\.{name}`"):
        render(PLAIN, *CHAT, variables={name: False})


def test_messages_are_not_changed() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "one"}]}
    render("{{ messages[0].content }}", message)
    assert message["content"] == [{"type": "text", "text": "one"}]


def test_no_messages_are_refused() -> None:
    with pytest.raises(InputError, match="at least one message"):
        render("")


def test_a_template_knows_todays_date() -> None:
    assert render("{{ strftime_now('%Y')[:2] }}", *CHAT) == "20"
