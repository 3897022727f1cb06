from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from images.inside.generation import bench
from tests.inside import texting
from tests.inside.serving import MODEL

ROW = bench.Generation(
    clients=4,
    prompt_tokens=128,
    tokens_per_second=217.625,
    prompt_per_second=1600.5,
    decode_per_second=350.25,
    first_p50_ms=249.5,
    first_p95_ms=342.75,
    next_p50_ms=13.25,
    next_p95_ms=16.5,
    cpu_ms=7.75,
)


@pytest.fixture(scope="module")
def measured() -> bench.Generation:
    """Two clients of the small generator, with a clock of CPU time that is always right twice a second."""
    seconds = iter([10.0, 10.5])
    with texting.served() as url:
        port = urlsplit(url).port
        assert port
        return bench.measure(port, bench.body(MODEL, [70, 71, 72]), 3, 2, 0.05, lambda: next(seconds))


def test_what_was_asked_for_is_stated(measured: bench.Generation) -> None:
    assert (measured.clients, measured.prompt_tokens) == (2, 3)


def test_the_first_token_and_those_behind_it_take_time(measured: bench.Generation) -> None:
    assert 0 < measured.first_p50_ms <= measured.first_p95_ms
    assert 0 < measured.next_p50_ms <= measured.next_p95_ms


def test_cpu_time_is_divided_by_the_tokens_of_whole_answers(measured: bench.Generation) -> None:
    answers = 500 / measured.cpu_ms / bench.ANSWER
    assert answers == pytest.approx(round(answers))
    assert answers >= 2


def test_reading_prompts_and_going_on_are_told_apart(measured: bench.Generation) -> None:
    """By the server's own time: both together are less than all the time that passed."""
    answers = 500 / measured.cpu_ms / bench.ANSWER
    reading, going_on = 3 / measured.prompt_per_second, (bench.ANSWER - 1) / measured.decode_per_second
    took = answers * bench.ANSWER / measured.tokens_per_second
    assert 0 < answers * (reading + going_on) < took


def test_a_row_has_its_clients_and_figures() -> None:
    head, row = bench.table([ROW])
    assert head.split()[:2] == ["clients", "tok/s"]
    assert row.split() == ["4", "217.62", "1600.50", "350.25", "249.50", "342.75", "13.25", "16.50", "7.75"]


def test_an_answer_without_a_text_has_a_time_between_its_tokens_all_the_same() -> None:
    with (
        texting.served(texting.Scripted("")) as url,
        closing(HTTPConnection("127.0.0.1", urlsplit(url).port)) as connection,
    ):
        answer = bench.ask(connection, bench.body(MODEL, [70], 4))
    assert (answer.tokens, len(answer.gaps)) == (4, 1)
    assert answer.gaps[0] > 0


def test_a_server_that_refuses_is_told() -> None:
    with texting.served() as url, pytest.raises(RuntimeError, match="the server answers 404"):
        bench.measure(urlsplit(url).port or 0, bench.body("another", [70]), 1, 1, 0, lambda: 0)
