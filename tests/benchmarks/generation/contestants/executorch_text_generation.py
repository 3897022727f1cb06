"""`ExecuTorchModelForCausalLM.text_generation` of optimum-executorch, beside PyTorch, over the images' programs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation import asking
from tests.benchmarks.generation.arena import PROGRAMS, Arena, Entry, having
from tests.benchmarks.generation.asking import Library

PLACE = 4
TASK = "text-generation"
PACKAGE = "optimum-executorch"


def entries(target: TargetSpec) -> list[Entry]:
    """One for each mode of a target that Optimum exports to ExecuTorch."""
    modes = target.modes_for(TASK) if having(target, PACKAGE) else ()
    names = {mode.name: f"ExecuTorchModelForCausalLM.text_generation, {mode.name}" for mode in modes}
    return [Entry(name=name, start=partial(_start, mode=mode)) for mode, name in names.items()]


@contextmanager
def _start(arena: Arena, mode: str) -> Iterator[Library]:
    folder, exporter = arena.artifact(mode), having(arena.target, PACKAGE)
    # The configuration is not in the image.
    shutil.copy(arena.original / "config.json", folder / "config.json")
    argv = [
        *(str(arena.python(exporter, exporter)), "-m", f"{PROGRAMS}.executorch_text_generation"),
        *(str(folder), str(arena.original), str(arena.threads)),
    ]
    environment = processes.variables(arena.threads, OMP_WAIT_POLICY="PASSIVE")
    with (
        processes.native(lambda port: [*argv, str(port)], environment) as started,
        asking.library(started, "one after the other") as library,
    ):
        yield library
