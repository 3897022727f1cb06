import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from images import config, spec
from images.errors import UsageError
from images.progress import Quiet
from tests.benchmarks import encoder, loops, processes, report, suites
from tests.benchmarks.choice import TARGET, Choice
from tests.benchmarks.report import Machine, Result, Row, Sample

MACHINE = Machine(cpu="Fast 1", cores=2, os="Debian 12", kernel="6.1", date="2026-01-02")


def sample(cpu_ms: float, *, p50_ms: float = 1, per_second: float = 1) -> Sample:
    return Sample(cpu_ms=cpu_ms, p50_ms=p50_ms, per_second=per_second)


def result() -> Result:
    first, second = [sample(4.0, p50_ms=2.5), sample(5.0, p50_ms=3.5)], [sample(5.0, per_second=90), sample(6.0)]
    rows = [("loop", report.summary(first, first)), ("served", report.summary(second, first))]
    return Result(
        machine=MACHINE,
        others=0.25,
        model="tiny",
        packages={"onnxruntime": "1.0"},
        threads=2,
        rounds=2,
        concurrent=["crowd"],
        rows=[Row(name=name, figures={"one": figures, "crowd": figures}) for name, figures in rows],
    )


def test_a_ratio_is_taken_within_its_round() -> None:
    # The machine slows down tenfold: the medians' own ratio would be 20 / 10.
    ours, base = [sample(2), sample(20), sample(30)], [sample(1), sample(10), sample(15)]
    assert report.summary(ours, base).ratio == 2


def test_one_odd_round_moves_the_spread_and_not_the_figure() -> None:
    figures = report.summary([sample(4), sample(5), sample(90)], [sample(1)] * 3)
    assert (figures.cpu_ms, figures.cpu_ms_least, figures.cpu_ms_most) == (5, 4, 90)


def test_rounds_of_unequal_number_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        report.summary([sample(1)], [sample(1), sample(1)])


def test_the_cells_of_a_column_end_together() -> None:
    rows = [line for line in report.table(result()).splitlines() if line.startswith("|")]
    assert len({tuple(i for i, letter in enumerate(row) if letter == "|") for row in rows}) == 1


def test_one_client_has_its_latency_and_a_crowd_its_throughput() -> None:
    served = next(line for line in report.table(result()).splitlines() if "served" in line)
    cells = [cell.strip() for cell in served.strip("|").split("|")]
    assert cells == ["served", "5.5 (5.0-6.0)", "1.0", "1.23", "5.5 (5.0-6.0)", "46", "1.23"]


def test_the_table_names_the_machine() -> None:
    assert (
        "tiny on Fast 1, Debian 12, Linux 6.1, 2026-01-02; 2 cores, of which other processes used 0.25."
        in report.table(result())
    )


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [("processor\t: 0\nmodel name\t: Fast: 1\n\nmodel name\t: Fast 2\n", "Fast: 1"), ("CPU part\t: 0xd0c\n", "")],
)
def test_the_first_processor_is_named_where_it_has_a_name(cpuinfo: str, name: str) -> None:
    assert report.cpu_model(cpuinfo) == name


def test_a_processor_that_waits_is_not_busy() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [ticks * seconds for seconds in (1, 2, 3, 1000, 1000, 4, 5, 6, 1000, 1000)]
    assert report.busy_seconds(f"cpu  {' '.join(map(str, fields))}\ncpu0 1 1\n") == 21


def test_a_process_is_charged_what_the_kernel_charged_it() -> None:
    before, own = processes.cpu_seconds(os.getpid()), time.process_time()
    sum(range(3_000_000))
    assert processes.cpu_seconds(os.getpid()) - before == pytest.approx(time.process_time() - own, rel=0.2)


def test_the_table_of_a_target_says_the_command_that_makes_it() -> None:
    table = report.table(msgspec.structs.replace(result(), target="some-cpu"))
    assert table.endswith("`invoke benchmark --target some-cpu`")


def test_every_target_with_encoders_has_modes_to_compare() -> None:
    encoders = [name for name in spec.names() if encoder.TASK in spec.load(name).tasks]
    assert all(Choice(target=name).modes_of(encoder.TASK) for name in encoders)


@pytest.mark.parametrize("target", spec.names())
def test_a_mode_that_several_exporters_make_takes_part_once(target: str) -> None:
    modes = Choice(target=target).modes_of(encoder.TASK)
    assert len(set(modes)) == len(modes)


@pytest.mark.parametrize("target", spec.names())
def test_a_mode_that_needs_a_file_of_the_users_takes_no_part(target: str) -> None:
    needy = {mode.name for mode in spec.load(target).modes if mode.needs}
    assert not needy & set(Choice(target=target).modes_of(encoder.TASK))


def test_a_mode_that_the_target_lacks_is_named_with_those_that_it_has() -> None:
    with pytest.raises(UsageError, match=f"{TARGET} has no mode 'int2'[^$]*none, int8"):
        Choice(modes="none,int2").modes_of(encoder.TASK)


@pytest.mark.parametrize("choice", [Choice(only="images"), Choice(modes="none")])
def test_contestants_of_encoders_are_not_chosen_one_by_one(choice: Choice, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --only, and name a --target beside --modes"):
        suites.run(encoder.TASK, config.load(), Quiet(), tmp_path, rounds=1, model="", choice=choice)


@pytest.mark.parametrize(("tokenise", "prepared"), [(False, 1), (True, 3)])
def test_a_loop_tokenises_every_text_or_only_before_it_starts(tokenise: bool, prepared: int) -> None:
    seen: list[str] = []

    def prepare(text: str) -> int:
        seen.append(text)
        return len(seen)

    seconds, vector = loops.timed(prepare, np.array, ["a"] * 3, tokenise=tokenise)
    assert (len(seconds), vector, len(seen)) == (3, prepared, prepared)


def test_the_loads_are_the_same_every_time() -> None:
    assert encoder.mixed() == encoder.mixed()


@pytest.mark.parametrize("tokens", [16, 128])
def test_a_text_has_one_word_for_each_token_that_is_not_special(tokens: int) -> None:
    assert len(encoder.text(tokens).split()) == tokens - 2
