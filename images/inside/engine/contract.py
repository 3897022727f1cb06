"""The contract between a target whose runtime is a server of its own and what starts and asks it.

Both speak of token ids only. Text, templates, stop strings and limits are the business of the server in front.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from images.inside.generation.request import Sampling
from images.inside.records import Manifest


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the operator asks of an engine.

    Attributes:
        threads: of the CPU.
        slots: answers that it is to generate at once.
        kv_tokens: tokens of all sequences under way; 0 for what the memory has room for.
        device: such as `cpu`; empty for what the target is made for.

    """

    threads: int
    slots: int
    kv_tokens: int = 0
    device: str = ""


class Ask(NamedTuple):
    """One answer to generate.

    Attributes:
        prompt: its tokens, special ones included.
        max_tokens: the most tokens of the answer.
        sampling: how each is chosen.
        eos: ids that end it; none to go on past the model's own end.

    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    eos: Sequence[int]


class Heard(NamedTuple):
    """What an engine says with one line of its stream.

    Attributes:
        tokens: ids that it adds to the answer.
        ended: whether it is the last.

    """

    tokens: tuple[int, ...] = ()
    ended: bool = False


class EngineError(Exception):
    """The engine failed at a request, or has gone; the message is its own."""


class Wire(Protocol):
    """How an engine is asked over HTTP.

    Attributes:
        path: of the route that generates, streamed as server-sent events.
        health: of the route that answers 200 while the engine is well.
        honours: the fields of `Sampling` that it honours.

    """

    path: str
    health: str
    honours: frozenset[str]

    def body(self, ask: Ask) -> bytes:
        """The request for one answer."""
        ...

    def hear(self, line: str) -> Heard | None:
        """What a line of the stream says; None for nothing. Raises `EngineError` when it says what went wrong."""
        ...


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How an engine is started, and how much it takes.

    Attributes:
        argv: its command line; `{port}` stands for the port of the loopback that it is to listen on.
        environment: what it gets on top of this process's environment.
        wire: how it is asked.
        slots: answers that it generates at once.
        kv_tokens: tokens of all sequences under way that its cache has room for.
        page: tokens by which a sequence takes room in the cache.
        context: the most tokens of one sequence.
        facts: device, dtype and what else explains its speed.

    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    wire: Wire
    slots: int
    kv_tokens: int
    page: int
    context: int
    facts: Mapping[str, str] = field(default_factory=dict)


class Prepare(Protocol):
    """`targets.<name>.engine.prepare`."""

    def __call__(self, artifact: Path, manifest: Manifest, wish: Wish) -> Launch:
        """Look at the machine and decide. Raises `CannotRunError` naming what this machine lacks."""
        ...
