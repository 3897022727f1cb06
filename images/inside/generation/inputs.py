"""The gate's inputs for models that generate: conversations for those with a chat template, texts for all."""

from collections.abc import Mapping, Sequence
from typing import Any

from images.inside.errors import InputError
from images.inside.prompts import Prompts
from images.inside.records import Struct
from images.inside.suite import LONG, Input

TASK = "text-generation"
TODAY = "26 Jul 2024"
"""What templates that write the date are told it is: a reference must hold tomorrow, too."""

Message = dict[str, Any]


class GenerationPayload(Struct, kw_only=True):
    """One input: a conversation for `/v1/chat/completions`, or a text for `/v1/completions`."""

    messages: list[Message] | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` unless it is one of the two."""
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("expected either `messages` or `prompt`")


class Payloads:
    """What a user's own suite is made of."""

    payload_type: type[Struct] = GenerationPayload


def today(_: str) -> str:
    """Stands for the clock in a template."""
    return TODAY


VARIABLES: Mapping[str, Any] = {"strftime_now": today}
"""What a template is given beside the messages."""


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


_UNICODE = "Zoë naïvely paid 20 € in Kraków; 東京は日本の首都です。 北京很大 🙂👩‍🚀 مرحبا بالعالم שלום עולם"
_CODE = 'def area(radius: float) -> float:\n    """The area of a circle."""\n    return'

CONVERSATIONS: Mapping[str, list[Message]] = {
    "short": [_user("What is the capital of Germany?")],
    "long": [_user(f"{LONG[:2400]}\n\nWho tells this, and what has happened so far?")],
    "unicode": [_user(f"Translate to English: {_UNICODE}")],
    "code": [_user(f"Finish this function:\n\n```python\n{_CODE}\n```")],
    "turns": [
        _user("My name is Ada. Add 2 and 3."),
        {"role": "assistant", "content": "2 + 3 = 5."},
        _user("Add 4 to that, and tell me my name."),
    ],
    "system": [{"role": "system", "content": "You answer in one short sentence."}, _user("Why is the sky blue?")],
}
"""Conversations by name."""
TEXTS: Mapping[str, str] = {
    "text": "Once upon a time, in a small village by the sea,",
    "symbols": "  3.14159 -- (1,000.50 EUR/m²) = 50%?!\t#42 @home:\n\n \u00a0 e-mail: a.b+c@example.org ...  1, 2, 3,",
}
"""Texts for every model."""
MORE_TEXTS: Mapping[str, str] = {
    "short": "The capital of Germany is",
    "long": LONG[:2400],
    "unicode": _UNICODE,
    "code": _CODE,
    "list": "Monday, Tuesday, Wednesday,",
    "dialogue": '"Where are you going?" asked the Queen.\n"Home," said Alice. "',
}
"""Texts for models without a template."""


def suite(*, chat: bool) -> list[Input]:
    """The fixed inputs: 8, by whether the model has a chat template."""
    texts = TEXTS if chat else {**MORE_TEXTS, **TEXTS}
    conversations = [Input(name, {"messages": messages}) for name, messages in CONVERSATIONS.items()] if chat else []
    return [*conversations, *(Input(name, {"prompt": text}) for name, text in texts.items())]


def prompt(payload: Mapping[str, Any], prompts: Prompts, variables: Mapping[str, Any] = VARIABLES) -> Sequence[int]:
    """A payload's tokens. Raises `InputError` when the model's template does not take it."""
    if "prompt" in payload:
        return prompts.of_text(payload["prompt"])
    if not isinstance(payload.get("messages"), list):
        raise InputError("expected messages - at `$.messages`")
    return prompts.of_messages(payload["messages"], variables=variables)
