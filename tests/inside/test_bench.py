import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from images.inside import bench, tasks
from images.inside.bench import Benchmark, Load, Sample, Single
from images.inside.records import Manifest
from images.inside.text import Tokenizer
from tests.inside import serving, tiny

RESULT = Benchmark(
    model="acme/tiny",
    target="some-cpu",
    mode="none",
    threads=2,
    single=[Single(tokens=16, requests=100, p50_ms=1.5, p95_ms=2.25, cpu_ms=1.25)],
    load=[Load(clients=4, tokens=128, requests_per_second=123.456, p50_ms=10, p95_ms=20, cpu_ms=5)],
    peak_rss_mib=99.6,
)


class Process:
    """What the measurements need to know of the server's process: here it is this one."""

    pid = os.getpid()


# Request bodies


def facts_of(task: str) -> Manifest:
    return tiny.manifest(task, max_length=300, **tiny.BYTE_TOKENS)


def samples(folder: Path, task: str) -> bench._Samples:
    tiny.load(folder, tiny.bytelevel(), facts_of(task))
    return bench._Samples(folder, facts_of(task))


def tokens(body: bytes, folder: Path, task: str) -> int:
    facts = facts_of(task)
    items = tasks.load(task).prepare(json.loads(body), Tokenizer.load(folder, facts), facts).items
    return max(len(item.ids) for item in items)


@pytest.mark.parametrize("task", tasks.TEXTS)
@pytest.mark.parametrize("length", [64, 128, 300])
def test_a_body_has_as_many_words_as_fit_into_the_length(task: str, length: int, tmp_path: Path) -> None:
    body = samples(tmp_path, task).body(length)
    longest_word = max(map(len, bench.WORDS.split())) + 1
    assert length - longest_word <= tokens(body, tmp_path, task) <= length


@pytest.mark.parametrize("task", tasks.TEXTS)
def test_a_body_has_a_word_though_none_fits(task: str, tmp_path: Path) -> None:
    body = json.loads(samples(tmp_path, task).body(1))
    assert "the" in json.dumps(body["inputs"])


def test_a_body_for_fill_mask_has_the_models_mask(tmp_path: Path) -> None:
    assert json.loads(samples(tmp_path, "fill-mask").body(64))["inputs"].endswith(" <mask>")


# Measuring, with a server of this process


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving.served() as url:
        yield int(url.rpartition(":")[2])


SAMPLE = Sample("2 tokens", 2, b'{"inputs": "one two"}')
PROCESS: Any = Process()


def test_one_client_is_measured_for_as_long_as_asked(port: int) -> None:
    since = time.perf_counter()
    single = bench._single(PROCESS, port, SAMPLE, 0.2)
    assert time.perf_counter() - since >= 0.2
    assert single.requests >= 10
    assert 0 < single.p50_ms <= single.p95_ms


def test_several_clients_answer_more_than_none(port: int) -> None:
    load = bench._load(PROCESS, port, SAMPLE, 3, 0.2)
    assert (load.clients, load.tokens) == (3, 2)
    assert load.requests_per_second > 10


def test_a_refused_request_counts_as_none(port: int) -> None:
    times: list[float] = []
    bench._client(port, SAMPLE._replace(body=b'{"inputs": 1}'), time.perf_counter() + 0.05, times)
    assert times == []


def test_cpu_time_is_that_of_the_process() -> None:
    before, until = bench._cpu_seconds(os.getpid()), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0.03 <= bench._cpu_seconds(os.getpid()) - before <= 1


def test_peak_memory_is_that_of_the_process() -> None:
    assert bench._status(os.getpid(), "VmHWM") > 10_000


@pytest.mark.parametrize(("times", "p95"), [([7.0], 7.0), ([float(time) for time in range(101)], 95.0)])
def test_the_95th_percentile_is_one_of_many_or_the_only_one(times: list[float], p95: float) -> None:
    assert bench._p95(times) == pytest.approx(p95, abs=1)


# What it says


def test_the_table_has_a_line_for_every_measurement() -> None:
    lines = [line.split() for line in bench.table(RESULT).splitlines()]
    assert lines[0] == ["acme/tiny", "some-cpu", "none", "2", "CPUs"]
    assert ["16", "tokens", "1.50", "2.25", "1.25"] in lines
    assert ["4", "10.00", "20.00", "5.00", "123.5"] in lines
    assert lines[-1] == ["peak", "resident", "memory", "100", "MiB"]


def test_the_json_is_the_whole_result() -> None:
    told = json.loads(json.dumps(bench.as_json(RESULT)))
    assert msgspec.convert(told, Benchmark) == RESULT
