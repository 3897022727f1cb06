"""`/v1/responses`, streamed: an answer as a series of typed events."""

from typing import Any

import msgspec

from images.inside.events import event
from images.inside.generating import Answers
from images.inside.generation.answer import Piece
from images.inside.openai.response_objects import Answer, OutputMessage, OutputText, ResponseBody, ResponseFailure
from images.inside.openai.sampled import ENCODE, TokenLogprob, Whole, finish_reason
from images.inside.web import ApiError


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


class ResponseWriter:
    """An answer as events."""

    def __init__(self, answer: Answer) -> None:
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
