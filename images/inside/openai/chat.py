"""`/v1/chat/completions`: a conversation goes on."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from images.inside.errors import InputError
from images.inside.generating import Generating, Wanted
from images.inside.generation.answer import Piece
from images.inside.openai.chunks import ChoiceWriter, answered
from images.inside.openai.common import STRICT, Unsupported, check_model, head, read, refusal
from images.inside.openai.sampled import (
    ERRORS,
    PENALTIES,
    SAMPLING,
    UNSUPPORTED,
    AtLeastOne,
    Chosen,
    CompletionUsage,
    FinishReason,
    Spelling,
    TokenLogprob,
    TopLogprobs,
    Usage,
    Whole,
    finish_reason,
    sampling,
)
from images.inside.prompts import Prompts
from images.inside.service import Service
from images.inside.web import Route

REFUSED = {
    **UNSUPPORTED,
    "audio": Unsupported("this model writes text"),
    "function_call": Unsupported("deprecated: use tools, with tool_choice auto or none", ("auto", "none")),
    "functions": Unsupported("deprecated: use tools"),
    "modalities": Unsupported("this model writes text", (["text"],)),
    "prediction": Unsupported("predicted outputs are not used here"),
    "reasoning_effort": Unsupported("there is no such dial here; chat_template_kwargs reaches the model's template"),
    "verbosity": Unsupported("there is no such dial here"),
    "web_search_options": Unsupported("there is no web search here"),
}
FORCED = "a model's calls are not read out of its text, so none can be forced: auto and none are taken"
STRICT_TOOLS = "arguments cannot be held to a schema here: leave it out"


class FunctionSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A function that the model may call.

    Attributes:
        strict: only false is possible: arguments cannot be held to the schema.

    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool, shown to the model by its chat template; what it says of calls comes back as text."""

    type: Literal["function"]
    function: FunctionSpec


class ToolCallFunction(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A function and its arguments as JSON."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A call that an earlier answer made."""

    id: str
    type: Literal["function"] = "function"
    function: ToolCallFunction


class ChatMessage(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What somebody said.

    Attributes:
        role: who; `developer` is `system`, as the API defines it.
        content: a text, or parts of type `text`.
        name: who among several of the same role, if the model's template shows it.
        tool_calls: calls of an earlier answer.
        tool_call_id: the call that this message answers.
        reasoning_content: what the model thought, if its template shows it; an extension of the API.
        refusal: an earlier answer's; shown as its content.

    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer must be.

    Attributes:
        type: `text`, or `json_object` for one JSON object; a schema cannot be held to.

    """

    type: str = "text"


class ChatRequest(Chosen, kw_only=True):
    """A conversation to go on with."""

    messages: Annotated[list[ChatMessage], Meta(description="the conversation so far")]
    max_completion_tokens: Annotated[
        AtLeastOne | None, Meta(description="the most tokens of an answer; as many as fit when left out")
    ] = None
    max_tokens: Annotated[AtLeastOne | None, Meta(description="the older name of `max_completion_tokens`")] = None
    logprobs: Annotated[bool, Meta(description="give the log probabilities of the answer's tokens")] = False
    top_logprobs: Annotated[TopLogprobs, Meta(description="of the so many likeliest tokens besides, at most 20")] = 0
    tools: Annotated[list[ToolSpec], Meta(description="functions that the model's template shows it")] = []
    tool_choice: Annotated[Any, Meta(description="`auto`, or `none` to keep the tools from the model")] = "auto"
    parallel_tool_calls: Annotated[bool, Meta(description="only true is possible: calls are the model's text")] = True
    response_format: Annotated[ResponseFormat, Meta(description="text, or one JSON object")] = ResponseFormat()
    chat_template_kwargs: Annotated[
        dict[str, Any], Meta(description="what else the model's template knows; an extension of the API")
    ] = {}
    safety_identifier: Annotated[str | None, Meta(description="accepted and not used, like `user`")] = None
    prompt_cache_key: Annotated[str | None, Meta(description="accepted and not used, like `user`")] = None


class ChatLogprobs(msgspec.Struct):
    """Log probabilities of an answer's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(msgspec.Struct):
    """An answer."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(msgspec.Struct):
    """One of the answers.

    Attributes:
        finish_reason: `stop` at the model's own end or a stop string, `length` at the most tokens.

    """

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(msgspec.Struct):
    """The answers.

    Attributes:
        created: when, in seconds since 1970.
        system_fingerprint: as long as it stays the same, the same seed gives the same text.

    """

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    system_fingerprint: str
    object: Literal["chat.completion"] = "chat.completion"


class ChatDelta(msgspec.Struct):
    """What an event adds to an answer: the role first, then text, and nothing at its end."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET


class ChatChunkChoice(msgspec.Struct):
    """One of the answers, as far as an event goes."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(msgspec.Struct):
    """One event; `data: [DONE]` is the last."""

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str
    usage: Usage = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class Chat:
    """The route and its handler."""

    def __init__(self, service: Service, model: Generating) -> None:
        self._service, self._model = service, model

    def routes(self) -> list[Route]:
        """What is served, if only to say that the model has no template."""
        words = [{"role": "user", "content": "Why is the sky blue?"}]
        return [
            Route(
                method="POST",
                path="/v1/chat/completions",
                handle=self.chat,
                api=STRICT,
                summary="Go on with a conversation",
                request=ChatRequest,
                response=ChatCompletion,
                event=ChatChunk,
                example={"model": self._service.manifest.model.id, "messages": words, "max_completion_tokens": 64},
                errors=ERRORS,
            )
        ]

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await self._service.body(request)
        asked = read(body, ChatRequest, REFUSED, "messages")
        check_model(self._service, asked.model)
        _check(asked)
        prompt = await self._model.prompts(len(body), lambda prompts: _prompt(asked, prompts))
        answers = self._model.submit([prompt], _wanted(asked))
        writer = ChoiceWriter(
            ChatChoices(asked.n, Spelling(self._model.detokenizer) if asked.logprobs else None),
            head("chatcmpl-", self._service.manifest),
            body=ChatCompletion,
            chunk=ChatChunk,
            include_usage=asked.include_usage,
        )
        return await answered(self._model, request, answers, writer, stream=asked.stream)


class ChatChoices:
    """Answers as chat writes them; satisfies `images.inside.openai.chunks.Choices`."""

    def __init__(self, answers: int, spelling: Spelling | None) -> None:
        self._answers, self._spelling = answers, spelling

    def begin(self) -> Iterator[ChatChunkChoice]:
        """The role of each answer."""
        return (ChatChunkChoice(index, ChatDelta("assistant", "", None)) for index in range(self._answers))

    def piece(self, index: int, piece: Piece) -> Iterator[ChatChunkChoice]:
        """The text that a piece adds, and behind it, by itself, why the answer ended."""
        if piece.text or piece.tokens:
            yield ChatChunkChoice(index, ChatDelta(content=piece.text), self._logprobs(piece.tokens))
        if piece.finish:
            yield ChatChunkChoice(index, ChatDelta(), None, finish_reason(piece.finish))

    def whole(self, found: Sequence[Whole]) -> list[ChatChoice]:
        """Answers that have ended."""
        return [
            ChatChoice(index, AnswerMessage(one.text), self._logprobs(one.tokens), one.finish)
            for index, one in enumerate(found)
        ]

    def _logprobs(self, tokens: Sequence[Any]) -> ChatLogprobs | None:
        return ChatLogprobs(self._spelling.logprobs(tokens)) if self._spelling else None


def check_tools(tools: Sequence[FunctionSpec], choice: Any, *, parallel: bool) -> None:
    """Raise a 400 `ApiError` for what would need calls to be understood."""
    if choice not in ("auto", "none"):
        raise refusal("tool_choice", FORCED)
    if any(tool.strict for tool in tools):
        raise refusal("tools.strict", STRICT_TOOLS)
    if not parallel:
        raise refusal("parallel_tool_calls", "a model's calls are not read out of its text, so not counted either")


def check_format(kind: str, param: str) -> None:
    """Raise a 400 `ApiError` for a form that an answer cannot be held to."""
    if kind not in {"text", "json_object"}:
        raise refusal(param, f"an answer cannot be held to {kind!r} here; text and json_object are taken")


def _check(asked: ChatRequest) -> None:
    asked.check_stream()
    check_tools([tool.function for tool in asked.tools], asked.tool_choice, parallel=asked.parallel_tool_calls)
    check_format(asked.response_format.type, "response_format")
    if asked.top_logprobs and not asked.logprobs:
        raise refusal("top_logprobs", "they come with logprobs only: set it, too", "invalid_input")
    if asked.max_tokens and asked.max_completion_tokens:
        raise refusal("max_tokens", "it is the older name of max_completion_tokens: set one", "invalid_input")


def _wanted(asked: ChatRequest) -> Wanted:
    return Wanted(
        param="messages",
        n=asked.n,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=asked.stops,
        sampling=sampling(asked, (*SAMPLING, *PENALTIES, "logprobs", "top_logprobs")),
        ignore_eos=asked.ignore_eos,
        json_object=asked.response_format.type == "json_object",
    )


def _prompt(asked: ChatRequest, prompts: Prompts) -> list[int]:
    messages = [shown(message, f"messages[{at}]") for at, message in enumerate(asked.messages)]
    tools = msgspec.to_builtins(asked.tools) if asked.tool_choice == "auto" else []
    return prompts.of_messages(messages, tools=tools, variables=asked.chat_template_kwargs)


def shown(message: ChatMessage, path: str) -> dict[str, Any]:
    """A message as templates know it. Raises `InputError` when it says nothing."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields["role"] = "system" if message.role == "developer" else message.role
    content = fields.get("content") or fields.pop("refusal", None)
    if content is None and not message.tool_calls and message.content is None:
        raise InputError(f"expected a text - at `$.{path}.content`")
    return fields | ({} if content is None else {"content": content})
