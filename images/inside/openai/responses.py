"""`/v1/responses`: a conversation goes on, as a series of typed events. Nothing is kept between requests."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from images.inside.errors import InputError
from images.inside.generating import Generating, Wanted
from images.inside.openai.chat import check_format, check_tools, shown
from images.inside.openai.chat_objects import ChatMessage, ToolCall, ToolCallFunction
from images.inside.openai.common import STRICT, Unsupported, check_model, read, refusal
from images.inside.openai.response_events import Event, ResponseWriter
from images.inside.openai.response_objects import (
    LOGPROBS,
    Answer,
    FunctionTool,
    InputItem,
    ResponseBody,
    ResponseRequest,
)
from images.inside.openai.sampled import (
    ERRORS,
    SAMPLING,
    UNSUPPORTED,
    Spelling,
    check_obfuscation,
    sampling,
    streamed,
    whole,
)
from images.inside.prompts import Prompts
from images.inside.service import Service
from images.inside.web import Json, Route

REFUSED = {
    **{name: why for name, why in UNSUPPORTED.items() if name != "metadata"},
    "access_programs": Unsupported("there are none here"),
    "background_options": Unsupported("answers are not kept here, so they cannot be fetched later"),
    "background": Unsupported("answers are not kept here, so they cannot be fetched later", (False,)),
    "context_management": Unsupported("the conversation is taken as it is", ([],)),
    "conversation": Unsupported("conversations are not kept here: send the earlier messages in input"),
    "image": Unsupported("this model writes text"),
    "max_tool_calls": Unsupported("tools are not called here"),
    "previous_response_id": Unsupported("answers are not kept here: send the earlier messages in input"),
    "prompt": Unsupported("prompts are not kept here: send the messages in input"),
    "reasoning": Unsupported("there is no such dial here; chat_template_kwargs reaches the model's template", ({},)),
    "truncation": Unsupported("a conversation that is too long is refused, not cut", ("disabled",)),
}


class Responses:
    """The route and its handler."""

    def __init__(self, service: Service, model: Generating) -> None:
        self._service, self._model = service, model

    def routes(self) -> list[Route]:
        """What is served."""
        words = {"instructions": "Answer in one sentence.", "input": "Why is the sky blue?"}
        return [
            Route(
                method="POST",
                path="/v1/responses",
                handle=self.respond,
                api=STRICT,
                summary="Go on with a conversation, in typed events",
                request=ResponseRequest,
                response=ResponseBody,
                event=Event,
                example={"model": self._service.manifest.model.id, **words, "max_output_tokens": 64},
                errors=ERRORS,
            )
        ]

    async def respond(self, request: Request) -> HttpResponse:
        """`POST /v1/responses`."""
        body = await self._service.body(request)
        asked = read(body, ResponseRequest, REFUSED, "input")
        check_model(self._service, asked.model)
        _check(asked)
        prompt = await self._model.prompts(len(body), lambda prompts: _prompt(asked, prompts))
        answers = self._model.submit([prompt], _wanted(asked))
        answer = Answer(asked, answers, self._service.manifest.model.id, Spelling(self._model.detokenizer))
        if asked.stream:
            return streamed(self._model, request, answers, ResponseWriter(answer))
        (found,) = await whole(self._model, request, answers)
        return Json(answer.ended(found))


def messages(asked: ResponseRequest) -> list[dict[str, Any]]:
    """The request's conversation as chat templates know it. Raises `InputError` for an item that says nothing."""
    first = [ChatMessage(role="system", content=asked.instructions)] if asked.instructions else []
    given = asked.input
    rest = [ChatMessage(role="user", content=given)] if isinstance(given, str) else [*map(_message, given)]
    return [shown(message, f"input[{at - len(first)}]") for at, message in enumerate([*first, *rest])]


def _message(item: InputItem) -> ChatMessage:
    if item.type == "function_call":
        function = ToolCallFunction(name=item.name, arguments=item.arguments)
        return ChatMessage(role="assistant", tool_calls=[ToolCall(id=item.call_id, function=function)])
    if item.type == "function_call_output":
        return ChatMessage(role="tool", content=item.output, tool_call_id=item.call_id)
    if item.role is None:
        raise InputError("a message needs a role - at `$.input`")
    return ChatMessage(role=item.role, content=item.content)


def _check(asked: ResponseRequest) -> None:
    check_tools(asked.tools, asked.tool_choice, parallel=asked.parallel_tool_calls)
    check_format(asked.text.format.type, "text.format")
    if asked.stream_options and not asked.stream:
        raise refusal("stream_options", "only a streamed answer has them: set stream", "invalid_input")
    check_obfuscation(asked.stream_options)
    if others := [name for name in asked.include if name != LOGPROBS]:
        raise refusal("include", f"{others[0]} is not known here; {LOGPROBS} is", "unsupported_value")
    if asked.top_logprobs and not asked.include:
        raise refusal("top_logprobs", f"they come with {LOGPROBS} only: include it", "invalid_input")


def _wanted(asked: ResponseRequest) -> Wanted:
    return Wanted(
        param="input",
        max_tokens=asked.max_output_tokens,
        sampling=sampling(asked, (*SAMPLING, "top_logprobs"), logprobs=LOGPROBS in asked.include),
        ignore_eos=asked.ignore_eos,
        json_object=asked.text.format.type == "json_object",
    )


def _prompt(asked: ResponseRequest, prompts: Prompts) -> list[int]:
    tools = [_tool(tool) for tool in asked.tools] if asked.tool_choice == "auto" else []
    try:
        return prompts.of_messages(messages(asked), tools=tools, variables=asked.chat_template_kwargs)
    except InputError as error:
        raise InputError(str(error).replace("`$.messages", "`$.input")) from error


def _tool(tool: FunctionTool) -> Mapping[str, Any]:
    """A tool as chat templates know it: what it is of, and the function apart."""
    function: dict[str, Any] = msgspec.to_builtins(tool)
    return {"type": function.pop("type"), "function": function}
