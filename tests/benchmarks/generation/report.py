"""The result for models that generate: its form, and a table for people and for Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from images.inside.records import Struct
from tests.benchmarks.report import Circumstances, Cost, Spent, cost, grid, where


@dataclass(frozen=True, kw_only=True)
class Sample(Spent):
    """One contestant's figures in one round of one load; see `Figures`."""

    first_ms: float
    next_ms: float


class Figures(Cost, kw_only=True):
    """One contestant's cost under one load, a token of an answer.

    Attributes:
        first_ms: from the request to the first token.
        next_ms: from one token of an answer to the next.

    """

    first_ms: float
    next_ms: float


class Row(Struct, kw_only=True):
    """One contestant.

    Attributes:
        name: what it is.
        ours: whether it is one of the project's images.
        crowd: what it does with several requests at once.
        prompt_cpu_ms: CPU time of reading a prompt and choosing one token.
        alone: with one client.
        together: with several clients at once.

    """

    name: str
    ours: bool
    crowd: str
    prompt_cpu_ms: float
    alone: Figures
    together: Figures


class Result(Circumstances, kw_only=True):
    """The whole benchmark.

    Attributes:
        target: whose images took part.
        prompt_tokens: of each prompt, the chat template's included.
        answer_tokens: of each answer.
        clients: of the second load.
        absent: why contestants are missing, by name.

    """

    target: str
    prompt_tokens: int
    answer_tokens: int
    clients: int
    absent: dict[str, str]
    rows: list[Row]


def summary(samples: Sequence[Sample], first: Sequence[Sample]) -> Figures:
    """The medians of a contestant's rounds; `first` are those of the contestant that ratios are taken to."""
    return Figures(
        first_ms=statistics.median(sample.first_ms for sample in samples),
        next_ms=statistics.median(sample.next_ms for sample in samples),
        **cost(samples, first),
    )


def table(result: Result) -> str:
    """Markdown that reads well as it is."""
    several = f"{result.clients} clients"
    head = ["", "1 client: CPU", "x", "tok/s", "prompt CPU", "first", "next"]
    rows = [[*head, f"{several}: CPU", "x", "tok/s", "of 1 client's", "together"], *map(_cells, result.rows)]
    missing = [f"Not here: {name}: {why.splitlines()[0]}" for name, why in result.absent.items()]
    command = f"invoke benchmark --task text-generation --target {result.target}"
    return "\n".join([*grid(rows), "", _how(result), where(result, command), *missing])


def _cells(row: Row) -> list[str]:
    alone, together = row.alone, row.together
    return [
        f"**{row.name}**" if row.ours else row.name,
        *(_cpu(alone), f"{alone.ratio:.2f}", f"{alone.per_second:.0f}"),
        *(f"{row.prompt_cpu_ms:.0f}", f"{alone.first_ms:.0f}", f"{alone.next_ms:.1f}"),
        *(_cpu(together), f"{together.ratio:.2f}", f"{together.per_second:.0f}"),
        *(f"{together.per_second / alone.per_second:.1f}", row.crowd),
    ]


def _cpu(figures: Figures) -> str:
    return f"{figures.cpu_ms:.1f} ({figures.cpu_ms_least:.1f}-{figures.cpu_ms_most:.1f})"


def _how(result: Result) -> str:
    return (
        f"Prompts of {result.prompt_tokens} tokens, greedy answers of {result.answer_tokens}. CPU: user and system "
        "time of the serving process in ms a token of the answer, prompts included, median (least-most) of "
        f"{result.rounds} rounds in which all take turns; prompt CPU: of reading one prompt, ms. first, next: ms to "
        "the first token and from token to token. x: CPU over the first row's. together: what becomes of requests "
        "that come at once. PASSIVE: OMP_WAIT_POLICY; ONNX Runtime's threads do not spin either."
    )
