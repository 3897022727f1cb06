"""onnxruntime-genai's own loop over the int8 graph: the same options of its model builder as the image's."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation import asking
from tests.benchmarks.generation.arena import PROGRAMS, Arena, Entry
from tests.benchmarks.generation.asking import Library

PLACE = 2
BUILDER = "onnxruntime_genai.models.builder"
OPTIONS = ("-p", "int8", "-e", "cpu", "--extra_options", "prune_lm_head=true", "is_symmetric=false")


def entries(target: TargetSpec) -> list[Entry]:
    """For targets that have its model builder."""
    return [Entry(name="onnxruntime-genai, int8", start=_start)] if "genai" in target.exporters else []


@contextmanager
def _start(arena: Arena) -> Iterator[Library]:
    python = arena.python("serving", "genai")
    folder = _tuned(arena, _built(arena, python))
    program = f"{PROGRAMS}.onnxruntime_genai_loop"
    with (
        processes.native(
            lambda port: [str(python), "-m", program, str(folder), str(port)], processes.variables(arena.threads)
        ) as started,
        asking.library(started, "one batch") as library,
    ):
        yield library


def _built(arena: Arena, python: Path) -> Path:
    original = str(arena.original)
    return arena.made(
        "genai-int8",
        python,
        lambda out: ["-m", BUILDER, "-i", original, "-o", str(out), "-c", f"{out}.cache", *OPTIONS],
    )


def _tuned(arena: Arena, built: Path) -> Path:
    """The same folder with so many threads, which do not spin: they would double its CPU time."""
    tuned = arena.folder / "genai"
    shutil.copytree(built, tuned, copy_function=_link)
    config = json.loads((built / "genai_config.json").read_text())
    options = config["model"]["decoder"]["session_options"]
    options.update({"intra_op_num_threads": arena.threads, "session.intra_op.allow_spinning": "0"})
    (tuned / "genai_config.json").unlink()
    (tuned / "genai_config.json").write_text(json.dumps(config))
    return tuned


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)
