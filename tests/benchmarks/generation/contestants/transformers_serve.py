"""`transformers serve`, float32: as it is, and with continuous batching on a cache of a bounded size."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from images import locks
from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation.arena import Arena, Entry
from tests.benchmarks.generation.asking import Server

PLACE = 5
BATCHING = ("--continuous-batching", "--cb-block-size=256", "--cb-num-blocks=64", "--cb-max-batch-tokens=512")
"""Without these bounds its cache takes most of the machine's memory."""


def entries(target: TargetSpec) -> list[Entry]:
    """Both, for targets with the model builder, whose lock has a transformers that serves, or whose images run it."""
    run = {wheel.name for wheel in locks.parse(target.lock("run"))}
    if "genai" not in target.exporters and "transformers" not in run:
        return []
    return [
        Entry(name="transformers serve, PASSIVE", start=partial(_start, crowd="one after the other")),
        Entry(name="the same, --continuous-batching", start=partial(_start, crowd="join one batch", flags=BATCHING)),
    ]


@contextmanager
def _start(arena: Arena, crowd: str, flags: tuple[str, ...] = ()) -> Iterator[Server]:
    program = [str(arena.python("serving", "genai")), "-m", "transformers.cli.transformers"]
    argv = [*program, "serve", str(arena.original), "--host=127.0.0.1", "--device=cpu", *flags]
    environment = processes.variables(arena.threads, OMP_WAIT_POLICY="PASSIVE")
    with processes.native(lambda port: [*argv, f"--port={port}"], environment) as started:
        yield Server(processes.wait(started, "/health"), crowd, {})
