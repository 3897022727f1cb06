"""A model that predicts: one call of the runner answers a whole batch of inputs."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from images.inside import modality, tasks
from images.inside.batching import Batcher, Limits
from images.inside.contract import Input, Outputs
from images.inside.loaded import Loaded
from images.inside.metrics import PredictingMetrics
from images.inside.service import Service, note

T = TypeVar("T")


class Predicting:
    """The model behind its queue. `prepare` and `run` may be called once `Service.body` has let a request in.

    Attributes:
        task: what `/predict` does.
        sample: outputs for one input of the task's suite: what a row of each output looks like.

    """

    def __init__(self, service: Service) -> None:
        self.task = tasks.load(service.manifest.task)
        self.sample: Outputs = {}
        self._service, self._manifest = service, service.manifest
        self.modality = modality.of(service.manifest)
        self._metrics = PredictingMetrics(service.metrics.registry, self.modality.unit)
        self._processor: Any
        self._batcher: Batcher | None = None

    def probe(self, model: Loaded) -> None:
        """Run one input of the suite."""
        _, payload = self.task.suite(self._manifest.mask_token)[0]
        items = model.prepare(payload).items
        self.sample = self.modality.predict(model.runner, items[:1], self._manifest)[0]

    def begin(self, model: Loaded) -> None:
        """Start the queue's worker."""
        settings = self._service.settings
        limits = Limits(settings.max_batch_tokens, self._service.most_waiting, settings.max_queue_tokens)
        predict, runner, manifest = self.modality.predict, model.runner, self._manifest
        self._processor = model.processor
        self._batcher = Batcher(lambda items: predict(runner, items, manifest), limits, self._metrics.batch)
        self._metrics.watch(self._batcher)
        self._batcher.start()

    async def end(self) -> None:
        """Stop the worker; on a thread, so that requests that were cut off can still be answered."""
        if self._batcher:
            await asyncio.to_thread(self._batcher.stop)

    async def prepare(self, size: int, prepare: Callable[[Any], T]) -> T:
        """A request's preprocessing; `size` is its body's, in bytes. Raises `QueueFullError` when it is useless.

        Args:
            size: of the body, in bytes.
            prepare: is given what the modality loads, such as a `Tokenizer`.

        """
        self._queue.check_room()
        return await self._service.aside(size, lambda: prepare(self._processor), inline=self.modality.inline)

    async def run(self, request: Request, items: Sequence[Input]) -> list[Outputs]:
        """The outputs of items. When the client leaves, its items leave the queue and `ClientDisconnect` is raised."""
        note(request, inputs=len(items), **{self.modality.unit: count_tokens(items)})
        outputs = self._queue.submit(items)
        async with self._service.attending(request, outputs.cancel):
            return await outputs

    @property
    def _queue(self) -> Batcher:
        assert self._batcher  # noqa: S101  # `Service.body` lets no request in before `begin`
        return self._batcher


def count_tokens(items: Sequence[Input]) -> int:
    """All tokens of some items, special ones included; or their patches."""
    return sum(item.length for item in items)
