"""What the routes that generate have in common: the fields that say how, usage, log probabilities, streaming."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request

from images.inside.events import EventStream
from images.inside.generating import Answers, Generating
from images.inside.generation.answer import Piece
from images.inside.generation.detokenize import REPLACEMENT, Detokenizer
from images.inside.generation.request import MAX_TOP_LOGPROBS, Finish
from images.inside.generation.sampling import Picked
from images.inside.openai.common import STRICT, Unsupported, error_body, refusal
from images.inside.web import ApiError, explain

ENCODE = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"
ERRORS = (400, 401, 404, 413, 415, 429, 500, 503)
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
PENALTIES = ("frequency_penalty", "presence_penalty", "logit_bias")
"""`Sampling`'s fields as requests spell them, too."""

AtLeastOne = Annotated[int, Meta(ge=1)]
TopLogprobs = Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)]
FinishReason = Literal["stop", "length"]

UNSUPPORTED: Mapping[str, Unsupported] = {
    "store": Unsupported("answers are not kept here", (False,)),
    "metadata": Unsupported("answers are not kept here, nor what is said of them", ({},)),
    "moderation": Unsupported("there is no moderation here"),
    "service_tier": Unsupported("there is one tier", ("auto", "default")),
    "prompt_cache_options": Unsupported("prompts are not cached here"),
    "prompt_cache_retention": Unsupported("prompts are not cached here", ("in_memory",)),
}
"""Fields of several routes that cannot be honoured."""


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How an answer is streamed.

    Attributes:
        include_usage: end with an event that has no choices and says what the request cost.
        include_obfuscation: padding against eavesdroppers; only false is possible.

    """

    include_usage: bool = False
    include_obfuscation: bool = False


class Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of every request for text."""

    model: Annotated[str, Meta(description="the served model's id, with or without its owner")]
    stream: Annotated[bool, Meta(description="send the answer while it is made, as server-sent events")] = False
    temperature: Annotated[
        float | None,
        Meta(description="divides the logits; 0 takes the most likely token. The model's own when left out"),
    ] = None
    top_p: Annotated[
        float | None, Meta(description="only the most likely tokens that together have this probability")
    ] = None
    top_k: Annotated[
        int | None, Meta(description="only so many of the most likely tokens, 0 for all; an extension of the API")
    ] = None
    min_p: Annotated[
        float | None,
        Meta(description="only tokens with this share of the likeliest one's probability; an extension of the API"),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        Meta(description="divides the logits of tokens in prompt and answer; an extension of the API"),
    ] = None
    seed: Annotated[int | None, Meta(description="the same seed gives the same text")] = None
    ignore_eos: Annotated[bool, Meta(description="go on past the model's own end; an extension of the API")] = False
    user: Annotated[str | None, Meta(description="accepted and not used, as the API defines it")] = None


class Chosen(Asked, kw_only=True):
    """The fields of requests that may have several answers: of chat and of plain completions."""

    n: Annotated[int, Meta(ge=1, description="answers to each prompt")] = 1
    stop: Annotated[
        str | list[str], Meta(description="the answer ends before the first of these; at most 16 strings")
    ] = []
    frequency_penalty: Annotated[
        float | None, Meta(description="subtracted from a token's logit for each time that the answer has it")
    ] = None
    presence_penalty: Annotated[
        float | None, Meta(description="subtracted once from the logit of each token that the answer has")
    ] = None
    logit_bias: Annotated[
        dict[int, float], Meta(description="added to the logits of these token ids, -100 to 100")
    ] = {}
    stream_options: Annotated[StreamOptions | None, Meta(description="how to stream; only with `stream`")] = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with what the request cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check_stream(self) -> None:
        """Raise a 400 `ApiError` for options that do not fit."""
        if self.stream_options and not self.stream:
            raise refusal("stream_options", "only a streamed answer has them: set stream", "invalid_input")
        check_obfuscation(self.stream_options)


def check_obfuscation(options: StreamOptions | None) -> None:
    """Raise a 400 `ApiError` when padding is asked for."""
    if options and options.include_obfuscation:
        raise refusal("stream_options.include_obfuscation", "events are not padded here")


def sampling(asked: Asked, names: Sequence[str], **more: Any) -> dict[str, Any]:
    """What a request says of `Sampling`'s fields."""
    return {name: getattr(asked, name) for name in names} | more


class CompletionUsage(msgspec.Struct):
    """What the request cost.

    Attributes:
        prompt_tokens: tokens of all prompts, special tokens included; each counts once, however many answers it has.
        completion_tokens: tokens of all answers, the ones that end them included.
        total_tokens: both together.

    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, answers: Answers) -> "CompletionUsage":
        """What answers cost so far."""
        return cls(answers.prompt_tokens, answers.generated, answers.prompt_tokens + answers.generated)


Usage = CompletionUsage | None | UnsetType
"""In a chunk: set in the last one, null before it, and left out when it was not asked for."""


class TopLogprob(msgspec.Struct):
    """A token that might have been chosen.

    Attributes:
        token: its text.
        logprob: its log probability before penalties and temperature.
        bytes: its text as UTF-8, whole also where the token is part of a character.

    """

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct):
    """A token of the answer.

    Attributes:
        token: its text.
        logprob: its log probability before penalties and temperature.
        bytes: its text as UTF-8, whole also where the token is part of a character.
        top_logprobs: the most likely tokens in its place, the likeliest first.

    """

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Spelling:
    """Tokens as texts and bytes, remembered: few tokens make up most of what log probabilities are asked of."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._detokenizer = detokenizer
        self._known: dict[int, tuple[str, list[int]]] = {}

    def of(self, token: int) -> tuple[str, list[int]]:
        """A token's text and its bytes."""
        if token not in self._known:
            text = self._detokenizer.token_text(token)
            self._known[token] = (text, list(self._detokenizer.token_bytes(token)))
        return self._known[token]

    def escaped(self, token: int) -> str:
        """A token's text; part of a character as the bytes it is, as plain completions write it."""
        text, spelled = self.of(token)
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled) if REPLACEMENT in text else text

    def logprobs(self, tokens: Sequence[Picked]) -> list[TokenLogprob]:
        """Tokens as chat and responses show them."""
        return [self._logprob(picked) for picked in tokens]

    def _logprob(self, picked: Picked) -> TokenLogprob:
        (text, spelled), logprob = self.of(picked.token), picked.logprob or 0.0
        top = [TopLogprob(self.of(token)[0], value, self.of(token)[1]) for token, value in picked.top]
        return TokenLogprob(text, logprob, spelled, top)


@dataclass
class Whole:
    """One answer, put together."""

    text: str = ""
    tokens: list[Picked] = field(default_factory=list)
    finish: FinishReason = "stop"


def finish_reason(finish: Finish) -> FinishReason:
    """Why an answer ended, as the API says it."""
    return "length" if finish is Finish.LENGTH else "stop"


async def whole(model: Generating, request: Request, answers: Answers) -> list[Whole]:
    """The answers when all have ended. Raises `ClientDisconnect` when nobody waits for them any more."""
    found = [Whole() for _ in range(answers.count)]
    async with model.attending(request, answers), aclosing(answers.pieces()) as pieces:
        async for index, piece in pieces:
            found[index].text += piece.text
            found[index].tokens += piece.tokens
            if piece.finish:
                found[index].finish = finish_reason(piece.finish)
    return found


class Writer(Protocol):
    """How a route puts answers into events. What is returned is sent as it is."""

    def begin(self) -> bytes:
        """What comes before the first token."""
        ...

    def piece(self, index: int, piece: Piece) -> bytes:
        """What a piece of an answer adds."""
        ...

    def end(self, answers: Answers) -> bytes:
        """What comes after the last token."""
        ...

    def failed(self, error: ApiError) -> bytes:
        """How an error ends the stream."""
        ...


def streamed(model: Generating, request: Request, answers: Answers, writer: Writer) -> EventStream:
    """The answers while they are made."""

    def failed(error: Exception) -> bytes:
        return writer.failed(explain(error, STRICT, request.scope["modelyard"]))

    return EventStream(_events(answers, writer), model.attending(request, answers), failed)


async def _events(answers: Answers, writer: Writer) -> AsyncGenerator[bytes, None]:
    yield writer.begin()
    async with aclosing(answers.pieces()) as pieces:
        async for index, piece in pieces:
            if data := writer.piece(index, piece):
                yield data
    yield writer.end(answers)


def data(body: msgspec.Struct) -> bytes:
    """A chunk as an event without a name."""
    return b"data: " + ENCODE(body) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """An error as the last event of a stream of chunks; `[DONE]` would say that all went well."""
    return data(error_body(error))


def usage_field(*, wanted: bool) -> Usage:
    """The usage of a chunk that is not the last."""
    return None if wanted else UNSET
