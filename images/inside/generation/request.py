"""One generation request, checked: the prompt's tokens, how to sample, when to stop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from images.inside.errors import InputError

MAX_STOPS = 16
MAX_STOP_LENGTH = 1024
MAX_TOP_LOGPROBS = 20

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_k": (0, 1 << 31),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "top_logprobs": (0, MAX_TOP_LOGPROBS),
    "seed": (-(1 << 63), (1 << 63) - 1),
}
"""The least and the largest value of each number in `Sampling`."""
BIAS_BOUND = 100
GREEDY_BELOW = 1e-5
"""A lower temperature leaves nothing but the most likely token, in float32."""


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is chosen. Raises `InputError`, with the parameter's name, for a value out of its bounds.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token, always.
        top_k: only so many of the most likely tokens; 0 for all.
        top_p: only the most likely tokens that together have this probability.
        min_p: only tokens that have at least this share of the most likely one's probability.
        repetition_penalty: divides (or multiplies, when negative) the logits of tokens in prompt and answer.
        frequency_penalty: subtracted from a token's logit for each time that the answer has it.
        presence_penalty: subtracted once from the logit of each token that the answer has.
        logit_bias: added to the logits of these token ids.
        seed: what chance starts from; None for another start each time.
        choice: which of several answers to one request this is: each has a chance of its own.
        logprobs: whether the chosen token's log probability is wanted.
        top_logprobs: of how many most likely tokens it is wanted besides.

    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    choice: int = 0
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # so that NaN is refused too
                raise InputError(f"expected a number from {least} to {most}, not {value} - at `$.{name}`")
        for token, bias in self.logit_bias.items():
            if not -BIAS_BOUND <= bias <= BIAS_BOUND:
                message = f"token {token}: expected a number from -{BIAS_BOUND} to {BIAS_BOUND}, not {bias}"
                raise InputError(f"{message} - at `$.logit_bias`")

    @property
    def greedy(self) -> bool:
        """Whether chance has no part in it."""
        return self.temperature < GREEDY_BELOW

    @property
    def shifts(self) -> bool:
        """Whether logits are changed before one is chosen."""
        penalties = (self.repetition_penalty - 1, self.frequency_penalty, self.presence_penalty)
        return bool(self.logit_bias) or any(penalties)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One answer to generate. Raises `InputError`, with the parameter's name, for what cannot be.

    Attributes:
        prompt: the prompt's token ids, special tokens included.
        max_tokens: the most tokens of the answer; None for as many as the context has room for.
        sampling: how tokens are chosen.
        stop: the answer ends before the first of these.
        json_object: whether the answer must be a JSON object (unless `max_tokens` cuts it).
        ignore_eos: go on past the model's own end, for benchmarks.
        param: what the API calls the prompt, for messages.

    """

    prompt: Sequence[int]
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    json_object: bool = False
    ignore_eos: bool = False
    param: str = "prompt"

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InputError(f"expected at least one token - at `$.{self.param}`")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InputError(f"expected at least 1, not {self.max_tokens} - at `$.max_tokens`")
        if len(self.stop) > MAX_STOPS:
            raise InputError(f"expected at most {MAX_STOPS} strings, not {len(self.stop)} - at `$.stop`")
        if any(not 0 < len(stop) <= MAX_STOP_LENGTH for stop in self.stop):
            raise InputError(f"expected strings of 1 to {MAX_STOP_LENGTH} characters - at `$.stop`")

    def check_vocabulary(self, vocabulary: int) -> None:
        """Raise `InputError` for an id that is no token: the model would fail on it, and with it a whole batch."""
        for param, ids in ((self.param, self.prompt), ("logit_bias", self.sampling.logit_bias)):
            if not 0 <= min(ids, default=0) <= max(ids, default=0) < vocabulary:
                wrong = next(i for i in ids if not 0 <= i < vocabulary)
                raise InputError(f"{wrong} is not a token id of this model - at `$.{param}`")

    def answer_tokens(self, context: int) -> int:
        """The most tokens that the answer may have. Raises `InputError` when the context has no room for them.

        Args:
            context: the most tokens of prompt and answer together.

        """
        got = len(self.prompt)
        if got >= context:
            message = f"the prompt has {got} tokens; with an answer of at least 1, at most {context} are taken"
            raise InputError(f"{message} - at `$.{self.param}`")
        if self.max_tokens is not None and got + self.max_tokens > context:
            message = (
                f"the prompt has {got} tokens and {self.max_tokens} more are asked for; {context} are taken in all"
            )
            raise InputError(f"{message} - at `$.max_tokens`")
        return context - got if self.max_tokens is None else self.max_tokens


def sampling(defaults: Mapping[str, float], given: Mapping[str, Any]) -> Sampling:
    """What a request says, and the model's own defaults for what it leaves out (or gives as None)."""
    known = {name.name: name.type for name in fields(Sampling)}
    usual = {name: int(value) if known[name] is int else value for name, value in defaults.items() if name in known}
    return Sampling(**{**usual, **{name: value for name, value in given.items() if value is not None}})
