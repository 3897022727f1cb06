"""What a smoke test found: one record, its JSON form and its readable one."""

from collections.abc import Iterator, Sequence

from images.inside.compare import Figures
from images.inside.errors import Exit
from images.inside.records import Bounds, Struct

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


class TokenLatency(Struct, kw_only=True):
    """Milliseconds of one streamed answer over HTTP on loopback: to its first token, and from one token to the next."""

    first_p50_ms: float
    first_p95_ms: float
    next_p50_ms: float
    next_p95_ms: float


class Report(Struct, kw_only=True):
    """The smoke test's result.

    Attributes:
        exit: the exit code: 0 pass, 1 outputs differ, 2 this machine cannot run it, 3 artifact damaged.
        figures: one entry an input, through the runner.
        http_figures: the same through the served API.
        misses: every figure past its bound, as a sentence.
        latency: of a model that predicts.
        token_latency: of a model that generates.
        runtime: what the runner says of itself.
        peak_memory_bytes: the most memory that the test and its server held at once; 0 when unknown.
        cpus: how many the container kept busy while its server was asked, one request after another; 0 when unknown.

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
    token_latency: TokenLatency | None = None
    runtime: dict[str, str] = {}
    peak_memory_bytes: int = 0
    cpus: float = 0

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
    yield from _figures(report.figures)
    for miss in report.misses:
        yield f"  {miss}"
    yield ""
    yield f"  {Exit(report.exit).words} (exit code {report.exit})"


def _figures(measured: Sequence[Figures]) -> Iterator[str]:
    """A line an input, a column a figure that any of them has."""
    names = [name for name in Bounds.__struct_fields__ if any(getattr(entry, name) is not None for entry in measured)]
    if names:
        yield f"  {'input':<14}" + "".join(f"{name.replace('_', ' '):>14}" for name in names)
    for entry in measured:
        yield f"  {entry.case:<14}" + "".join(f"{_number(getattr(entry, name)):>14}" for name in names)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value < 0.01 else f"{value:.6f}"  # noqa: PLR2004 - a format
