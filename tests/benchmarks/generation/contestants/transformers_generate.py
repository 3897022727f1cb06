"""`generate` of transformers, float32: over PyTorch, and over Optimum's export in ONNX Runtime."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation import asking
from tests.benchmarks.generation.arena import PROGRAMS, Arena, Entry
from tests.benchmarks.generation.asking import Library

PLACE = 4


def entries(target: TargetSpec) -> list[Entry]:
    """Both where Optimum is an exporter of the target."""
    optimum = [Entry(name="ORTModelForCausalLM.generate", start=_optimum)] if "optimum" in target.exporters else []
    return [*optimum, Entry(name="PyTorch generate, PASSIVE", start=_pytorch)]


@contextmanager
def _optimum(arena: Arena) -> Iterator[Library]:
    # The exact image's graph is Optimum's own; the configuration is not in the image.
    folder = arena.artifact("none")
    for name in ("config.json", "generation_config.json"):
        shutil.copy(arena.original / name, folder / name)
    with _program(arena, arena.python("optimum", "optimum"), "optimum", folder) as library:
        yield library


@contextmanager
def _pytorch(arena: Arena) -> Iterator[Library]:
    with _program(arena, arena.python("serving", "genai"), "pytorch", arena.original) as library:
        yield library


@contextmanager
def _program(arena: Arena, python: Path, kind: str, folder: Path) -> Iterator[Library]:
    argv = [str(python), "-m", f"{PROGRAMS}.transformers_generate", kind, str(folder), str(arena.threads)]
    environment = processes.variables(arena.threads, OMP_WAIT_POLICY="PASSIVE")
    with (
        processes.native(lambda port: [*argv, str(port)], environment) as started,
        asking.library(started, "one batch") as library,
    ):
        yield library
