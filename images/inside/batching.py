"""The queue in front of the model: what has gathered while one batch ran becomes the next.

Nobody waits on purpose: a lone request is a batch of its own, at once. One thread owns the runner; requests live on the
event loop. The two meet in a `Pending` under a lock, with a bell that is rung for each request, and in the loop's
thread-safe callback.
"""

import asyncio
import math
import queue
import threading
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from images.inside.contract import Input, Outputs

Run = Callable[[Sequence[Any]], Sequence[Outputs]]
CALL_TOKENS = 32
"""A call of the runner costs about as much as this many tokens, besides what its own tokens cost.

So a batch may carry as much padding and no more: beyond it, two calls are cheaper. An encoder of 22 million parameters
showed 20 on two cores.
"""
LONGEST_RETRY = 60


class Limits(NamedTuple):
    """How large a batch and the queue may grow; tokens of a batch count its padding."""

    batch_tokens: int
    queue_items: int
    queue_tokens: int


class Batch(NamedTuple):
    """What one call of the runner was, for the metrics."""

    items: int
    tokens: int
    padded_tokens: int
    seconds: float


class QueueFullError(Exception):
    """The queue has no room for a request; it is worth asking again after some seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Job:
    """One request's items on their way, and what came back of them."""

    def __init__(self, items: Sequence[Input], done: asyncio.Future[list[Outputs]]) -> None:
        self.entries = [Entry(item, self, index) for index, item in enumerate(items)]
        self.outputs: list[Outputs] = [{}] * len(items)
        self.missing = len(items)
        self.done = done

    def put(self, index: int, outputs: Outputs) -> None:
        """Keep one item's outputs; the last one finishes the job."""
        self.outputs[index] = outputs
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(self.outputs)

    def fail(self, error: Exception) -> None:
        """End the job with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)


class Entry:
    """One queued item of a job. Entries of equal length sort by arrival."""

    __slots__ = ("index", "item", "job", "length", "order", "queued")

    def __init__(self, item: Input, job: Job, index: int) -> None:
        self.item, self.job, self.index = item, job, index
        self.length, self.order, self.queued = item.length, 0, False

    def __lt__(self, other: "Entry") -> bool:
        return (self.length, self.order) < (other.length, other.order)


class Pending:
    """Queued entries, by arrival and by length. Not thread-safe."""

    def __init__(self, batch_tokens: int) -> None:
        self.tokens = 0
        self._batch_tokens = batch_tokens
        self._by_length: list[Entry] = []
        self._arrived: deque[Entry] = deque()
        self._orders = 0

    def __len__(self) -> int:
        return len(self._by_length)

    def add(self, entry: Entry) -> None:
        """Queue an entry behind all others."""
        self._orders += 1
        entry.order, entry.queued = self._orders, True
        self.tokens += entry.length
        self._arrived.append(entry)
        insort(self._by_length, entry)

    def drop(self, entry: Entry) -> None:
        """Forget an entry, if it is still queued."""
        if entry.queued:
            at = bisect_left(self._by_length, entry)
            self._remove(at, at + 1)

    def take(self) -> list[Entry]:
        """The next batch: the oldest entry, always, and those nearest to it in length."""
        while not self._arrived[0].queued:
            self._arrived.popleft()
        oldest = bisect_left(self._by_length, self._arrived[0])
        low, high = window([entry.length for entry in self._by_length], oldest, self._batch_tokens)
        return self._remove(low, high)

    def _remove(self, low: int, high: int) -> list[Entry]:
        gone = self._by_length[low:high]
        del self._by_length[low:high]
        for entry in gone:
            entry.queued = False
            self.tokens -= entry.length
        if not self._by_length:
            self._arrived.clear()
        return gone


def window(lengths: Sequence[int], at: int, batch_tokens: int) -> tuple[int, int]:
    """The slice of sorted lengths to run as one batch: `at` and its neighbours, the least padding first.

    It stops before the batch would hold more than `batch_tokens`, or more padding than a call of its own would cost.
    """
    low, high, padding = at, at + 1, 0
    while True:
        down = lengths[high - 1] - lengths[low - 1] if low > 0 else math.inf
        up = (lengths[high] - lengths[high - 1]) * (high - low) if high < len(lengths) else math.inf
        longest = lengths[high] if up <= down and up < math.inf else lengths[high - 1]
        if padding + min(up, down) > CALL_TOKENS or longest * (high - low + 1) > batch_tokens:
            return low, high
        low, high = (low, high + 1) if up <= down else (low - 1, high)
        padding += int(min(up, down))


class Batcher:
    """Runs items of many requests in batches on one worker thread.

    Args:
        run: runs items as one batch; called on the worker thread only.
        limits: the bounds of batches and of the queue.
        observe: told of each batch, on the event loop.

    """

    def __init__(self, run: Run, limits: Limits, observe: Callable[[Batch], None] = lambda _: None) -> None:
        self._run, self._limits, self._observe = run, limits, observe
        self._pending = Pending(limits.batch_tokens)
        # A condition would wake the worker before the lock is free, and send it to sleep again: half a request's cost.
        self._lock = threading.Lock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        # A daemon: a batch of a large model must not hold up a process that is told to end.
        self._worker = threading.Thread(target=self._work, name="runner", daemon=True)
        self._seconds_a_token = 0.0

    @property
    def queued(self) -> tuple[int, int]:
        """Items and tokens that wait."""
        return len(self._pending), self._pending.tokens

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def stop(self) -> None:
        """Let the worker end after the batch under way; what is queued is not run."""
        self._stopping = True
        self._bell.put(None)
        self._worker.join(timeout=1)

    def submit(self, items: Sequence[Input]) -> asyncio.Future[list[Outputs]]:
        """Outputs of items, in order, or what the runner raised for a batch with one of them.

        Cancelling the future drops those of its items that still wait. Raises `QueueFullError`.
        """
        done: asyncio.Future[list[Outputs]] = self._loop.create_future()
        job = Job(items, done)
        if items:
            self._admit(job)
            done.add_done_callback(lambda _: self._drop(job))
        else:
            done.set_result([])
        return done

    def check_room(self) -> None:
        """Raise `QueueFullError` when no request at all would be taken: worth knowing before its work begins."""
        if len(self._pending) and not self._fits(1, 1):
            raise QueueFullError(self._retry_after())

    def _admit(self, job: Job) -> None:
        tokens = sum(entry.length for entry in job.entries)
        with self._lock:
            # An empty queue takes any request, or one larger than the queue could never be served.
            if len(self._pending) and not self._fits(len(job.entries), tokens):
                raise QueueFullError(self._retry_after())
            for entry in job.entries:
                self._pending.add(entry)
        self._bell.put(None)

    def _fits(self, items: int, tokens: int) -> bool:
        held_items, held_tokens = self.queued
        return held_items + items <= self._limits.queue_items and held_tokens + tokens <= self._limits.queue_tokens

    def _retry_after(self) -> int:
        seconds = math.ceil(self._pending.tokens * self._seconds_a_token)
        return min(max(seconds, 1), LONGEST_RETRY)

    def _drop(self, job: Job) -> None:
        if job.missing:
            with self._lock:
                for entry in job.entries:
                    self._pending.drop(entry)

    def _work(self) -> None:
        while batch := self._next():
            started = time.perf_counter()
            try:
                outcome: Sequence[Outputs] | Exception = self._run([entry.item for entry in batch])
            except Exception as error:  # noqa: BLE001  # whatever it was, it belongs to this batch's requests
                outcome = error
                for entry in batch:
                    self._drop(entry.job)
            seconds = time.perf_counter() - started
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver, batch, outcome, seconds)

    def _next(self) -> list[Entry]:
        """The next batch, as soon as there is one; empty when it is time to stop."""
        while not self._stopping:
            with self._lock:
                if len(self._pending):
                    return self._pending.take()
            self._bell.get()
        return []

    def _deliver(self, batch: list[Entry], outcome: Sequence[Outputs] | Exception, seconds: float) -> None:
        if isinstance(outcome, Exception):
            for entry in batch:
                entry.job.fail(outcome)
        else:
            for entry, outputs in zip(batch, outcome, strict=True):
                entry.job.put(entry.index, outputs)
        self._record(batch, seconds)

    def _record(self, batch: list[Entry], seconds: float) -> None:
        tokens, longest = sum(entry.length for entry in batch), max(entry.length for entry in batch)
        latest = seconds / tokens
        self._seconds_a_token = latest if not self._seconds_a_token else 0.8 * self._seconds_a_token + 0.2 * latest
        self._observe(Batch(len(batch), tokens, longest * len(batch), seconds))
