"""`/v1/completions`: plain texts go on."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from images.inside.generating import Generating, Wanted
from images.inside.generation.answer import Piece
from images.inside.generation.sampling import Picked
from images.inside.openai.chunks import ChoiceWriter, answered
from images.inside.openai.common import STRICT, Unsupported, check_model, head, read
from images.inside.openai.inputs import Input, read_input
from images.inside.openai.sampled import (
    ERRORS,
    PENALTIES,
    SAMPLING,
    UNSUPPORTED,
    AtLeastOne,
    Chosen,
    FinishReason,
    Spelling,
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
    "best_of": Unsupported("answers are not ranked here: ask for n and choose", (1,)),
    "echo": Unsupported("the prompt is not repeated here", (False,)),
    "suffix": Unsupported("this model goes on after a text, it does not fill in", ("",)),
}

CONTINUES = 0b10
"""The upper two bits of UTF-8's bytes that do not begin a character."""


class CompletionRequest(Chosen, kw_only=True):
    """Texts to go on with."""

    prompt: Annotated[
        Input,
        Meta(description="a text, a list of texts, a text's token ids (special tokens included), or a list of these"),
    ]
    max_tokens: Annotated[AtLeastOne, Meta(description="the most tokens of an answer")] = 16
    logprobs: Annotated[
        TopLogprobs | None,
        Meta(description="give the log probabilities of the answer's tokens and of the so many likeliest"),
    ] = None


class CompletionLogprobs(msgspec.Struct):
    """Log probabilities of an answer's tokens, one entry a token.

    Attributes:
        tokens: their texts.
        token_logprobs: theirs.
        top_logprobs: those of the likeliest tokens by text, the chosen one among them.
        text_offset: where in the answer each begins.

    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    """One of the answers; with several prompts, those to the first come first.

    Attributes:
        finish_reason: `stop` at the model's own end or a stop string, `length` at the most tokens.

    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(msgspec.Struct):
    """The answers; streamed, one event of them, and `data: [DONE]` is the last.

    Attributes:
        created: when, in seconds since 1970.
        system_fingerprint: as long as it stays the same, the same seed gives the same text.

    """

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str
    usage: Usage = UNSET
    object: Literal["text_completion"] = "text_completion"


class Completions:
    """The route and its handler."""

    def __init__(self, service: Service, model: Generating) -> None:
        self._service, self._model = service, model

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            Route(
                method="POST",
                path="/v1/completions",
                handle=self.complete,
                api=STRICT,
                summary="Go on with a text",
                request=CompletionRequest,
                response=Completion,
                event=Completion,
                example={"model": self._service.manifest.model.id, "prompt": "Once upon a time", "max_tokens": 32},
                errors=ERRORS,
            )
        ]

    async def complete(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        body = await self._service.body(request)
        asked = read(body, CompletionRequest, REFUSED)
        check_model(self._service, asked.model)
        asked.check_stream()
        prompts = await self._model.prompts(len(body), lambda prompts: _prompts(asked.prompt, prompts))
        answers = self._model.submit(prompts, _wanted(asked))
        choices = CompletionChoices([_Logprobs(self._model, asked.logprobs) for _ in range(answers.count)])
        written = head("cmpl-", self._service.manifest)
        writer = ChoiceWriter(choices, written, body=Completion, chunk=Completion, include_usage=asked.include_usage)
        return await answered(self._model, request, answers, writer, stream=asked.stream)


class _Logprobs:
    """One answer's log probabilities; it knows how far the answer is."""

    def __init__(self, model: Generating, top: int | None) -> None:
        self._spelling = None if top is None else Spelling(model.detokenizer)
        self._top, self._offset = top, 0

    def of(self, tokens: Sequence[Picked]) -> CompletionLogprobs | None:
        """Of the answer's next tokens."""
        if self._spelling is None:
            return None
        texts = [self._spelling.escaped(picked.token) for picked in tokens]
        top = [self._likeliest(picked, self._spelling) for picked in tokens] if self._top else None
        offsets = [self._advance(self._spelling.of(picked.token)[1]) for picked in tokens]
        return CompletionLogprobs(texts, [picked.logprob or 0.0 for picked in tokens], top, offsets)

    @staticmethod
    def _likeliest(picked: Picked, spelling: Spelling) -> dict[str, float]:
        chosen = (picked.token, picked.logprob or 0.0)
        return {spelling.escaped(token): value for token, value in reversed([*picked.top, chosen])}

    def _advance(self, spelled: Sequence[int]) -> int:
        """Where a token begins: at a character that begins in it, or at the one that it is a further part of."""
        before = self._offset
        begun = [byte >> 6 != CONTINUES for byte in spelled]
        self._offset += sum(begun)
        return before if begun[:1] != [False] else max(before - 1, 0)


class CompletionChoices:
    """Answers as plain completions write them; satisfies `images.inside.openai.chunks.Choices`."""

    def __init__(self, words: Sequence[_Logprobs]) -> None:
        self._words = words

    def begin(self) -> tuple[CompletionChoice, ...]:
        """Nothing: a text has no role."""
        return ()

    def piece(self, index: int, piece: Piece) -> Iterator[CompletionChoice]:
        """The text that a piece adds, and why the answer ended, if it did."""
        finish = finish_reason(piece.finish) if piece.finish else None
        yield CompletionChoice(index, piece.text, self._words[index].of(piece.tokens), finish)

    def whole(self, found: Sequence[Whole]) -> list[CompletionChoice]:
        """Answers that have ended."""
        return [
            CompletionChoice(index, one.text, self._words[index].of(one.tokens), one.finish)
            for index, one in enumerate(found)
        ]


def _prompts(given: Input, prompts: Prompts) -> list[list[int]]:
    texts, tokens = read_input(given, "prompt")
    return [prompts.of_text(text) for text in texts] or tokens


def _wanted(asked: CompletionRequest) -> Wanted:
    top = {"logprobs": asked.logprobs is not None, "top_logprobs": asked.logprobs or 0}
    return Wanted(
        param="prompt",
        n=asked.n,
        max_tokens=asked.max_tokens,
        stop=asked.stops,
        sampling=sampling(asked, (*SAMPLING, *PENALTIES), **top),
        ignore_eos=asked.ignore_eos,
    )
