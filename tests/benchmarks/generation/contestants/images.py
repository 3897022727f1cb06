"""The target's images, one for each mode, as they are served."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from images.record import Record
from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation.arena import Arena, Entry
from tests.benchmarks.generation.asking import Server

PLACE = 1
TASK = "text-generation"


def entries(target: TargetSpec) -> list[Entry]:
    """One for each mode, the least exact last."""
    modes = [mode.name for mode in target.modes_for(TASK)]
    return [Entry(name=f"this image, {mode}", start=partial(_start, mode=mode), ours=True) for mode in modes]


@contextmanager
def _start(arena: Arena, mode: str) -> Iterator[Server]:
    record = arena.image(mode)
    with processes.image(arena.engine, record.image, arena.threads) as started:
        fields = {"model": record.info.manifest.model.id, "ignore_eos": True}
        yield Server(started, _crowd(record), fields)


def _crowd(record: Record) -> str:
    """What requests do that come at once: a runtime with one cache says so."""
    return "one after the other" if record.verdict.runtime.get("cache") == "one sequence" else "join one batch"
