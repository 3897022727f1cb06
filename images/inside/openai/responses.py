"""`/v1/responses`: a conversation goes on, as a series of typed events. Nothing is kept between requests."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from images.inside.contract import InputError
from images.inside.events import event
from images.inside.generating import Answers, Generating, Wanted
from images.inside.generation.answer import Piece
from images.inside.openai.chat import (
    ChatMessage,
    FunctionSpec,
    ToolCall,
    ToolCallFunction,
    check_format,
    check_tools,
    shown,
)
from images.inside.openai.common import STRICT, Unsupported, check_model, new_id, read, refusal
from images.inside.openai.sampled import (
    ENCODE,
    ERRORS,
    SAMPLING,
    UNSUPPORTED,
    Asked,
    AtLeastOne,
    FinishReason,
    Spelling,
    StreamOptions,
    TokenLogprob,
    TopLogprobs,
    Whole,
    check_obfuscation,
    finish_reason,
    sampling,
    streamed,
    whole,
)
from images.inside.prompts import Prompts
from images.inside.service import Service
from images.inside.web import ApiError, Json, Route

LOGPROBS = "message.output_text.logprobs"
REFUSED = {
    **{name: why for name, why in UNSUPPORTED.items() if name != "metadata"},
    "background": Unsupported("answers are not kept here, so they cannot be fetched later", (False,)),
    "context_management": Unsupported("the conversation is taken as it is", ([],)),
    "conversation": Unsupported("conversations are not kept here: send the earlier messages in input"),
    "max_tool_calls": Unsupported("tools are not called here"),
    "previous_response_id": Unsupported("answers are not kept here: send the earlier messages in input"),
    "prompt": Unsupported("prompts are not kept here: send the messages in input"),
    "reasoning": Unsupported("there is no such dial here; chat_template_kwargs reaches the model's template", ({},)),
    "truncation": Unsupported("a conversation that is too long is refused, not cut", ("disabled",)),
}

Status = Literal["in_progress", "completed", "incomplete", "failed"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputItem(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A message, a call that an earlier answer made, or what came of it.

    Attributes:
        type: which of these.
        role: of a message: who.
        content: of a message: a text, or parts of type `input_text` and `output_text`.
        call_id: of a call and of what came of it.
        name: of a call: the function.
        arguments: of a call, as JSON.
        output: what came of a call: a text, or parts.
        id: not used.
        status: not used.
        phase: not used.

    """

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[dict[str, Any]] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[dict[str, Any]] = ""
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class FunctionTool(FunctionSpec, kw_only=True):
    """A function, shown to the model by its chat template; what it says of calls comes back as text.

    Attributes:
        strict: only false is possible: arguments cannot be held to the schema.

    """

    type: Literal["function"]


class TextFormat(msgspec.Struct, frozen=True, kw_only=True):
    """What the text must be.

    Attributes:
        type: `text`, or `json_object` for one JSON object; a schema cannot be held to.

    """

    type: str = "text"


class TextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How text is written."""

    format: TextFormat = TextFormat()


class ResponseRequest(Asked, kw_only=True):
    """A conversation to go on with."""

    input: Annotated[str | list[InputItem], Meta(description="what the user says, or the conversation so far")]
    instructions: Annotated[str | None, Meta(description="a system message in front of it")] = None
    max_output_tokens: Annotated[
        AtLeastOne | None, Meta(description="the most tokens of the answer; as many as fit when left out")
    ] = None
    include: Annotated[
        list[str], Meta(description=f"`{LOGPROBS}` gives the log probabilities of the answer's tokens")
    ] = []
    top_logprobs: Annotated[TopLogprobs, Meta(description="of the so many likeliest tokens besides, at most 20")] = 0
    text: Annotated[TextOptions, Meta(description="text, or one JSON object")] = TextOptions()
    tools: Annotated[list[FunctionTool], Meta(description="functions that the model's template shows it")] = []
    tool_choice: Annotated[Any, Meta(description="`auto`, or `none` to keep the tools from the model")] = "auto"
    parallel_tool_calls: Annotated[bool, Meta(description="only true is possible: calls are the model's text")] = True
    metadata: Annotated[dict[str, str], Meta(description="sent back in the answer")] = {}
    stream_options: Annotated[StreamOptions | None, Meta(description="how to stream; only with `stream`")] = None
    chat_template_kwargs: Annotated[
        dict[str, Any], Meta(description="what else the model's template knows; an extension of the API")
    ] = {}
    safety_identifier: Annotated[str | None, Meta(description="accepted and not used, like `user`")] = None
    prompt_cache_key: Annotated[str | None, Meta(description="accepted and not used, like `user`")] = None


class OutputText(msgspec.Struct, tag_field="type", tag="output_text", kw_only=True):
    """The answer's text."""

    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, tag_field="type", tag="message", kw_only=True):
    """The answer."""

    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class InputTokensDetails(msgspec.Struct):
    """Of the prompt; there is no cache of prompts."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct):
    """Of the answer; what a model thinks is not told from what it says."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, kw_only=True):
    """What the request cost."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails = msgspec.field(default_factory=InputTokensDetails)
    output_tokens_details: OutputTokensDetails = msgspec.field(default_factory=OutputTokensDetails)


class ResponseFailure(msgspec.Struct):
    """Why an answer failed."""

    code: Literal["server_error"]
    message: str


class IncompleteDetails(msgspec.Struct):
    """Why an answer is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseBody(msgspec.Struct, kw_only=True):
    """The answer, and how it was asked for.

    Attributes:
        created_at: when, in seconds since 1970.
        temperature: as it was used, also where the request left it out; so is top_p.

    """

    id: str
    created_at: int
    model: str
    status: Status
    output: list[OutputMessage]
    temperature: float
    top_p: float
    top_logprobs: int
    tools: list[FunctionTool]
    tool_choice: str
    text: TextOptions
    metadata: dict[str, str]
    instructions: str | None
    max_output_tokens: int | None
    user: str | None
    usage: ResponseUsage | None = None
    completed_at: int | None = None
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    object: Literal["response"] = "response"
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    background: bool = False
    truncation: Literal["disabled"] = "disabled"
    service_tier: Literal["default"] = "default"


class ResponseEvent(msgspec.Struct, tag_field="type", tag="response.created", kw_only=True):
    """The answer is on its way."""

    sequence_number: int
    response: ResponseBody


class InProgressEvent(ResponseEvent, tag="response.in_progress", kw_only=True):
    """It goes on."""


class CompletedEvent(ResponseEvent, tag="response.completed", kw_only=True):
    """It is complete."""


class IncompleteEvent(ResponseEvent, tag="response.incomplete", kw_only=True):
    """It has reached its most tokens."""


class FailedEvent(ResponseEvent, tag="response.failed", kw_only=True):
    """It failed."""


class ItemAddedEvent(msgspec.Struct, tag_field="type", tag="response.output_item.added", kw_only=True):
    """The message begins."""

    sequence_number: int
    item: OutputMessage
    output_index: int = 0


class ItemDoneEvent(ItemAddedEvent, tag="response.output_item.done", kw_only=True):
    """The message is whole."""


class PartAddedEvent(msgspec.Struct, tag_field="type", tag="response.content_part.added", kw_only=True):
    """The message's text begins."""

    sequence_number: int
    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class PartDoneEvent(PartAddedEvent, tag="response.content_part.done", kw_only=True):
    """The message's text is whole."""


class TextDeltaEvent(msgspec.Struct, tag_field="type", tag="response.output_text.delta", kw_only=True):
    """More text."""

    sequence_number: int
    item_id: str
    delta: str
    logprobs: list[TokenLogprob]
    output_index: int = 0
    content_index: int = 0


class TextDoneEvent(msgspec.Struct, tag_field="type", tag="response.output_text.done", kw_only=True):
    """All of the text."""

    sequence_number: int
    item_id: str
    text: str
    logprobs: list[TokenLogprob]
    output_index: int = 0
    content_index: int = 0


class StreamErrorEvent(msgspec.Struct, tag_field="type", tag="error", kw_only=True):
    """What went wrong; `response.failed` follows."""

    sequence_number: int
    message: str
    code: str | None
    param: str | None


Event = (
    ResponseEvent
    | InProgressEvent
    | ItemAddedEvent
    | PartAddedEvent
    | TextDeltaEvent
    | TextDoneEvent
    | PartDoneEvent
    | ItemDoneEvent
    | CompletedEvent
    | IncompleteEvent
    | FailedEvent
    | StreamErrorEvent
)


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
        answer = _Answer(asked, answers, self._service.manifest.model.id, Spelling(self._model.detokenizer))
        if asked.stream:
            return streamed(self._model, request, answers, ResponseWriter(answer))
        (found,) = await whole(self._model, request, answers)
        return Json(answer.ended(found))


class _Answer:
    """One answer as the API's objects, at any time of its life."""

    def __init__(self, asked: ResponseRequest, answers: Answers, model: str, spelling: Spelling) -> None:
        self.id, self.item_id = new_id("resp_"), new_id("msg_")
        self._asked, self._answers, self._model, self._spelling = asked, answers, model, spelling
        self._created = int(time.time())

    def body(self, status: Status, output: Sequence[OutputMessage] = (), **more: Any) -> ResponseBody:
        """The whole object."""
        asked, how = self._asked, self._answers.sampling
        return ResponseBody(
            id=self.id,
            created_at=self._created,
            model=self._model,
            status=status,
            output=list(output),
            temperature=how.temperature,
            top_p=how.top_p,
            top_logprobs=asked.top_logprobs,
            tools=asked.tools,
            tool_choice=asked.tool_choice,
            text=asked.text,
            metadata=asked.metadata,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            user=asked.user,
            **more,
        )

    def ended(self, found: Whole) -> ResponseBody:
        """The object of an answer that has ended."""
        status, used = status_of(found.finish), self._answers
        usage = ResponseUsage(
            input_tokens=used.prompt_tokens,
            output_tokens=used.generated,
            total_tokens=used.prompt_tokens + used.generated,
        )
        cut = IncompleteDetails("max_output_tokens") if status == "incomplete" else None
        done = None if cut else int(time.time())
        output = [self.message(status, [self.part(found)])]
        return self.body(status, output, usage=usage, incomplete_details=cut, completed_at=done)

    def message(self, status: ItemStatus, content: Sequence[OutputText] = ()) -> OutputMessage:
        """The output's only item."""
        return OutputMessage(id=self.item_id, status=status, content=list(content))

    def part(self, found: Whole) -> OutputText:
        """The message's only part."""
        return OutputText(text=found.text, logprobs=self.logprobs(found.tokens))

    def logprobs(self, tokens: Sequence[Any]) -> list[TokenLogprob]:
        """Log probabilities of tokens; none when they were not asked for, since none are kept then."""
        return self._spelling.logprobs(tokens)


class ResponseWriter:
    """An answer as events."""

    def __init__(self, answer: _Answer) -> None:
        self._answer, self._found = answer, Whole()
        self._next = 0

    def begin(self) -> bytes:
        """Everything around the text that can be said before it."""
        answer = self._answer
        item = answer.message("in_progress")
        return b"".join(
            (
                self._event(ResponseEvent, response=answer.body("in_progress")),
                self._event(InProgressEvent, response=answer.body("in_progress")),
                self._event(ItemAddedEvent, item=item),
                self._event(PartAddedEvent, item_id=item.id, part=answer.part(Whole())),
            )
        )

    def piece(self, index: int, piece: Piece) -> bytes:
        """More text."""
        del index
        found, answer = self._found, self._answer
        found.text += piece.text
        found.tokens += piece.tokens
        if piece.finish:
            found.finish = finish_reason(piece.finish)
        if not (piece.text or piece.tokens):
            return b""
        logprobs = answer.logprobs(piece.tokens)
        return self._event(TextDeltaEvent, item_id=answer.item_id, delta=piece.text, logprobs=logprobs)

    def end(self, answers: Answers) -> bytes:
        """Text, part, message and answer, whole."""
        del answers
        answer, ended = self._answer, self._answer.ended(self._found)
        (item,) = ended.output
        (part,) = item.content
        last = CompletedEvent if ended.status == "completed" else IncompleteEvent
        return b"".join(
            (
                self._event(TextDoneEvent, item_id=answer.item_id, text=part.text, logprobs=part.logprobs),
                self._event(PartDoneEvent, item_id=answer.item_id, part=part),
                self._event(ItemDoneEvent, item=item),
                self._event(last, response=ended),
            )
        )

    def failed(self, error: ApiError) -> bytes:
        """The error, and the answer as far as it came."""
        failure = ResponseFailure("server_error", error.message)
        output = [self._answer.message("incomplete", [self._answer.part(self._found)])]
        told = self._event(StreamErrorEvent, message=error.message, code=error.code, param=error.param)
        return told + self._event(FailedEvent, response=self._answer.body("failed", output, error=failure))

    def _event(self, kind: type[msgspec.Struct], **fields: Any) -> bytes:
        made = kind(sequence_number=self._next, **fields)
        self._next += 1
        return event(ENCODE(made), str(kind.__struct_config__.tag))


def status_of(finish: FinishReason) -> Literal["completed", "incomplete"]:
    """The status of an answer that ended so."""
    return "incomplete" if finish == "length" else "completed"


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
