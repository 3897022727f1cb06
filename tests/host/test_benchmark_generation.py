import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from images import config, locks, spec
from images.errors import ImageError, UsageError
from images.progress import Quiet
from tests.benchmarks import processes, suites
from tests.benchmarks.choice import Choice
from tests.benchmarks.generation import asking, benchmark, report
from tests.benchmarks.generation.asking import Answer, Prompt, Server
from tests.benchmarks.generation.programs import executorch_loop, lines
from tests.benchmarks.generation.report import Result, Row, Sample
from tests.benchmarks.processes import Started
from tests.benchmarks.report import Machine

OURS = 0
"""The process id of a contestant that is never charged."""


def sample(cpu_ms: float, *, per_second: float = 10) -> Sample:
    return Sample(cpu_ms=cpu_ms, per_second=per_second, first_ms=50, next_ms=5)


def result(**absent: str) -> Result:
    base = report.summary([sample(4), sample(5)], [sample(4), sample(5)])
    rows = [
        Row(name=name, ours=ours, crowd="one batch", prompt_cpu_ms=40, alone=figures, together=together)
        for name, ours, figures, together in (
            ("loop", False, base, base),
            (
                "image",
                True,
                report.summary([sample(5), sample(6)], [sample(4), sample(5)]),
                report.summary([sample(2, per_second=30)] * 2, [sample(4), sample(5)]),
            ),
        )
    ]
    return Result(
        machine=Machine(cpu="Fast 1", cores=2, os="Debian 12", kernel="6.1", date="2026-01-02"),
        others=0.25,
        model="tiny",
        packages={"onnxruntime": "1.0"},
        threads=2,
        rounds=2,
        target="some-cpu",
        prompt_tokens=37,
        answer_tokens=48,
        clients=8,
        absent=absent,
        rows=rows,
    )


def chunk(text: str = "", finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text} if text else {"role": "assistant"}, "finish_reason": finish}]}


def test_the_first_token_is_the_first_text_and_not_the_role() -> None:
    answer = asking.read([(0.1, chunk()), (0.2, chunk("a")), (0.5, chunk("b")), (0.6, chunk(finish="length"))], 2)
    assert answer == Answer(first=0.2, last=0.5, tokens=2, text="ab")


def test_an_answer_that_ends_early_has_no_tokens_to_divide_by() -> None:
    assert asking.read([(0.1, chunk("a")), (0.2, chunk(finish="stop"))], 48).tokens == 0


def test_an_answer_that_ends_early_is_an_error() -> None:
    with pytest.raises(ImageError, match="before it was as long"):
        benchmark.sample([Answer(0.1, 0.2, 48), Answer(0.1, 0.2, 0)], wall=1, used=1)


def test_an_answer_that_breaks_off_is_an_error() -> None:
    with pytest.raises(ImageError, match="out of memory"):
        asking.read([(0.1, chunk("a")), (0.2, {"error": "out of memory"})], 48)


def test_an_answer_without_a_word_is_an_error() -> None:
    with pytest.raises(ImageError, match="empty"):
        asking.read([], 48)


def test_cpu_time_is_divided_by_the_tokens_of_all_answers() -> None:
    found = benchmark.sample([Answer(0.1, 0.5, 5), Answer(0.3, 0.9, 5)], wall=2, used=1)
    assert (found.cpu_ms, found.per_second, found.first_ms) == (100, 5, 200)
    assert found.next_ms == pytest.approx((100 + 150) / 2)


def test_eight_clients_throughput_is_given_in_one_clients() -> None:
    (line,) = (line for line in report.table(result()).splitlines() if "**image**" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == [
        "5.5 (5.0-6.0)",
        "1.23",
        "10",
        "40",
        "50",
        "5.0",
        "2.0 (2.0-2.0)",
        "0.45",
        "30",
        "3.0",
        "one batch",
    ]


def test_the_table_says_who_is_missing_and_why() -> None:
    assert report.table(result(llama="no compiler\n  -> get one")).endswith("Not here: llama: no compiler")


TARGETS = ("onnx-cpu", "executorch-xnnpack")


def entries(target: str, only: str = "", modes: str = "") -> list[str]:
    chosen = benchmark.chosen(Choice(target=target, modes=modes))
    return [entry.name for entry in benchmark._entries(only, chosen)]


def test_the_table_says_the_command_that_makes_it() -> None:
    assert report.table(result()).endswith("`invoke benchmark --task text-generation --target some-cpu`")


def test_every_module_of_contestants_has_a_place_and_to_do_with_a_target() -> None:
    targets = [spec.load(name) for name in TARGETS]
    assert all(any(module.entries(target) for target in targets) for module in benchmark.modules().values())


@pytest.mark.parametrize("target", TARGETS)
def test_no_two_contestants_have_one_name(target: str) -> None:
    assert len(entries(target)) == len(set(entries(target))) > 1


@pytest.mark.parametrize(
    ("target", "first"),
    [("onnx-cpu", "onnxruntime in a loop, int8"), ("executorch-xnnpack", "ExecuTorch in a C++ loop, 8da8w")],
)
def test_the_runtime_alone_is_what_the_others_are_compared_with(target: str, first: str) -> None:
    assert entries(target)[0] == first


def test_only_the_modes_that_were_asked_for_take_part() -> None:
    assert entries("executorch-xnnpack", only="executorch_loop,images", modes="none,8da8w") == [
        "ExecuTorch in a C++ loop, 8da8w",
        "ExecuTorch in a C++ loop, none",
        "this image, 8da8w",
        "this image, none",
    ]


def test_a_mode_that_the_target_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(UsageError, match=r"onnx-cpu has no mode '8da8w' for text-generation\n.*int8, none, int4"):
        entries("onnx-cpu", modes="none,8da8w")


def test_a_contestant_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=r"'vllm'[^$]*onnxruntime_loop"):
        entries("onnx-cpu", only="images,vllm")


def test_a_contestant_of_another_target_is_an_error() -> None:
    with pytest.raises(UsageError, match="none of executorch_loop has to do with onnx-cpu"):
        entries("onnx-cpu", only="executorch_loop")


def test_the_loop_in_c_is_asked_one_prompt_after_the_other_and_keeps_the_time() -> None:
    given, said = io.StringIO(), io.StringIO("0.5 7 0.75 8 \n0.25 9 0.5 10 \n")
    (first, ids), (second, others) = executorch_loop.generate(given, said, [[1, 2], [3]], 2)
    assert given.getvalue() == "2 1 2\n2 3\n"
    assert (list(ids), list(others)) == ([7, 8], [9, 10])
    assert first[1] - first[0] == second[1] - second[0] == pytest.approx(0.25)


def test_a_loop_in_c_that_ends_is_an_error() -> None:
    with pytest.raises(EOFError, match="the loop ended"):
        executorch_loop.generate(io.StringIO(), io.StringIO(), [[1]], 2)


def test_prompts_of_unequal_length_are_an_error() -> None:
    with pytest.raises(UsageError, match="2 and 3 tokens"):
        benchmark.prompts_of(["a b", "a b c"], str, lambda text: [*map(len, text.split())])


def test_a_task_without_a_benchmark_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="feature-extraction, text-generation"):
        suites.run("fill-mask", config.load(), Quiet(), tmp_path, rounds=1, model="", choice=Choice())


def test_no_rounds_measure_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 rounds"):
        suites.run("text-generation", config.load(), Quiet(), tmp_path, rounds=0, model="", choice=Choice())


class Chat(BaseHTTPRequestHandler):
    """Answers as OpenAI's chat does, once all clients are there."""

    protocol_version = "HTTP/1.1"
    everybody: threading.Barrier
    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.everybody.wait(timeout=5)
        events = [chunk(), chunk("Hi"), chunk(finish="length")]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


@contextmanager
def chat(clients: int) -> Iterator[tuple[Server, list[dict[str, Any]]]]:
    handler = type("Handler", (Chat,), {"everybody": threading.Barrier(clients), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started = Started(OURS, f"127.0.0.1:{server.server_port}")
        yield Server(started, "join one batch", {"model": "tiny"}), handler.asked  # type: ignore[attr-defined]
        server.shutdown()


def prompts(number: int) -> list[Prompt]:
    return [Prompt(f"say {index}", (index,)) for index in range(number)]


def test_clients_ask_at_the_same_time_and_each_prompt_once() -> None:
    with chat(clients=4) as (server, asked):
        answers = server.ask(prompts(8), 16, clients=4)
    assert [answer.tokens for answer in answers] == [16] * 8
    assert sorted(each["messages"][0]["content"] for each in asked) == [f"say {index}" for index in range(8)]


def test_a_request_is_greedy_streamed_and_as_long_as_all_others() -> None:
    with chat(clients=1) as (server, asked):
        server.ask(prompts(1), 16, clients=1)
    wanted = {"model": "tiny", "max_tokens": 16, "temperature": 0, "stream": True}
    assert asked[0].items() >= wanted.items()


def test_a_library_is_handed_as_many_prompts_as_there_are_clients() -> None:
    batches: list[list[list[int]]] = []

    def generate(given: list[list[int]], tokens: int) -> lines.Answers:
        batches.append(given)
        return [([0.1] * tokens, [*ids] * tokens) for ids in given]

    with library(generate) as asked:
        answers = asked.ask(prompts(4), 3, clients=2)
    assert batches == [[[0], [1]], [[2], [3]]]
    assert [answer.ids for answer in answers] == [[0] * 3, [1] * 3, [2] * 3, [3] * 3]


def test_a_library_that_fails_is_an_error_with_its_own_words() -> None:
    def generate(_prompts: list[list[int]], _tokens: int) -> lines.Answers:
        raise MemoryError("no room")

    with library(generate) as asked, pytest.raises(ImageError, match="MemoryError: no room"):
        asked.ask(prompts(1), 3, clients=1)


@contextmanager
def library(generate: Any) -> Iterator[asking.Library]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    worker = threading.Thread(target=lines.serve, args=(port, generate), daemon=True)
    worker.start()
    with asking.library(Started(threading.get_native_id(), f"127.0.0.1:{port}"), "one batch") as connected:
        yield connected


@pytest.mark.starts_programs
def test_a_process_is_charged_what_its_children_used() -> None:
    before = processes.cpu_seconds(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True); input()"
    argv = [sys.executable, "-c", burn]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.cpu_seconds(os.getpid()) - before >= 0.5
        child.communicate(b"\n")


@pytest.mark.starts_programs
def test_a_program_that_ends_before_it_answers_is_an_error_with_its_own_words() -> None:
    argv = [sys.executable, "-c", "raise SystemExit('there is no such model')"]
    with (
        pytest.raises(ImageError, match=r"exit code 1\nthere is no such model"),
        processes.native(lambda _port: argv, os.environ) as started,
    ):
        processes.wait(started, "/health")


GENERATING = [name for name in spec.names() if benchmark.TASK in spec.load(name).tasks]
SERVING = [
    name for name in GENERATING if "transformers" in {each.name for each in locks.parse(spec.load(name).lock("run"))}
]


@pytest.mark.parametrize("target", GENERATING)
def test_the_images_of_any_target_that_generates_can_take_part(target: str) -> None:
    assert "this image" in "".join(entries(target))


@pytest.mark.parametrize("target", SERVING)
def test_what_stands_behind_an_image_is_measured_beside_it(target: str) -> None:
    assert "transformers serve, PASSIVE" in entries(target)
