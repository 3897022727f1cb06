"""What a smoke test found: one record, its JSON form and its readable one."""

from collections.abc import Iterator

from images.inside.compare import Figures
from images.inside.contract import Bounds, Exit, Struct

MARKS = {True: "ok", False: "FAILED"}


class Check(Struct, kw_only=True):
    """One step of the smoke test."""

    name: str
    passed: bool
    detail: str
    seconds: float


class Latency(Struct, kw_only=True):
    """Milliseconds of one short request, in process and over HTTP on loopback."""

    runner_p50_ms: float
    runner_p95_ms: float
    http_p50_ms: float
    http_p95_ms: float


class Report(Struct, kw_only=True):
    """The smoke test's result.

    Attributes:
        exit: the exit code: 0 pass, 1 outputs differ, 2 this machine cannot run it, 3 artifact damaged.
        figures: one entry an input, through the runner.
        http_figures: the same through the served API.
        misses: every figure past its bound, as a sentence.
        runtime: what the runner says of itself.

    """

    exit: int
    target: str
    task: str
    mode: str
    model: str
    bounds: Bounds
    checks: list[Check]
    figures: list[Figures] = []
    http_figures: list[Figures] = []
    misses: list[str] = []
    latency: Latency | None = None
    runtime: dict[str, str] = {}

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.exit == Exit.PASS


def table(report: Report) -> str:
    """The report for a person at a terminal."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.model}  {report.task}  {report.target}  {report.mode}"
    for check in report.checks:
        yield f"  {check.name:<12}{MARKS[check.passed]:<8}{check.seconds:6.2f} s  {check.detail}"
    if report.figures:
        yield ""
        yield f"  {'input':<14}{'max abs diff':>14}{'cosine':>12}{'agreement':>12}"
    for figures in report.figures:
        cells = (_number(figures.max_abs_diff), _number(figures.cosine), _number(figures.agreement))
        yield f"  {figures.case:<14}{cells[0]:>14}{cells[1]:>12}{cells[2]:>12}"
    for miss in report.misses:
        yield f"  {miss}"
    yield ""
    yield f"  {Exit(report.exit).name.replace('_', ' ')} (exit code {report.exit})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value < 0.01 else f"{value:.6f}"  # noqa: PLR2004 - a format
