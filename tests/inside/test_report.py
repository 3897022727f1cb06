from typing import Any

import msgspec
import pytest

from images.inside import report
from images.inside.compare import Figures
from images.inside.errors import Exit
from images.inside.records import Bounds
from images.inside.report import Check, Latency, Report


def made(**changes: Any) -> Report:
    usual = Report(
        exit=0,
        target="some-cpu",
        task="fill-mask",
        mode="int8",
        model="acme/tiny",
        bounds=Bounds(agreement=1.0),
        checks=[Check(name="files", passed=True, detail="4 files, 1.0 MiB", seconds=0.25)],
    )
    return msgspec.structs.replace(usual, **changes)


def lines(**changes: Any) -> list[str]:
    return report.table(made(**changes)).splitlines()


def test_only_exit_code_0_is_a_pass() -> None:
    assert [made(exit=code).passed for code in Exit] == [True, False, False, False]


def test_the_table_begins_with_what_was_tested() -> None:
    assert lines()[0] == "acme/tiny  fill-mask  some-cpu  int8"


def test_every_check_is_a_line() -> None:
    assert lines()[1] == "  files       ok        0.25 s  4 files, 1.0 MiB"


def test_a_failed_check_stands_out() -> None:
    failed = Check(name="hardware", passed=False, detail="too small", seconds=0)
    assert lines(checks=[failed])[1] == "  hardware    FAILED    0.00 s  too small"


@pytest.mark.parametrize(("code", "words"), [(0, "PASS"), (1, "DIFFERS"), (2, "CANNOT RUN"), (3, "DAMAGED")])
def test_the_table_ends_with_the_exit_code_and_its_meaning(code: int, words: str) -> None:
    assert lines(exit=code)[-1] == f"  {words} (exit code {code})"


def test_without_figures_there_is_no_table_of_them() -> None:
    assert not [line for line in lines() if "cosine" in line]


def test_every_input_is_a_line_of_figures_under_their_names() -> None:
    table = lines(figures=[Figures(case="short", max_abs_diff=2e-6, agreement=1.0), Figures(case="long", cosine=0.5)])
    assert [line.split() for line in table[3:6]] == [
        ["input", "max", "abs", "diff", "cosine", "agreement"],
        ["short", "2e-06", "-", "1.000000"],
        ["long", "-", "0.500000", "-"],
    ]


def test_columns_are_aligned_whatever_is_in_them() -> None:
    figures = [Figures(case="a", max_abs_diff=value) for value in (0.0, 1e-7, 0.123, 12345.0, float("inf"))]
    assert len({len(line) for line in lines(figures=figures)[4:9]}) == 1


def test_every_miss_is_a_sentence() -> None:
    assert "  input 'a': cosine 0 is below the bound 1" in lines(misses=["input 'a': cosine 0 is below the bound 1"])


def test_a_report_survives_its_json() -> None:
    whole = made(
        figures=[Figures(case="a", cosine=0.5)],
        latency=Latency(runner_p50_ms=1, runner_p95_ms=2, http_p50_ms=3, http_p95_ms=4),
        runtime={"runtime": "table"},
    )
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Report) == whole


def test_figures_that_no_input_has_have_no_column() -> None:
    table = lines(figures=[Figures(case="short", kl=0.25, greedy=1.0)])
    assert [line.split() for line in table[3:5]] == [["input", "kl", "greedy"], ["short", "0.250000", "1.000000"]]
