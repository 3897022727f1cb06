"""What an int8 image costs less its server: a greedy loop over its graph, in a container of that very image."""

from collections.abc import Iterator
from contextlib import contextmanager

from images.config import ROOT
from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation import asking
from tests.benchmarks.generation.arena import PROGRAMS, Arena, Entry
from tests.benchmarks.generation.asking import Library

PLACE = 0
MODE = "int8"


def entries(target: TargetSpec) -> list[Entry]:
    """For targets whose int8 decoders the model builder of onnxruntime-genai makes."""
    return [Entry(name="onnxruntime in a loop, int8", start=_start)] if "genai" in target.exporters else []


@contextmanager
def _start(arena: Arena) -> Iterator[Library]:
    flags = [
        "--entrypoint=/usr/bin/python3",
        "--env=LISTEN=0.0.0.0",
        f"--volume={ROOT / 'tests'}:/opt/modelyard/tests:ro",
    ]
    command = ["-m", f"{PROGRAMS}.onnxruntime_loop", str(arena.threads), "8080"]
    with (
        processes.container(arena.engine, arena.image(MODE).image, *command, flags=flags) as started,
        asking.library(started, "one batch") as library,
    ):
        yield library
