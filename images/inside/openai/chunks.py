"""Answers with choices, whole or in chunks: what chat and plain completions have in common."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from images.inside.generating import Answers, Generating
from images.inside.generation.answer import Piece
from images.inside.openai.common import Head
from images.inside.openai.sampled import DONE, CompletionUsage, Usage, Whole, data, error_event, streamed, usage_field
from images.inside.openai.sampled import whole as whole_answers
from images.inside.web import ApiError, Json


class Choices(Protocol):
    """How a route writes its answers."""

    def begin(self) -> Iterable[msgspec.Struct]:
        """What comes before the first token, a chunk each."""
        ...

    def piece(self, index: int, piece: Piece) -> Iterable[msgspec.Struct]:
        """What a piece of an answer adds, a chunk each."""
        ...

    def whole(self, found: Sequence[Whole]) -> Sequence[msgspec.Struct]:
        """Answers that have ended."""
        ...


class ChoiceWriter:
    """Answers as one body, or as chunks that end with `[DONE]`; satisfies `images.inside.openai.sampled.Writer`.

    Args:
        choices: the route's own part.
        written: what identifies the answers.
        body: the type of a whole answer.
        chunk: the type of a chunk.
        include_usage: whether a stream ends with what the request cost.

    """

    def __init__(
        self,
        choices: Choices,
        written: Head,
        *,
        body: Callable[..., msgspec.Struct],
        chunk: Callable[..., msgspec.Struct],
        include_usage: bool,
    ) -> None:
        self._choices, self._head, self._include_usage = choices, written, include_usage
        self._body, self._chunk = body, chunk
        self._usage = usage_field(wanted=include_usage)

    def begin(self) -> bytes:
        """What comes before the first token."""
        return self._chunks(self._choices.begin())

    def piece(self, index: int, piece: Piece) -> bytes:
        """What a piece of an answer adds."""
        return self._chunks(self._choices.piece(index, piece))

    def end(self, answers: Answers) -> bytes:
        """What it cost, if that was asked for."""
        cost = data(self._made(self._chunk, [], CompletionUsage.of(answers))) if self._include_usage else b""
        return cost + DONE

    def failed(self, error: ApiError) -> bytes:
        """The error in place of what would follow."""
        return error_event(error)

    def whole(self, found: Sequence[Whole], answers: Answers) -> msgspec.Struct:
        """The answers as one body."""
        return self._made(self._body, self._choices.whole(found), CompletionUsage.of(answers))

    def _chunks(self, choices: Iterable[msgspec.Struct]) -> bytes:
        return b"".join(data(self._made(self._chunk, [choice], self._usage)) for choice in choices)

    def _made(
        self, kind: Callable[..., msgspec.Struct], choices: Sequence[msgspec.Struct], usage: Usage
    ) -> msgspec.Struct:
        name, created, model, fingerprint = self._head
        return kind(id=name, created=created, model=model, choices=choices, system_fingerprint=fingerprint, usage=usage)


async def answered(
    model: Generating, request: Request, answers: Answers, writer: ChoiceWriter, *, stream: bool
) -> Response:
    """The answers, while they are made or when all have ended."""
    if stream:
        return streamed(model, request, answers, writer)
    return Json(writer.whole(await whole_answers(model, request, answers), answers))
