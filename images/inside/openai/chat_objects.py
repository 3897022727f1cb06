"""What `/v1/chat/completions` is asked and answers: the request, the whole answer, and one event of a stream."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from images.inside.openai.sampled import (
    AtLeastOne,
    Chosen,
    CompletionUsage,
    FinishReason,
    TokenLogprob,
    TopLogprobs,
    Usage,
)


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
