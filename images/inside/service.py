"""What every served model has in common: whether it is ready, its limits, who is still listening."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request

from images.inside.errors import InputError
from images.inside.metrics import Metrics
from images.inside.records import Manifest
from images.inside.settings import Settings
from images.inside.text import Tokenizer
from images.inside.web import ApiError, Trace, read_body, unavailable

T = TypeVar("T")
M_contra = TypeVar("M_contra", contravariant=True)

ATTENTIVE_AFTER = 0.05
"""Seconds after which somebody looks whether the client is still there: most answers are ready before."""
INLINE_BYTES = 4096
"""A body up to this size is tokenised on the event loop: a thread's hand-over would cost more than the work."""

VOCABULARY = 1 << 31
"""Above any vocabulary, and below what tokenizers can look up."""


class State(StrEnum):
    """A server's life, in order."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Work(Protocol[M_contra]):
    """How one kind of model answers: `predicting.Predicting`, `generating.Generating`."""

    def probe(self, model: M_contra) -> None:
        """Warm the runtime up, and find out what only a run shows. Called before `begin`, on any thread."""
        ...

    def begin(self, model: M_contra) -> None:
        """Answer from now on. Called on the event loop."""
        ...

    async def end(self) -> None:
        """Stop the worker; requests that were cut off have been told."""
        ...


class Service:
    """The served model, whatever it does.

    Attributes:
        manifest: the artifact's.
        settings: the limits, among others.
        metrics: what is counted.
        state: whether it answers; see `begin` and `drain`.
        failed: told the reason when the model cannot answer any more; the server then ends.

    """

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        self.manifest, self.settings = manifest, settings
        self.metrics = Metrics(manifest)
        self.state = State.STARTING
        self.failed: Callable[[BaseException], None] = lambda _: None
        self._loaded = False
        # One thread: large bodies are tokenised one after the other and leave the CPU to the model.
        self._tokenizing = ThreadPoolExecutor(1, "tokenizer")

    @property
    def names(self) -> tuple[str, str]:
        """What clients may call the model: its id, and the id without its owner."""
        return self.manifest.model.id, self.manifest.model.id.rpartition("/")[2]

    def begin(self) -> None:
        """Say that requests are answered from now on."""
        self._loaded = True
        if self.state is State.STARTING:
            self._become(State.READY)

    def pause(self) -> None:
        """Say that requests cannot be answered now; `begin` says when they can again."""
        self._loaded = False
        if self.state is State.READY:
            self._become(State.STARTING)

    def drain(self) -> None:
        """Say that no more requests should come; those that come are still answered."""
        self._become(State.DRAINING)

    def end(self) -> None:
        """Stop tokenising."""
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

    @property
    def most_waiting(self) -> int:
        """How many inputs may wait for the model."""
        return self._most(self.settings.max_queue)

    def _most(self, inputs: int) -> int:
        """A bound on inputs: a picture's file is small, and what is made of it for the model is not."""
        return min(inputs, self.settings.max_images) if self.manifest.image else inputs

    async def body(self, request: Request) -> bytes:
        """A request's body, when this server can answer it: 503 before it is ready, 413 for too many bytes."""
        if not self._loaded:
            raise unavailable("the model is not ready yet", "not_ready")
        return await read_body(request, self.settings.max_body_bytes)

    def check_count(self, inputs: int, param: str) -> None:
        """Raise a 413 `ApiError` for more inputs than one request may have."""
        most = self._most(self.settings.max_inputs)
        if inputs > most:
            message = f"{param}: {inputs} inputs; one request may have {most}"
            raise ApiError(413, message, code="too_many_inputs", param=param)

    async def aside(self, size: int, call: Callable[[], T], *, inline: bool = True) -> T:
        """Run a request's preprocessing where it disturbs others least.

        Args:
            size: its body's, in bytes.
            call: the work.
            inline: whether a small body is little work.

        """
        if inline and size <= INLINE_BYTES:
            return call()
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, call)

    def attending(self, request: Request, cancel: Callable[[], object]) -> AbstractAsyncContextManager[None]:
        """Cancel a request's work when its client leaves, and when the block ends. The body must have been read.

        A cancelled block raises `ClientDisconnect` when its client has left, and a 503 `ApiError` when its time is up.
        """
        return _Attention(self, request, cancel)

    def _become(self, state: State) -> None:
        self.state = state
        self.metrics.ready.set(state is State.READY)


def note(request: Request, **figures: int) -> None:
    """Add figures to the request's log line."""
    trace: Trace = request.scope["modelyard"]
    trace.figures.update(figures)


def check_vocabulary(ids: Sequence[int], tokenizer: Tokenizer, param: str) -> None:
    """Raise `InputError` for an id that is no token: the model would fail on it, and with it a whole batch."""
    unknown = [i for i in ids if not 0 <= i < VOCABULARY]
    unknown = unknown or [i for i, token in zip(ids, tokenizer.tokens(ids), strict=True) if not token]
    if unknown:
        raise InputError(f"{unknown[0]} is not a token id of this model - at `$.{param}`")


class _Attention:
    """`Service.attending`: a task that watches costs more than the rest, so it begins when an answer takes long."""

    def __init__(self, service: Service, request: Request, cancel: Callable[[], object]) -> None:
        self._service, self._request, self._cancel = service, request, cancel
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(ATTENTIVE_AFTER, self._begin)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        left = self._watch is not None and self._watch.done() and not self._watch.cancelled()
        self._timer.cancel()
        if self._watch:
            self._watch.cancel()
        self._cancel()
        if isinstance(error, asyncio.CancelledError):
            if left:
                raise ClientDisconnect from None
            if self._service.state is State.DRAINING:
                raise unavailable("the server ended before the answer was ready", "ended") from None

    def _begin(self) -> None:
        self._watch = asyncio.create_task(_gone(self._request))
        self._watch.add_done_callback(lambda _: self._cancel())


async def _gone(request: Request) -> None:
    """Return when the client has left. The body must have been read."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
