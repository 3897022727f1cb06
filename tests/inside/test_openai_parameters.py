"""Every parameter of the API, as the official client knows it: taken, or refused by name with a reason."""

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec
import openai
import pytest

from images.inside.openai import chat, completions, responses
from images.inside.openai.chat_objects import ChatRequest
from images.inside.openai.common import Unsupported
from images.inside.openai.response_objects import ResponseRequest

CLIENT = openai.OpenAI(base_url="http://localhost", api_key="any")
OF_THE_CLIENT = {"extra_headers", "extra_query", "extra_body", "timeout"}
ROUTES = {
    "chat": (CLIENT.chat.completions.create, ChatRequest, chat.REFUSED),
    "completions": (CLIENT.completions.create, completions.CompletionRequest, completions.REFUSED),
    "responses": (CLIENT.responses.create, ResponseRequest, responses.REFUSED),
}


@pytest.mark.parametrize(("create", "request_type", "refused"), ROUTES.values(), ids=ROUTES)
def test_every_parameter_is_taken_or_refused_with_a_reason(
    create: Any, request_type: type[msgspec.Struct], refused: Mapping[str, Unsupported]
) -> None:
    known = set(inspect.signature(create).parameters) - OF_THE_CLIENT
    assert "model" in known
    assert known <= {*request_type.__struct_fields__, *refused}
    assert not set(request_type.__struct_fields__) & set(refused)
