"""Continuous batching over a generator: one thread owns it, requests come from the event loop and may join at any step.

The two meet in a list under a lock, and in one thread-safe callback a step, which carries what every answer got.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from images.inside.batching import LONGEST_RETRY, QueueFullError
from images.inside.generation.answer import Answer, Wording
from images.inside.generation.contract import Generator
from images.inside.generation.detokenize import Detokenizer
from images.inside.generation.json_object import JsonObject
from images.inside.generation.request import Request
from images.inside.generation.scheduler import Limits, Load, Scheduler, Sequence, Step
from images.inside.generation.stops import Stops

_RECENT = 0.2
"""The newest answer's share of the running average of how long one takes."""


class GenerationLoop:
    """Generates the answers to many requests at once. Create it on the event loop.

    Args:
        generator: loaded; nobody else may call it from `start` on.
        detokenizer: its tokenizer's.
        eos: ids that end an answer.
        vocabulary: how many token ids there are.
        limits: how much may run and wait at once.
        observe: told of each step, on the event loop.

    Attributes:
        context: the most tokens of prompt and answer together.

    """

    def __init__(
        self,
        generator: Generator,
        detokenizer: Detokenizer,
        *,
        eos: Collection[int],
        vocabulary: int,
        limits: Limits,
        observe: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self.context = min(generator.context, limits.kv_tokens)
        self._detokenizer, self._eos, self._vocabulary = detokenizer, frozenset(eos), vocabulary
        self._scheduler, self._limits, self._observe = Scheduler(generator, limits), limits, observe
        self._room = generator.slots + limits.queue
        self._changed = threading.Condition()
        self._arrived: list[Sequence] = []
        self._stopping = False
        self._open: set[Sequence] = set()  # answers that have not ended; touched on the event loop only
        self._idle = asyncio.Event()
        self._idle.set()
        self._load = self._scheduler.load
        self._answer_seconds = 0.0
        self._slots = generator.slots
        self._loop = asyncio.get_running_loop()
        # A daemon: a step of a large model must not hold up a process that is told to end.
        self._worker = threading.Thread(target=self._work, name="generator", daemon=True)

    @property
    def load(self) -> Load:
        """What the slots hold, as of the step under way."""
        return self._load

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(sequence.slot < 0 for sequence in tuple(self._open))

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def stop(self) -> None:
        """Let the worker end after the step under way; open answers end as cancelled."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._worker.is_alive():
            self._worker.join(timeout=1)
        for sequence in list(self._open):
            sequence.answer.cancel()

    async def drain(self) -> None:
        """Return when every answer has ended."""
        await self._idle.wait()

    def check_room(self) -> None:
        """Raise `QueueFullError` when no request would be taken: worth knowing before its work begins."""
        if len(self._open) >= self._room:
            raise QueueFullError(self._retry_after())

    def submit(self, request: Request) -> Answer:
        """The answer, as it comes; `Answer.cancel` ends it early.

        Raises:
            InputError: the prompt and what is asked for are longer than the context, or an id is no token.
            QueueFullError: too many requests wait already.

        """
        request.check_vocabulary(self._vocabulary)
        capacity = request.answer_tokens(self.context)
        self.check_room()
        stream = self._detokenizer.stream(request.prompt)
        wording = Wording(stream, Stops(request.stop), logprobs=request.sampling.logprobs)
        json = JsonObject(self._detokenizer.token_bytes) if request.json_object else None
        sequence = Sequence(request, capacity, self._eos, wording, json)
        sequence.answer = Answer(len(request.prompt), lambda: self._cancel(sequence))
        self._open.add(sequence)
        self._idle.clear()
        with self._changed:
            self._arrived.append(sequence)
            self._changed.notify()
        return sequence.answer

    def _cancel(self, sequence: Sequence) -> None:
        self._forget(sequence)
        with self._changed:
            sequence.cancelled = True
            self._changed.notify()

    def _forget(self, sequence: Sequence) -> None:
        self._open.discard(sequence)
        if not self._open:
            self._idle.set()

    def _retry_after(self) -> int:
        """When a slot will be free for one more, if answers go on taking as long as the latest took."""
        ahead = len(self._open) - self._slots + 1
        return min(max(math.ceil(self._answer_seconds * ahead / self._slots), 1), LONGEST_RETRY)

    def _work(self) -> None:
        while self._wait():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001  # a fault of no request: nobody must wait for ever
                self._tell(self._fail, self._scheduler.clear(), error)
                self._load = self._scheduler.load
        self._scheduler.clear()

    def _wait(self) -> bool:
        """Wait for something to do; False when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._arrived or not self._scheduler.idle)
            self._scheduler.waiting.extend(self._arrived)
            self._arrived.clear()
        return not self._stopping

    def _round(self) -> None:
        self._scheduler.admit()
        self._load = self._scheduler.load
        for run in (self._scheduler.read, self._scheduler.answer):
            step = run()
            self._load = self._scheduler.load
            if step:
                step.load = self._load
                self._tell(self._deliver, step)

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(function, *values)

    def _deliver(self, step: Step) -> None:
        for sequence, event in step.events:
            if isinstance(event, Exception):
                self._fail([sequence], event)
            else:
                sequence.answer.put(event)
                if event.finish:
                    self._finished(sequence)
        self._observe(step)

    def _finished(self, sequence: Sequence) -> None:
        self._forget(sequence)
        seconds = sequence.latest - sequence.arrived
        before = self._answer_seconds or seconds
        self._answer_seconds = (1 - _RECENT) * before + _RECENT * seconds

    def _fail(self, sequences: list[Sequence], error: Exception) -> None:
        for sequence in sequences:
            sequence.answer.fail(error)
            self._forget(sequence)
