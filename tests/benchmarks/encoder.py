"""The benchmark: what serving an encoder costs, beside the runtime alone and beside what is commonly deployed.

All contestants run side by side on one machine, with as many threads each, and take turns: the rows of a load are
measured within seconds of each other, round after round, so that a machine that slows down slows all of them. Ratios
are taken within a round. CPU time is the kernel's figure for the serving process: neither the client nor the container
engine's proxy is in it.
"""

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from images import build, engine, plan, spec
from images.config import Config
from images.engine import Engine
from images.errors import ImageError, UsageError
from images.inside.bench import WORDS
from images.progress import Progress
from images.record import Record
from tests.benchmarks import contestants, environment, processes
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.report import Result, Row, Sample, busy_seconds, machine, summary

TARGET = "onnx-cpu"
THREADS = 2
WARM_UP = 5
"""Requests before each measurement that do not count."""
ALIKE = 0.97
"""The least cosine between two contestants' vectors: below it they do not compute the same thing."""
PACKAGES = ("onnxruntime", "torch", "transformers", "sentence-transformers", "fastapi", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class Load:
    """Texts that so many clients send, each the next one when it has its answer."""

    name: str
    texts: tuple[str, ...]
    clients: int = 1


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is compared: two images, the model that both were made from, an environment with its other runtimes."""

    exact: Record
    int8: Record
    model: Path
    python: Path

    @property
    def name(self) -> str:
        """The model's name."""
        return self.exact.info.manifest.model.id


def text(tokens: int) -> str:
    """A text of so many tokens, two special ones included: each of its words is one to an English WordPiece."""
    return " ".join(itertools.islice(itertools.cycle(WORDS.split()), tokens - 2))


def mixed() -> tuple[str, ...]:
    """Texts of 16 to 128 tokens, in the same disorder every time."""
    texts = [text(tokens) for tokens in range(16, 129, 16)] * 8
    random.Random(0).shuffle(texts)
    return tuple(texts)


LOADS = (
    Load(name="16 tokens", texts=(text(16),) * 80),
    Load(name="128 tokens", texts=(text(128),) * 32),
    Load(name="16-128 tokens, 8 clients", texts=mixed(), clients=8),
)


def run(config: Config, progress: Progress, dist: Path, rounds: int, model: str = "") -> Result:
    """Build what is missing of a model, the example when empty, start everything, measure. Raises an `ImageError`."""
    if rounds < 1:
        raise UsageError(f"{rounds} rounds measure nothing", "give a number from 1 up")
    containers = engine.require(config)
    subject = _subject(model or config.example.model, config, progress, dist)
    with _started(subject, containers, progress) as entrants:
        _require_alike(entrants)
        since, before = time.monotonic(), _used_by_others(entrants)
        measured = [_round(entrants, progress, f"{number} of {rounds}") for number in range(1, rounds + 1)]
        others = (_used_by_others(entrants) - before) / (time.monotonic() - since)
    versions = environment.versions(subject.python)
    return Result(
        machine=machine(),
        others=others,
        model=subject.name,
        packages={name: versions[name] for name in PACKAGES},
        threads=THREADS,
        rounds=rounds,
        concurrent=[load.name for load in LOADS if load.clients > 1],
        rows=_rows(entrants, measured),
    )


def measure(entrant: Contestant, load: Load) -> Sample:
    """One contestant under one load, once."""
    entrant.ask(load.texts[:WARM_UP], load.clients)
    cpu, since = processes.cpu_seconds(entrant.pid), time.perf_counter()
    seconds = entrant.ask(load.texts, load.clients)
    wall, used = time.perf_counter() - since, processes.cpu_seconds(entrant.pid) - cpu
    return Sample(
        cpu_ms=used * 1000 / len(seconds), p50_ms=statistics.median(seconds) * 1000, per_second=len(seconds) / wall
    )


def _subject(model: str, config: Config, progress: Progress, dist: Path) -> Subject:
    exact, int8 = (
        build.Request(target=TARGET, model=model, options=plan.Options(mode=mode)) for mode in ("none", "int8")
    )
    target = spec.load(TARGET)
    return Subject(
        exact=build.build(exact, config, progress, dist).record,
        int8=build.build(int8, config, progress, dist).record,
        model=build.prepare(exact, config, progress).model.folder,
        python=environment.python("fastapi", target.lock(target.exporters[0]), config, progress),
    )


@contextmanager
def _started(subject: Subject, containers: Engine, progress: Progress) -> Iterator[list[Contestant]]:
    """All contestants; the first is what the others are compared with."""
    progress.step("starting all contestants")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        artifact = processes.extracted(containers, subject.exact.image, folder)
        loops = stack.enter_context(contestants.loop(subject.python, artifact, THREADS))
        started = [
            contestants.image("this image", containers, subject.exact.image, subject.name, THREADS),
            contestants.image("this image, int8", containers, subject.int8.image, subject.name, THREADS),
            contestants.fastapi("sentence-transformers + FastAPI", subject.python, subject.model, THREADS),
            contestants.fastapi(
                "the same, OMP_WAIT_POLICY=PASSIVE", subject.python, subject.model, THREADS, OMP_WAIT_POLICY="PASSIVE"
            ),
        ]
        yield [*loops, *map(stack.enter_context, started)]


def _require_alike(entrants: Sequence[Contestant]) -> None:
    vectors = {entrant.name: np.array(entrant.vector(text(128))) for entrant in entrants}
    first = vectors[entrants[0].name]
    for name, vector in vectors.items():
        cosine = float(vector @ first / np.linalg.norm(vector) / np.linalg.norm(first))
        if cosine < ALIKE:
            raise ImageError(f"{name} answers something else: the cosine to {entrants[0].name} is {cosine:.3f}")


def _round(entrants: Sequence[Contestant], progress: Progress, number: str) -> list[list[Sample]]:
    """Samples by load, then contestant."""
    progress.step(f"round {number}")
    samples = []
    for load in LOADS:
        progress.detail(load.name)
        samples.append([measure(entrant, load) for entrant in entrants])
    return samples


def _used_by_others(entrants: Sequence[Contestant]) -> float:
    """CPU seconds of everything but this process and the contestants."""
    ours = time.process_time() + sum(map(processes.cpu_seconds, {entrant.pid for entrant in entrants}))
    return busy_seconds(Path("/proc/stat").read_text()) - ours


def _rows(entrants: Sequence[Contestant], measured: Sequence[Sequence[Sequence[Sample]]]) -> list[Row]:
    return [
        Row(
            name=entrant.name,
            figures={
                load.name: summary([one[at][row] for one in measured], [one[at][0] for one in measured])
                for at, load in enumerate(LOADS)
            },
        )
        for row, entrant in enumerate(entrants)
    ]
