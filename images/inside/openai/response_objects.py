"""What `/v1/responses` is asked and answers: the request, and the answer as the API's objects."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from images.inside.generating import Answers
from images.inside.openai.chat_objects import FunctionSpec
from images.inside.openai.common import new_id
from images.inside.openai.sampled import (
    Asked,
    AtLeastOne,
    FinishReason,
    Spelling,
    StreamOptions,
    TokenLogprob,
    TopLogprobs,
    Whole,
)

LOGPROBS = "message.output_text.logprobs"
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


class Answer:
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


def status_of(finish: FinishReason) -> Literal["completed", "incomplete"]:
    """The status of an answer that ended so."""
    return "incomplete" if finish == "length" else "completed"
