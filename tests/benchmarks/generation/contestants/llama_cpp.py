"""llama-cpp-python's server over the GGUF file itself, with its own quantised weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.errors import ImageError
from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.generation.arena import AbsentError, Arena, Entry
from tests.benchmarks.generation.asking import Server

PLACE = 3


def entries(_target: TargetSpec) -> list[Entry]:
    """It, whatever the target."""
    return [Entry(name="llama-cpp-python, the GGUF file, PASSIVE", start=_start)]


@contextmanager
def _start(arena: Arena) -> Iterator[Server]:
    file, python, threads = _file(arena.model.folder), _python(arena), arena.threads
    options = [f"--n_threads={threads}", f"--n_threads_batch={threads}", "--n_ctx=2048", "--interrupt_requests=False"]
    argv = [str(python), "-m", "llama_cpp.server", f"--model={file}", "--host=127.0.0.1", *options]
    environment = processes.variables(threads, OMP_WAIT_POLICY="PASSIVE")
    with processes.native(lambda port: [*argv, f"--port={port}"], environment) as started:
        yield Server(processes.wait(started, "/v1/models"), "one after the other", {})


def _file(folder: Path) -> Path:
    file = next(folder.glob("*.gguf"), None)
    if file is None:
        raise AbsentError("the model is no GGUF file")
    return file


def _python(arena: Arena) -> Path:
    try:
        return arena.python("llama_cpp")
    except ImageError as error:
        raise AbsentError(error.what) from error
