"""What an image with ExecuTorch costs less its server: a greedy loop in C++ over its program, in a container of it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from images.config import ROOT
from images.errors import ImageError
from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation import asking
from tests.benchmarks.generation.arena import PROGRAMS, AbsentError, Arena, Entry, having
from tests.benchmarks.generation.asking import Library

PLACE = 0
TASK = "text-generation"
PACKAGE = "executorch"
SOURCE = ROOT / "tests/benchmarks/generation/programs/executorch_loop.cpp"
LIBRARIES = "/opt/modelyard/executorch"
"""In the image: ExecuTorch's own, and with `libprogram.so` the operators that it lacks."""
OPTIONS = (
    *("-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-s"),
    *("-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED"),
)


def entries(target: TargetSpec) -> list[Entry]:
    """One for each mode of a target whose programs ExecuTorch runs."""
    modes = target.modes_for(TASK) if having(target, PACKAGE) else ()
    return [
        Entry(name=f"ExecuTorch in a C++ loop, {mode.name}", start=partial(_start, mode=mode.name)) for mode in modes
    ]


@contextmanager
def _start(arena: Arena, mode: str) -> Iterator[Library]:
    flags = [
        "--entrypoint=/usr/bin/python3",
        "--env=LISTEN=0.0.0.0",
        f"--volume={ROOT / 'tests'}:/opt/modelyard/tests:ro",
        f"--volume={_compiled(arena)}:/loop:ro",
    ]
    program = ["/loop", "/artifact/model.pte", str(arena.threads), f"{LIBRARIES}/libprogram.so", "8080"]
    command = ["-m", f"{PROGRAMS}.executorch_loop", *program]
    with (
        processes.container(arena.engine, arena.image(mode).image, *command, flags=flags) as started,
        asking.library(started, "one after the other") as library,
    ):
        yield library


def _compiled(arena: Arena) -> Path:
    """The loop, against the SDK in ExecuTorch's wheel; the image has the same libraries."""
    made = arena.folder / SOURCE.stem
    if made.exists():
        return made
    if not shutil.which("g++"):
        raise AbsentError("there is no g++ to compile it with")
    exporter = having(arena.target, PACKAGE)
    (sdk,) = arena.python(exporter, exporter).parent.parent.glob("lib/python*/site-packages/executorch")
    headers = (sdk / "include", sdk / "include/executorch/runtime/core/portable_type/c10")
    done = subprocess.run(
        ["g++", *OPTIONS, *(f"-isystem{folder}" for folder in headers), str(SOURCE), f"-L{sdk / 'lib'}",
         "-lexecutorch", "-lexecutorch_threadpool", "-ldl", f"-Wl,-rpath,{LIBRARIES},--allow-shlib-undefined",
         "-o", str(made)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise ImageError(f"{SOURCE.name} could not be compiled:\n{done.stderr[-1000:]}")
    return made
