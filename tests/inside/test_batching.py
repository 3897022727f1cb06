import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from images.inside.batching import CALL_TOKENS, Batch, Batcher, Entry, Job, Limits, Pending, QueueFullError, window
from images.inside.contract import Item, Outputs

AMPLE = Limits(batch_tokens=1000, queue_items=100, queue_tokens=1000)


def item(length: int, first: int = 1) -> Item:
    return Item((first, *range(1, length)), (0,) * length)


class Sums:
    """Adds a sequence's ids up; breaks on -1. Cleared, `open` holds it up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open, self.started = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, items: Sequence[Item]) -> list[Outputs]:
        self.batches.append([len(entry.ids) for entry in items])
        self.started.set()
        self.open.wait()
        if any(-1 in entry.ids for entry in items):
            raise ArithmeticError("-1 has no sum")
        return [{"sum": np.array([sum(entry.ids)], np.float32)} for entry in items]


@asynccontextmanager
async def batching(
    run: Sums, limits: Limits = AMPLE, observe: Callable[[Batch], None] = lambda _: None
) -> AsyncIterator[Batcher]:
    batcher = Batcher(run, limits, observe)
    batcher.start()
    try:
        yield batcher
    finally:
        run.open.set()
        batcher.stop()


async def hold_up(batcher: Batcher, run: Sums, first: Item) -> asyncio.Future[list[Outputs]]:
    """Have the worker busy with an item until `run.open` is set."""
    run.open.clear()
    held = batcher.submit([first])
    await asyncio.to_thread(run.started.wait)
    return held


def pending(lengths: Sequence[int], batch_tokens: int = 1000) -> Pending:
    made = Pending(batch_tokens)
    for entry in entries(lengths):
        made.add(entry)
    return made


def entries(lengths: Sequence[int]) -> list[Entry]:
    loop = asyncio.new_event_loop()
    done: asyncio.Future[list[Outputs]] = loop.create_future()
    loop.close()
    return Job([item(length) for length in lengths], done).entries


def lengths_of(batch: Sequence[Entry]) -> list[int]:
    return [entry.length for entry in batch]


def test_equal_lengths_fill_the_budget() -> None:
    assert window([10] * 50, 20, batch_tokens=100)[1] - window([10] * 50, 20, batch_tokens=100)[0] == 10


def test_padding_counts_against_the_budget() -> None:
    assert window([8, 10, 10], 2, batch_tokens=29) == (1, 3)


def test_an_item_larger_than_the_budget_runs_alone() -> None:
    assert window([5, 500, 600], 1, batch_tokens=100) == (1, 2)


def test_a_batch_holds_no_more_padding_than_a_call_of_its_own_costs() -> None:
    assert window([10, 10 + CALL_TOKENS, 10 + 2 * CALL_TOKENS + 1], 1, batch_tokens=1000) == (0, 2)


def test_the_neighbour_with_the_least_padding_joins_first() -> None:
    assert window([1, 20, 21], 1, batch_tokens=42) == (1, 3)


def test_the_oldest_is_in_the_next_batch_whatever_its_length() -> None:
    queue = pending([900, 10, 10, 10])

    assert lengths_of(queue.take()) == [900]


def test_a_batch_is_sorted_by_length() -> None:
    assert lengths_of(pending([12, 10, 11]).take()) == [10, 11, 12]


def test_dropped_entries_are_not_taken() -> None:
    queue, (first, second) = Pending(1000), entries([10, 10])
    queue.add(first)
    queue.add(second)

    queue.drop(first)

    assert queue.take() == [second]


def test_tokens_that_wait_are_counted() -> None:
    queue = pending([10, 500])

    queue.take()

    assert queue.tokens == 500


async def test_outputs_come_in_the_order_of_the_items() -> None:
    async with batching(Sums()) as batcher:
        outputs = await batcher.submit([item(3, first=9), item(1), item(2)])

    assert [row["sum"].tolist() for row in outputs] == [[12.0], [1.0], [2.0]]


async def test_no_items_have_no_outputs() -> None:
    async with batching(Sums()) as batcher:
        assert await batcher.submit([]) == []


async def test_a_lone_request_is_a_batch_at_once() -> None:
    run = Sums()
    async with batching(run) as batcher:
        await batcher.submit([item(3)])

    assert run.batches == [[3]]


async def test_what_gathers_while_a_batch_runs_is_the_next_batch() -> None:
    run = Sums()
    async with batching(run) as batcher:
        held = await hold_up(batcher, run, item(3))
        gathered = [batcher.submit([item(4)]) for _ in range(5)]
        run.open.set()
        await asyncio.gather(held, *gathered)

    assert run.batches == [[3], [4] * 5]


async def test_a_request_larger_than_a_batch_runs_in_several() -> None:
    run = Sums()
    async with batching(run, Limits(20, 100, 1000)) as batcher:
        await batcher.submit([item(10)] * 5)

    assert run.batches == [[10, 10], [10, 10], [10]]


async def test_an_error_fails_the_requests_of_its_batch_only() -> None:
    run = Sums()
    async with batching(run, Limits(10, 100, 1000)) as batcher:
        bad, good = batcher.submit([item(10, first=-1)]), batcher.submit([item(10)])
        results = await asyncio.gather(bad, good, return_exceptions=True)

    assert [type(result) for result in results] == [ArithmeticError, list]


async def test_a_failed_request_leaves_nothing_in_the_queue() -> None:
    run = Sums()
    async with batching(run, Limits(10, 100, 1000)) as batcher:
        with pytest.raises(ArithmeticError):
            await batcher.submit([item(10, first=-1), *[item(10)] * 20])

    assert run.batches == [[10]]


async def test_a_cancelled_request_leaves_the_queue() -> None:
    run = Sums()
    async with batching(run) as batcher:
        held = await hold_up(batcher, run, item(3))
        batcher.submit([item(4)] * 2).cancel()
        await asyncio.sleep(0)
        queued = batcher.queued
        run.open.set()
        await held

    assert (queued, run.batches) == ((0, 0), [[3]])


@pytest.mark.parametrize("limits", [Limits(1000, 2, 1000), Limits(1000, 100, 20)], ids=["items", "tokens"])
async def test_a_full_queue_refuses_with_the_time_to_wait(limits: Limits) -> None:
    run = Sums()
    async with batching(run, limits) as batcher:
        held = await hold_up(batcher, run, item(3))
        queued = batcher.submit([item(10)] * 2)
        with pytest.raises(QueueFullError) as refusal:
            batcher.submit([item(1)])
        run.open.set()
        await asyncio.gather(held, queued)

    assert refusal.value.retry_after >= 1


async def test_an_empty_queue_takes_a_request_larger_than_itself() -> None:
    async with batching(Sums(), Limits(1000, 2, 20)) as batcher:
        assert len(await batcher.submit([item(10)] * 3)) == 3


async def test_a_batch_is_reported_with_its_padding() -> None:
    seen: list[Batch] = []
    async with batching(Sums(), observe=seen.append) as batcher:
        await batcher.submit([item(10), item(8)])

    assert [batch[:3] for batch in seen] == [(2, 18, 20)]
