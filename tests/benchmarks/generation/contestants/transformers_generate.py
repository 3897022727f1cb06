"""`generate` of transformers, float32: over PyTorch, and over Optimum's export in ONNX Runtime."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation import asking
from tests.benchmarks.generation.arena import PROGRAMS, Arena, Entry, having
from tests.benchmarks.generation.asking import Library

PLACE = 4
OPTIMUM = "optimum-onnx"
ENVIRONMENTS = {"genai": "serving"}
"""By exporter, an environment that has its lock and is there for another contestant anyway."""


def entries(target: TargetSpec) -> list[Entry]:
    """PyTorch whatever the target, Optimum's where it is an exporter of the target."""
    optimum = [Entry(name="ORTModelForCausalLM.generate", start=_optimum)] if having(target, OPTIMUM) else []
    return [*optimum, Entry(name="PyTorch generate, PASSIVE", start=_pytorch)]


@contextmanager
def _optimum(arena: Arena) -> Iterator[Library]:
    # The exact image's graph is Optimum's own; the configuration is not in the image.
    folder = arena.artifact("none")
    for name in ("config.json", "generation_config.json"):
        shutil.copy(arena.original / name, folder / name)
    exporter = having(arena.target, OPTIMUM)
    with _program(arena, arena.python(exporter, exporter), "optimum", folder) as library:
        yield library


@contextmanager
def _pytorch(arena: Arena) -> Iterator[Library]:
    exporter = having(arena.target, "torch", "transformers")
    python = arena.python(ENVIRONMENTS.get(exporter, exporter), exporter)
    with _program(arena, python, "pytorch", arena.original) as library:
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
