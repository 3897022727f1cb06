import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from images.inside import generating
from images.inside.errors import ArtifactError, Exit
from images.inside.loaded import LoadedGenerator
from images.inside.prompts import Prompts
from images.inside.server import listen, running, serve
from images.inside.settings import Settings
from tests.inside import texting, tiny
from tests.inside.generating import ChainGenerator
from tests.inside.serving import MODEL, metric, until
from tests.inside.texting import CONTEXT, FACTS, HTTP, body, chunks, expected, named, raw

# The client asks `uname` what machine it runs on.
pytestmark = pytest.mark.starts_programs
PROBE = 5
"""Calls of the generator before the first request: a prompt a slot, and a token for all of them."""
CHAT = "/v1/chat/completions"
REQUESTS: dict[str, dict[str, Any]] = {
    CHAT: body(),
    "/v1/completions": {"model": MODEL, "prompt": "once", "max_tokens": 12},
    "/v1/responses": {"model": MODEL, "input": "hello", "max_output_tokens": 12},
}
"""A request for 12 tokens by every route."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with texting.served(max_body_bytes=1000) as address:
        yield address


def holding(call: int) -> ChainGenerator:
    """A generator that stops at a call until it is told to go on."""
    generator = ChainGenerator()
    generator.holds = PROBE + call
    return generator


def breaking(call: int) -> ChainGenerator:
    """A generator that fails at a call and from then on."""

    class Breaking(ChainGenerator):
        def _begin(self, kind: str, slots: Any, ids: Any) -> None:
            super()._begin(kind, slots, ids)
            if len(self.calls) >= PROBE + call:
                raise RuntimeError("the generator broke")

    return Breaking()


@contextlib.contextmanager
def held(url: str, generator: ChainGenerator, path: str = CHAT) -> Iterator[httpx.Response]:
    """With a stream under way whose generator has stopped."""
    with HTTP.stream("POST", url + path, json=REQUESTS[path] | {"stream": True}) as stream:
        assert generator.held.wait(5)
        try:
            yield stream
        finally:
            generator.open.set()


def text(stream: bytes) -> str:
    return "".join(choice["delta"].get("content", "") for chunk in chunks(stream) for choice in chunk["choices"])


def test_many_clients_at_once_each_get_the_answer_that_they_get_alone() -> None:
    def ask(word: str) -> str | None:
        answer = client.completions.create(model=MODEL, prompt=word, max_tokens=40, stream=True)
        return "".join(chunk.choices[0].text for chunk in answer)

    words = [f"client {number}" for number in range(8)]
    with texting.served() as url, texting.connected(url) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, words))

    assert answers == [expected(word, 40) for word in words]


def test_a_token_is_sent_before_the_next_is_made() -> None:
    generator = holding(4)
    with texting.served(generator) as url, held(url, generator) as stream:
        lines = stream.iter_lines()
        found = [json.loads(line.removeprefix("data: ")) for line in (next(lines) for _ in range(8)) if line]

    assert [chunk["choices"][0]["delta"]["content"] for chunk in found] == ["", *expected("u:hello;a:", 3)]


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_takes_its_answer_along(path: str, stream: bool) -> None:
    generator = holding(4)
    with texting.served(generator) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as leaving:
            asked = json.dumps(REQUESTS[path] | {"stream": stream}).encode()
            leaving.sendall(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(asked)))
            leaving.sendall(asked)
            assert generator.held.wait(5)
        until(lambda: 'modelyard_answers_total{finish="cancelled"} 1.0' in HTTP.get(f"{url}/metrics").text)
        generator.open.set()
        until(lambda: metric(url, "modelyard_running_sequences") == 0)

    assert len(generator.calls) == PROBE + 4


def test_a_full_queue_is_429_with_the_time_to_wait() -> None:
    generator = holding(1)
    with texting.served(generator, max_queue_answers=1) as url, held(url, generator), ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(HTTP.post, url + CHAT, json=body())
        until(lambda: metric(url, "modelyard_queue_items") >= 1)
        answer = HTTP.post(url + CHAT, json=body(n=2))
        generator.open.set()

    assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (429, True)
    assert (answer.json()["error"]["type"], answer.json()["error"]["code"]) == ("rate_limit_error", "queue_full")


def test_of_several_answers_all_begin_or_none() -> None:
    generator = holding(4)
    with texting.served(generator, max_queue_answers=1) as url, held(url, generator):
        refused = HTTP.post(url + CHAT, json=body(n=5))
        waiting = metric(url, "modelyard_queue_items")

    assert (refused.status_code, waiting) == (429, 0)


def test_an_error_in_the_middle_of_chunks_is_the_last_event() -> None:
    with texting.served(breaking(4)) as url, texting.connected(url) as client:
        stream = client.chat.completions.create(**body(), stream=True)
        found = [next(stream).choices[0].delta.content for _ in range(4)]
        with pytest.raises(openai.APIError, match="request id"):
            next(stream)

    assert found == ["", *expected("u:hello;a:", 3)]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_chunks_that_end_with_an_error_are_not_said_to_be_done(path: str) -> None:
    with texting.served(breaking(4)) as url:
        answer = HTTP.post(url + path, json=REQUESTS[path] | {"stream": True})
    *_, last, rest = answer.text.split("\n\n")

    assert (rest, "[DONE]" in answer.text) == ("", False)
    assert set(json.loads(last.removeprefix("data: "))["error"]) == {"message", "type", "param", "code"}


def test_an_error_in_the_middle_of_a_response_fails_it() -> None:
    with texting.served(breaking(4)) as url:
        *_, told, failed = named(raw(url, "responses", REQUESTS["/v1/responses"]))

    assert (told["type"], failed["type"]) == ("error", "response.failed")
    assert (failed["response"]["status"], failed["response"]["error"]["code"]) == ("failed", "server_error")
    assert failed["response"]["output"][0]["content"][0]["text"] == expected("u:hello;a:", 3)


@pytest.mark.parametrize("path", REQUESTS)
def test_an_error_before_the_answer_is_whole_is_a_server_error(path: str) -> None:
    with texting.served(breaking(4)) as url:
        answer = HTTP.post(url + path, json=REQUESTS[path], headers={"x-request-id": "mine"})

    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "request id mine" in answer.json()["error"]["message"]


def test_an_error_of_one_of_several_answers_ends_the_request() -> None:
    with texting.served(breaking(8)) as url:
        assert HTTP.post(url + CHAT, json=body(n=3)).status_code == 500
        until(lambda: metric(url, "modelyard_running_sequences") == 0)


def test_a_connection_is_used_again_after_a_stream() -> None:
    with texting.served() as url, httpx.Client(base_url=url) as client:
        first, again = (client.post(CHAT, json=body(stream=True)) for _ in range(2))

    assert text(first.content) == text(again.content)


def test_metrics_tell_of_prompts_tokens_and_times() -> None:
    with texting.served() as url:
        HTTP.post(url + CHAT, json=body())
        read = {name: metric(url, f"modelyard_{name}") for name in METRICS}

    assert read == METRICS


METRICS = {
    "prompt_tokens_total": 10,
    "generated_tokens_total": 12,
    "time_to_first_token_seconds_count": 1,
    "inter_token_seconds_count": 11,
    "batch_items_count": 12,
    "queue_items": 0,
    "running_sequences": 0,
    "kv_tokens": 0,
    "slots": 4,
    "kv_tokens_limit": 4 * CONTEXT,
    'answers_total{finish="length"}': 1,
}


def test_metrics_tell_of_what_is_under_way() -> None:
    generator = holding(4)
    with texting.served(generator, max_kv_tokens=300) as url, held(url, generator):
        names = ("running_sequences", "kv_tokens", "kv_reserved_tokens", "kv_tokens_limit")
        read = [metric(url, f"modelyard_{name}") for name in names]

    assert read == [1, 12, 22, 300]


def test_the_budget_of_tokens_is_a_limit_of_the_context() -> None:
    with texting.served(max_kv_tokens=20) as url:
        answer = HTTP.post(url + CHAT, json=body())

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(("spare", "tokens"), [(0, CONTEXT), (2000, CONTEXT + 100), (1 << 30, 4 * CONTEXT)])
def test_memory_bounds_the_tokens_under_way(spare: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = texting.FACTS.__replace__(kv_bytes=10)
    monkeypatch.setattr(generating, "memory_limit", lambda: texting.manifest().memory_bytes + spare)
    with texting.served(facts=facts) as url:
        assert metric(url, "modelyard_kv_tokens_limit") == tokens


def test_what_the_operator_says_of_tokens_under_way_holds_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "memory_limit", lambda: 0)
    with texting.served(facts=texting.FACTS.__replace__(kv_bytes=10), max_kv_tokens=700) as url:
        assert metric(url, "modelyard_kv_tokens_limit") == 700


def test_a_long_prompt_is_read_in_parts() -> None:
    generator = ChainGenerator()
    with texting.served(generator, max_prefill_tokens=4) as url:
        HTTP.post(url + CHAT, json=body())

    parts = [len(ids) for kind, _, ids in generator.calls[PROBE:] if kind == "prefill"]
    assert parts == [4, 4, 2]


def test_a_generator_that_cannot_fill_its_slots_never_gets_ready() -> None:
    model = LoadedGenerator(
        artifact=Path(), manifest=texting.manifest(), prompts=Prompts(tiny.bytelevel(), FACTS), runner=breaking(0)
    )
    with pytest.raises(RuntimeError, match="broke"), running(texting.manifest(), Settings(), lambda: model):
        pass


@pytest.mark.parametrize("path", ["/health", "/v2/health/ready", "/v2/models/tiny/ready", "/v2", "/docs"])
def test_probes_are_those_of_every_model(url: str, path: str) -> None:
    assert HTTP.get(url + path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/embeddings", "/predict", "/v2/models/tiny/infer"])
def test_what_the_model_cannot_do_is_no_route(url: str, path: str) -> None:
    assert HTTP.post(url + path, json={}).status_code == 404


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize(
    ("sent", "status"), [(b"{", 400), (b"[]", 400), (b" " * 2000, 413)], ids=["no JSON", "no object", "too large"]
)
def test_a_body_of_another_form_is_refused_in_the_apis_shape(url: str, path: str, sent: bytes, status: int) -> None:
    answer = HTTP.post(url + path, content=sent)

    assert (answer.status_code, set(answer.json()["error"])) == (status, {"message", "type", "param", "code"})


@pytest.fixture
def port() -> int:
    with listen("127.0.0.1", 0) as free:
        found: int = free.getsockname()[1]
        return found


def serving(port: int, generator: ChainGenerator, ask: Callable[[str], None], **settings: Any) -> Exit:
    """Serve until the client ends it; the exit code."""
    stated = texting.manifest()
    model = LoadedGenerator(
        artifact=Path(), manifest=stated, prompts=Prompts(tiny.bytelevel(), FACTS), runner=generator
    )
    url = f"http://127.0.0.1:{port}"

    def client() -> None:
        until(lambda: _answers(url))
        ask(url)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client)
        code = serve(stated, Settings(host="127.0.0.1", port=port, log_level="error", **settings), lambda: model)
        asked.result()
    return code


def _answers(url: str) -> bool:
    try:
        return HTTP.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


@pytest.mark.usefixtures("_logging_kept")
def test_sigterm_lets_a_stream_come_to_its_end(port: int) -> None:
    generator, seen = holding(4), {}

    def ask(url: str) -> None:
        with held(url, generator) as stream:
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: not _answers(url))
            generator.open.set()
            seen["text"] = text(stream.read())

    assert serving(port, generator, ask) is Exit.PASS
    assert seen["text"] == expected("u:hello;a:")


@pytest.mark.usefixtures("_logging_kept")
def test_the_graces_end_is_told_to_a_stream_that_does_not_end(port: int) -> None:
    generator, seen = holding(4), {}

    def ask(url: str) -> None:
        with held(url, generator) as stream:
            os.kill(os.getpid(), signal.SIGTERM)
            seen["last"] = stream.read().split(b"\n\n")[-2]

    assert serving(port, generator, ask, grace_seconds=0) is Exit.PASS
    assert json.loads(seen["last"].removeprefix(b"data: "))["error"]["code"] == "ended"


@pytest.mark.usefixtures("_logging_kept")
def test_the_graces_end_is_503_for_an_answer_that_is_not_whole(port: int) -> None:
    generator, seen = holding(4), {}

    def ask(url: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(HTTP.post, url + CHAT, json=body())
            assert generator.held.wait(5)
            os.kill(os.getpid(), signal.SIGTERM)
            seen["status"] = asked.result().status_code
            generator.open.set()

    assert serving(port, generator, ask, grace_seconds=0) is Exit.PASS
    assert seen["status"] == 503


def test_a_template_that_is_none_is_a_damaged_artifact() -> None:
    with pytest.raises(ArtifactError, match="template"):
        Prompts(tiny.bytelevel(), FACTS.__replace__(chat_template="{% if %}"))
