"""One model behind all the APIs: whether it is ready, its limits, its queue."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from images.inside import collate, tasks
from images.inside.batching import Batcher, Limits
from images.inside.contract import InputError, Item, Manifest, Outputs
from images.inside.loaded import Loaded
from images.inside.metrics import Metrics
from images.inside.settings import Settings
from images.inside.text import Tokenizer
from images.inside.web import ApiError, Trace, read_body

T = TypeVar("T")

INLINE_BYTES = 4096
"""A body up to this size is tokenised on the event loop: a thread's hand-over would cost more than the work."""

VOCABULARY = 1 << 31
"""Above any vocabulary, and below what tokenizers can look up."""


class State(StrEnum):
    """A server's life, in order."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Service:
    """The served model.

    Attributes:
        manifest: the artifact's.
        task: what `/predict` does.
        settings: the limits, among others.
        metrics: what is counted.
        state: whether it answers; see `begin` and `drain`.
        sample: outputs for one input of the task's suite: what a row of each output looks like.

    """

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        self.manifest, self.settings = manifest, settings
        self.task = tasks.load(manifest.task)
        self.metrics = Metrics(manifest)
        self.state = State.STARTING
        self.sample: Outputs = {}
        self._model: Loaded | None = None
        self._batcher: Batcher | None = None
        # One thread: large bodies are tokenised one after the other and leave the CPU to the model.
        self._tokenizing = ThreadPoolExecutor(1, "tokenizer")

    @property
    def names(self) -> tuple[str, str]:
        """What clients may call the model: its id, and the id without its owner."""
        return self.manifest.model.id, self.manifest.model.id.rpartition("/")[2]

    def probe(self, model: Loaded) -> Outputs:
        """The model's outputs for one input. Warms the runtime up; call it before `begin`, on any thread."""
        _, payload = self.task.suite(self.manifest.mask_token)[0]
        items = self.task.prepare(payload, model.tokenizer, self.manifest).items
        return collate.predict(model.runner, items[:1], self.manifest)[0]

    def begin(self, model: Loaded, sample: Outputs) -> None:
        """Answer from now on. Call it on the event loop."""
        limits = Limits(self.settings.max_batch_tokens, self.settings.max_queue, self.settings.max_queue_tokens)
        run = partial(collate.predict, model.runner, manifest=self.manifest)
        self._model, self.sample = model, sample
        self._batcher = Batcher(run, limits, self.metrics.batch)
        self._batcher.start()
        self.metrics.watch_queue(lambda batcher=self._batcher: batcher.queued)  # type: ignore[misc]
        if self.state is State.STARTING:
            self._become(State.READY)

    def drain(self) -> None:
        """Say that no more requests should come; those that come are still answered."""
        self._become(State.DRAINING)

    def end(self) -> None:
        """Stop the worker."""
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        if self._batcher:
            self._batcher.stop()

    async def body(self, request: Request) -> bytes:
        """A request's body, when this server can answer it: 503 before it is ready, 413 for too many bytes."""
        self._loaded()
        return await read_body(request, self.settings.max_body_bytes)

    def check_count(self, inputs: int, param: str) -> None:
        """Raise a 413 `ApiError` for more inputs than one request may have."""
        if inputs > self.settings.max_inputs:
            message = f"{param}: {inputs} inputs; one request may have {self.settings.max_inputs}"
            raise ApiError(413, message, code="too_many_inputs", param=param)

    async def prepare(self, size: int, prepare: Callable[[Tokenizer], T]) -> T:
        """Run a request's tokenisation where it disturbs others least; `size` is its body's, in bytes."""
        model, batcher = self._loaded()
        batcher.check_room()
        if size <= INLINE_BYTES:
            return prepare(model.tokenizer)
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, prepare, model.tokenizer)

    async def run(self, request: Request, items: Sequence[Item]) -> list[Outputs]:
        """The outputs of items. When the client leaves, its items leave the queue and `ClientDisconnect` is raised."""
        _, batcher = self._loaded()
        self._note(request, items)
        outputs = batcher.submit(items)
        gone = asyncio.create_task(_gone(request))
        gone.add_done_callback(lambda _: outputs.cancel())
        try:
            return await outputs
        except asyncio.CancelledError:
            if gone.done() and not gone.cancelled():
                raise ClientDisconnect from None
            if self.state is State.DRAINING:
                raise _unavailable("the server ended before the answer was ready", "ended") from None
            raise
        finally:
            gone.cancel()

    def _loaded(self) -> tuple[Loaded, Batcher]:
        if self._model is None or self._batcher is None:
            raise _unavailable("the model is not ready yet", "not_ready")
        return self._model, self._batcher

    def _become(self, state: State) -> None:
        self.state = state
        self.metrics.ready.set(state is State.READY)

    @staticmethod
    def _note(request: Request, items: Sequence[Item]) -> None:
        trace: Trace = request.scope["modelyard"]
        trace.figures.update(inputs=len(items), tokens=count_tokens(items))


def count_tokens(items: Sequence[Item]) -> int:
    """All tokens of some items, special ones included."""
    return sum(len(item.ids) for item in items)


def check_vocabulary(ids: Sequence[int], tokenizer: Tokenizer, param: str) -> None:
    """Raise `InputError` for an id that is no token: the model would fail on it, and with it a whole batch."""
    unknown = [i for i in ids if not 0 <= i < VOCABULARY]
    unknown = unknown or [i for i, token in zip(ids, tokenizer.tokens(ids), strict=True) if not token]
    if unknown:
        raise InputError(f"{unknown[0]} is not a token id of this model - at `$.{param}`")


def _unavailable(message: str, code: str) -> ApiError:
    return ApiError(503, message, code=code, headers={"retry-after": "1"})


async def _gone(request: Request) -> None:
    """Return when the client has left. The body must have been read."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
