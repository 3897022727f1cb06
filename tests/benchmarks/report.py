"""The benchmark's result: its form, the machine it holds for, and a table for people and for Markdown."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from images.inside.records import Struct


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one contestant took in one round of one load: CPU time by what it gave, and how much of that a second."""

    cpu_ms: float
    per_second: float


@dataclass(frozen=True, kw_only=True)
class Sample(Spent):
    """One contestant's figures in one round of one load; see `Figures`."""

    p50_ms: float


class Cost(Struct, kw_only=True):
    """What one contestant takes under one load; medians over the rounds.

    Attributes:
        cpu_ms: CPU time, user and system, of a request, or of a token of an answer with its prompt in it.
        cpu_ms_least: the same in the best round.
        cpu_ms_most: the same in the worst round.
        per_second: requests a second, or tokens of all answers.
        ratio: CPU time over that of the first contestant in the same round.

    """

    cpu_ms: float
    cpu_ms_least: float
    cpu_ms_most: float
    per_second: float
    ratio: float


class Figures(Cost, kw_only=True):
    """One contestant's cost under one load, and p50_ms: the median time of an answer."""

    p50_ms: float


class Machine(Struct, kw_only=True):
    """Where it was measured, and when."""

    cpu: str
    cores: int
    os: str
    kernel: str
    date: str


class Row(Struct, kw_only=True):
    """One contestant's figures by load."""

    name: str
    figures: dict[str, Figures]


class Circumstances(Struct, kw_only=True):
    """What any benchmark's result says of how it came about.

    Attributes:
        others: cores that processes outside the benchmark used meanwhile: with more than a little, wall times are too
            long, and so is the CPU time of whatever waits for other threads.

    """

    machine: Machine
    others: float
    model: str
    packages: dict[str, str]
    threads: int
    rounds: int


class Result(Circumstances, kw_only=True):
    """The whole benchmark of an encoder.

    Attributes:
        target: whose images took part, where the command line said so.
        concurrent: the loads with several clients.

    """

    target: str = ""
    concurrent: list[str]
    rows: list[Row]


def summary(samples: Sequence[Sample], first: Sequence[Sample]) -> Figures:
    """The medians of a contestant's rounds; `first` are those of the contestant that ratios are taken to."""
    return Figures(p50_ms=statistics.median(sample.p50_ms for sample in samples), **cost(samples, first))


def cost(samples: Sequence[Spent], first: Sequence[Spent]) -> dict[str, float]:
    """The fields of `Cost`; arguments as in `summary`."""
    cpu = [sample.cpu_ms for sample in samples]
    return {
        "cpu_ms": statistics.median(cpu),
        "cpu_ms_least": min(cpu),
        "cpu_ms_most": max(cpu),
        "per_second": statistics.median(sample.per_second for sample in samples),
        "ratio": statistics.median(ours.cpu_ms / base.cpu_ms for ours, base in zip(samples, first, strict=True)),
    }


def machine() -> Machine:
    """This machine."""
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()) or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        os=platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        kernel=platform.release(),
        date=datetime.now(UTC).date().isoformat(),
    )


def cpu_model(cpuinfo: str) -> str:
    """The first processor's name in `/proc/cpuinfo`; empty on architectures that have none there."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), "")


def busy_seconds(stat: str) -> float:
    """The CPU time that all processors have spent on anything, of `/proc/stat`; what a hypervisor took counts too."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def table(result: Result) -> str:
    """Markdown that reads well as it is."""
    columns = list(result.rows[0].figures)
    head = ["", *(title for column in columns for title in _titles(column, column in result.concurrent))]
    body = [[row.name, *(cell for column in columns for cell in _cells(row, column, result))] for row in result.rows]
    return "\n".join(
        [
            *grid([head, *body]),
            "",
            _how(result),
            where(result, f"invoke benchmark --target {result.target}" if result.target else "invoke benchmark"),
        ]
    )


def _how(result: Result) -> str:
    return (
        "CPU: user and system time of the serving process in ms a request, median (least-most) of "
        f"{result.rounds} rounds in which all take turns. p50: ms to an answer. x: CPU over the first row's. "
        "The loops know no clients: their texts come one after the other."
    )


def where(result: Circumstances, command: str) -> str:
    """What it was measured with, and by which command."""
    on = result.machine
    packages = ", ".join(f"{name} {version}" for name, version in result.packages.items())
    return (
        f"{result.model} on {on.cpu}, {on.os}, Linux {on.kernel}, {on.date}; {on.cores} cores, "
        f"of which other processes used {result.others:.2f}. {result.threads} threads each. {packages}. "
        f"`{command}`"
    )


def _titles(column: str, concurrent: bool) -> tuple[str, str, str]:
    return (f"{column}: CPU", "req/s" if concurrent else "p50", "x")


def _cells(row: Row, column: str, result: Result) -> tuple[str, str, str]:
    figures = row.figures[column]
    speed = f"{figures.per_second:.0f}" if column in result.concurrent else f"{figures.p50_ms:.1f}"
    cpu = f"{figures.cpu_ms:.1f} ({figures.cpu_ms_least:.1f}-{figures.cpu_ms_most:.1f})"
    return (cpu, speed, f"{figures.ratio:.2f}")


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as a Markdown table; the first column is text, the others are figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [_line(row, widths) for row in (rows[0], rule, *rows[1:])]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cells[0].ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
    ]
    return f"| {' | '.join(aligned)} |"
