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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from images import build, engines, locks, plan, spec
from images.config import Config
from images.engine import Engine
from images.errors import ImageError, UsageError
from images.inside.bench import WORDS
from images.progress import Progress
from images.record import Record
from images.spec import TargetSpec
from tests.benchmarks import contestants, environment, processes
from tests.benchmarks.choice import TARGET, Choice
from tests.benchmarks.contestants import Alone, Contestant
from tests.benchmarks.report import Result, Row, Sample, busy_seconds, machine, summary

TASK = "feature-extraction"
APP = "sentence-transformers + FastAPI"
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
    """What is compared.

    Attributes:
        name: the model's.
        model: the original's folder.
        python: of an environment with PyTorch, sentence-transformers and FastAPI.
        alone: runtimes without a server; the first is what the others are compared with.
        images: by the title of their row; the first one's artifact is what runtimes run alone.
        apps: variables of the FastAPI server, by the title of its row.
        loads: of each round.

    """

    name: str
    model: Path
    python: Path
    alone: Sequence[Alone]
    images: Mapping[str, Record]
    apps: Mapping[str, Mapping[str, str]]
    loads: Sequence[Load]


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
LENGTHS = (LOADS[0], Load(name="32 tokens", texts=(text(32),) * 64), LOADS[1])
"""Of the benchmark of one target: one client each."""
PLAIN = {"ai-edge-litert": ("LiteRT", "litert_loop")}
"""By package in a target's run lock, the name and the module of its runtime alone."""


def run(
    config: Config, progress: Progress, dist: Path, *, rounds: int, model: str = "", choice: Choice | None = None
) -> Result:
    """Build what is missing, start everything, measure. Raises an `ImageError`.

    Args:
        config: the project's.
        progress: told of what is made, and of rounds.
        dist: where records of images are.
        rounds: how often all take their turn.
        model: the example when empty.
        choice: a target and its modes, beside their runtime alone; without, `TARGET` beside what is commonly deployed.

    """
    if rounds < 1:
        raise UsageError(f"{rounds} rounds measure nothing", "give a number from 1 up")
    maker = _Maker(model or config.example.model, config, progress, dist)
    subject = maker.of_target(choice) if choice else maker.usual()
    with _started(subject, engines.require(config), progress) as entrants:
        _require_alike(entrants)
        since, before = time.monotonic(), _used_by_others(entrants)
        measured = [_round(entrants, subject.loads, progress, f"{at} of {rounds}") for at in range(1, rounds + 1)]
        others = (_used_by_others(entrants) - before) / (time.monotonic() - since)
    versions = environment.versions(subject.python)
    return Result(
        machine=machine(),
        others=others,
        model=subject.name,
        packages={name: versions[name] for name in PACKAGES},
        threads=THREADS,
        rounds=rounds,
        target=choice.target if choice else "",
        concurrent=[load.name for load in subject.loads if load.clients > 1],
        rows=_rows(entrants, subject.loads, measured),
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


@dataclass(frozen=True)
class _Maker:
    """Makes what is compared, of one model."""

    model: str
    config: Config
    progress: Progress
    dist: Path

    def usual(self) -> Subject:
        """The images of `TARGET`, beside its runtime and sentence-transformers in FastAPI."""
        base = spec.load(TARGET)
        return self._subject(
            [Alone("onnxruntime", "onnxruntime_loop", self._python("fastapi", base, base.exporters[0]))],
            {"this image": self._image(TARGET, "none"), "this image, int8": self._image(TARGET, "int8")},
            LOADS,
            {APP: {}, "the same, OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"}},
        )

    def of_target(self, choice: Choice) -> Subject:
        """The images of a target, beside its runtime and PyTorch alone and the exact image of `TARGET`."""
        target, base, modes = spec.load(choice.target), spec.load(TARGET), choice.modes_of(TASK)
        plain = [
            Alone(name, module, self._python("run", target, "run"))
            for package, (name, module) in PLAIN.items()
            if package in {wheel.name for wheel in locks.parse(target.lock("run"))}
        ]
        original = Alone("PyTorch", "pytorch_loop", self._python("fastapi", base, base.exporters[0]), original=True)
        images = {f"this image, {mode}": self._image(choice.target, mode) for mode in modes}
        beside = {} if choice.target == TARGET else {f"{TARGET}'s image": self._image(TARGET, "none")}
        return self._subject([*plain, original], {**images, **beside}, LENGTHS, {})

    def _subject(
        self,
        alone: Sequence[Alone],
        images: Mapping[str, Record],
        loads: Sequence[Load],
        apps: Mapping[str, Mapping[str, str]],
    ) -> Subject:
        base = spec.load(TARGET)
        exact = build.prepare(self._request(TARGET, "none"), self.config, self.progress)
        return Subject(
            name=exact.model.facts.id,
            model=exact.model.folder,
            python=self._python("fastapi", base, base.exporters[0]),
            alone=alone,
            images=images,
            apps=apps,
            loads=loads,
        )

    def _python(self, name: str, target: TargetSpec, lock: str) -> Path:
        return environment.python(name, target.lock(lock), self.config, self.progress)

    def _image(self, target: str, mode: str) -> Record:
        return build.build(self._request(target, mode), self.config, self.progress, self.dist).record

    def _request(self, target: str, mode: str) -> build.Request:
        return build.Request(target=target, model=self.model, options=plan.Options(mode=mode))


@contextmanager
def _started(subject: Subject, containers: Engine, progress: Progress) -> Iterator[list[Contestant]]:
    """All contestants; the first is what the others are compared with."""
    progress.step("starting all contestants")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first = next(iter(subject.images.values()))
        artifact = processes.extracted(containers, first.image, folder)
        loops = [
            contestants.loop(each, subject.model if each.original else artifact, THREADS) for each in subject.alone
        ]
        servers = [
            *(
                contestants.image(name, containers, record.image, subject.name, THREADS)
                for name, record in subject.images.items()
            ),
            *(
                contestants.fastapi(name, subject.python, subject.model, THREADS, **variables)
                for name, variables in subject.apps.items()
            ),
        ]
        yield [*itertools.chain(*map(stack.enter_context, loops)), *map(stack.enter_context, servers)]


def _require_alike(entrants: Sequence[Contestant]) -> None:
    vectors = {entrant.name: np.array(entrant.vector(text(128))) for entrant in entrants}
    first = vectors[entrants[0].name]
    for name, vector in vectors.items():
        cosine = float(vector @ first / np.linalg.norm(vector) / np.linalg.norm(first))
        if cosine < ALIKE:
            raise ImageError(f"{name} answers something else: the cosine to {entrants[0].name} is {cosine:.3f}")


def _round(
    entrants: Sequence[Contestant], loads: Sequence[Load], progress: Progress, number: str
) -> list[list[Sample]]:
    """Samples by load, then contestant."""
    progress.step(f"round {number}")
    samples = []
    for load in loads:
        progress.detail(load.name)
        samples.append([measure(entrant, load) for entrant in entrants])
    return samples


def _used_by_others(entrants: Sequence[Contestant]) -> float:
    """CPU seconds of everything but this process and the contestants."""
    ours = time.process_time() + sum(map(processes.cpu_seconds, {entrant.pid for entrant in entrants}))
    return busy_seconds(Path("/proc/stat").read_text()) - ours


def _rows(
    entrants: Sequence[Contestant], loads: Sequence[Load], measured: Sequence[Sequence[Sequence[Sample]]]
) -> list[Row]:
    return [
        Row(
            name=entrant.name,
            figures={
                load.name: summary([one[at][row] for one in measured], [one[at][0] for one in measured])
                for at, load in enumerate(loads)
            },
        )
        for row, entrant in enumerate(entrants)
    ]
