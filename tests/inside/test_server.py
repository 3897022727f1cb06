import contextlib
import gzip
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from images.inside.errors import ArtifactError, CannotRunError, Exit, OutputsDifferError
from images.inside.loaded import Loaded
from images.inside.server import listen, running, serve
from images.inside.settings import Settings
from tests.inside.serving import MODEL, TableRunner, loaded, manifest, metric, served, until


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(max_body_bytes=100_000) as url, httpx.Client(base_url=url) as made:
        yield made


def post(url: str, text: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", json={"inputs": text}, timeout=10)


def refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health")
    except httpx.TransportError:
        return True
    return False


@contextlib.contextmanager
def busy(url: str, runner: TableRunner) -> Iterator[tuple[ThreadPoolExecutor, "Future[httpx.Response]"]]:
    """With a request held up in the model, and threads to send more with."""
    runner.open.clear()
    runner.started.clear()
    with ThreadPoolExecutor(8) as pool:
        try:
            held = pool.submit(post, url, "one")
            assert runner.started.wait(5)
            yield pool, held
        finally:
            runner.open.set()


def openai_error(answer: httpx.Response) -> bool:
    return set(answer.json()["error"]) == {"message", "type", "param", "code"}


def plain_error(answer: httpx.Response) -> bool:
    return set(answer.json()) == {"error"} and isinstance(answer.json()["error"], str)


EMBEDDINGS, PREDICT, INFER = "/v1/embeddings", "/predict", "/v2/models/tiny/infer"
SHAPES = {EMBEDDINGS: openai_error, "/v1/nowhere": openai_error, "/v1/models/other": openai_error}
ERRORS = [
    ("GET", "/nowhere", b"", 404),
    ("GET", "/v1/nowhere", b"", 404),
    ("GET", "/v1/models/other", b"", 404),
    ("GET", "/v2/nowhere", b"", 404),
    ("GET", "/v2/models/other", b"", 404),
    ("GET", "/health/", b"", 404),
    *[("GET", path, b"", 405) for path in (EMBEDDINGS, PREDICT, INFER)],
    ("POST", "/health", b"", 405),
    *[("POST", path, b"{", 400) for path in (EMBEDDINGS, PREDICT, INFER)],
    *[("POST", path, b"", 400) for path in (EMBEDDINGS, PREDICT, INFER)],
    *[("POST", path, b'{"input": "\xff"}', 400) for path in (EMBEDDINGS, PREDICT, INFER)],
    ("POST", PREDICT, b'{"inputs":' + b"[" * 90_000, 400),
    *[("POST", path, b" " * 100_001, 413) for path in (EMBEDDINGS, PREDICT, INFER)],
    ("POST", EMBEDDINGS, b"{}", 422),
    ("POST", PREDICT, b"{}", 422),
    ("POST", INFER, b"{}", 400),
    ("POST", EMBEDDINGS, b'{"model": "tiny", "input": "eight"}', 500),
    ("POST", PREDICT, b'{"inputs": "eight"}', 500),
    ("POST", INFER, b'{"inputs": [{"name":"text","shape":[1],"datatype":"BYTES","data":["eight"]}]}', 500),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), ERRORS)
def test_an_error_has_its_status_and_its_apis_shape(
    client: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    answer = client.request(method, path, content=body)

    assert (answer.status_code, SHAPES.get(path, plain_error)(answer)) == (status, True)


@pytest.mark.parametrize("path", [EMBEDDINGS, PREDICT, INFER])
def test_a_packed_body_is_refused_for_its_packing(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"})

    assert (answer.status_code, "Content-Encoding: gzip" in answer.text) == (415, True)


def test_half_an_emoji_is_told_as_what_it_may_be(client: httpx.Client) -> None:
    assert "an emoji may be cut in half" in client.post(PREDICT, content=rb'{"inputs": "one \uD83D"}').text


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: httpx.Client) -> None:
    assert client.post(PREDICT, content=(b" " * 10_000 for _ in range(11))).status_code == 413


def test_a_wrong_method_is_told_the_right_one(client: httpx.Client) -> None:
    assert client.get(PREDICT).headers["allow"] == "POST"


def test_what_can_be_got_can_be_asked_for_its_head(client: httpx.Client) -> None:
    assert client.head("/health").status_code == 200


def test_a_request_id_comes_back(client: httpx.Client) -> None:
    assert client.get("/nowhere", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", ["", "with space", "x" * 129])
def test_a_request_id_that_cannot_be_logged_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/health", headers={"x-request-id": given})

    assert len(answer.headers["x-request-id"]) == 24


def test_answers_on_one_connection_do_not_wait_for_acknowledgements(client: httpx.Client) -> None:
    started = time.perf_counter()
    for _ in range(20):
        client.post(PREDICT, json={"inputs": "one"})

    assert time.perf_counter() - started < 20 * 0.04


def test_concurrent_requests_run_as_one_batch() -> None:
    runner = TableRunner()
    with served(runner) as url, busy(url, runner) as (pool, _):
        for _ in range(4):
            pool.submit(post, url, "one two")
        until(lambda: metric(url, "modelyard_queue_items") == 4)

    assert runner.shapes[-1] == (4, 4)


def test_a_client_that_leaves_takes_its_work_along() -> None:
    runner = TableRunner()
    with served(runner) as url, busy(url, runner):
        leaving = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        body = b'{"inputs": "one two three"}'
        leaving.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        until(lambda: metric(url, "modelyard_queue_items") == 1)
        leaving.close()
        until(lambda: metric(url, "modelyard_queue_items") == 0)

    assert (1, 5) not in runner.shapes


def test_a_full_queue_is_429_with_the_time_to_wait() -> None:
    runner = TableRunner()
    with served(runner, max_queue=1) as url, busy(url, runner) as (pool, _):
        pool.submit(post, url, "two")
        until(lambda: metric(url, "modelyard_queue_items") == 1)
        answer = httpx.post(f"{url}{EMBEDDINGS}", json={"model": MODEL, "input": "one"})

    assert (answer.status_code, int(answer.headers["retry-after"]) >= 1, openai_error(answer)) == (429, True, True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/metrics", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/tiny/ready", 200),
        ("/v1/models", 401),
        ("/v2", 401),
        ("/v2/models/tiny", 401),
    ],
)
def test_the_key_closes_all_but_probes_metrics_and_documentation(closed: str, path: str, status: int) -> None:
    assert httpx.get(closed + path).status_code == status


@pytest.mark.parametrize("path", [EMBEDDINGS, PREDICT, INFER])
def test_a_missing_key_is_401_in_the_apis_shape(closed: str, path: str) -> None:
    answer = httpx.post(closed + path, json={})

    assert (answer.status_code, SHAPES.get(path, plain_error)(answer)) == (401, True)


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic right", "right", "Bearer r\xefght"])
def test_a_wrong_key_is_refused(closed: str, given: str) -> None:
    headers = {"authorization": given.encode("latin-1")}

    assert httpx.get(f"{closed}/v1/models", headers=headers).status_code == 401  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    with served(api_key="right") as url:
        yield url


@pytest.mark.usefixtures("_logging_kept")
def test_before_it_is_ready_it_lives_and_says_so() -> None:
    url, seen = f"http://127.0.0.1:{free_port()}", {}

    def load() -> Loaded:
        until(lambda: not refused(url))
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready", "/health"):
            seen[path] = httpx.get(url + path).status_code
        seen[PREDICT] = post(url, "one").status_code
        raise CannotRunError("enough was seen")

    serve(manifest(), Settings(host="127.0.0.1", port=int(url.rpartition(":")[2])), load)

    probes = {"/v2/health/live": 200, "/v2/health/ready": 503, "/v2/models/tiny/ready": 503, "/health": 503}
    assert seen == {**probes, PREDICT: 503}


@pytest.mark.usefixtures("_logging_kept")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtifactError("model.onnx: changed"), Exit.DAMAGED),
        (CannotRunError("AVX2 is missing"), Exit.CANNOT_RUN),
        (OutputsDifferError("unicode: cosine 0.5 < 0.99"), Exit.DIFFERS),
        (MemoryError("no"), Exit.CANNOT_RUN),
    ],
)
def test_a_failed_check_ends_the_server_with_its_exit_code(error: Exception, code: Exit) -> None:
    def load() -> Loaded:
        raise error

    assert serve(manifest(), Settings(host="127.0.0.1", port=0), load) is code


@pytest.mark.usefixtures("_logging_kept")
def test_a_failed_check_is_logged_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> Loaded:
        raise ArtifactError("model.onnx: changed")

    serve(manifest(), Settings(host="127.0.0.1", port=0), load)

    assert logged(capsys, "not ready")["reason"] == "model.onnx: changed"


@pytest.mark.usefixtures("_logging_kept")
def test_a_taken_port_means_that_it_cannot_run() -> None:
    with listen("127.0.0.1", 0) as taken:
        settings = Settings(host="127.0.0.1", port=taken.getsockname()[1])

        assert serve(manifest(), settings, lambda: loaded(manifest(), TableRunner())) is Exit.CANNOT_RUN


def test_what_loading_raises_reaches_who_runs_the_server() -> None:
    def load() -> Loaded:
        raise ArtifactError("model.onnx: changed")

    with pytest.raises(ArtifactError, match=r"model\.onnx"), running(manifest(), Settings(), load):
        pass


@pytest.mark.usefixtures("_logging_kept")
def test_sigterm_turns_ready_off_then_finishes_what_was_asked_and_exits_with_0() -> None:
    runner, seen = TableRunner(), {}
    url = f"http://127.0.0.1:{free_port()}"

    def ask() -> None:
        until(lambda: not refused(url) and httpx.get(f"{url}/health").is_success)
        with busy(url, runner) as (_, held):
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/health").status_code == 503)
            seen["ready"] = httpx.get(f"{url}/v2/health/ready").status_code
            until(lambda: refused(url))
        seen["answer"] = held.result().status_code

    settings = Settings(host="127.0.0.1", port=int(url.rpartition(":")[2]), drain_seconds=1)
    with in_thread(ask):
        seen["exit"] = serve(manifest(), settings, lambda: loaded(manifest(), runner))

    assert seen == {"ready": 503, "answer": 200, "exit": Exit.PASS}


@pytest.mark.usefixtures("_logging_kept")
def test_a_draining_server_closes_kept_connections_with_their_next_answer() -> None:
    """Not while they are idle: their client may be about to ask."""
    seen = {}
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ask() -> None:
        until(lambda: not refused(url) and httpx.get(f"{url}/health").is_success)
        with httpx.Client(base_url=url, trust_env=False) as client:
            seen["before"] = client.get("/health").headers.get("connection")
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/health").status_code == 503)
            seen["draining"] = client.post(PREDICT, json={"inputs": "one seven"}).headers.get("connection")

    settings = Settings(host="127.0.0.1", port=port, drain_seconds=1)
    with in_thread(ask):
        serve(manifest(), settings, lambda: loaded(manifest(), TableRunner()))

    assert seen == {"before": None, "draining": "close"}


@pytest.mark.usefixtures("_logging_kept")
def test_the_grace_ends_a_request_that_does_not() -> None:
    runner, seen = TableRunner(), {}
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ask() -> None:
        until(lambda: not refused(url) and httpx.get(f"{url}/health").is_success)
        with busy(url, runner) as (_, held):
            os.kill(os.getpid(), signal.SIGTERM)
            seen["answer"] = held.result().status_code

    settings = Settings(host="127.0.0.1", port=port, grace_seconds=0)
    with in_thread(ask):
        seen["exit"] = serve(manifest(), settings, lambda: loaded(manifest(), runner))

    assert seen == {"answer": 503, "exit": Exit.PASS}


@pytest.mark.usefixtures("_logging_kept")
def test_the_grace_ends_a_request_whose_body_does_not_come(capsys: pytest.CaptureFixture[str]) -> None:
    port, seen = free_port(), {}

    def ask() -> None:
        until(lambda: not refused(f"http://127.0.0.1:{port}"))
        with socket.create_connection(("127.0.0.1", port)) as sender:
            until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success)
            sender.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            seen["answer"] = sender.recv(12)

    with in_thread(ask):
        serve(
            manifest(),
            Settings(host="127.0.0.1", port=port, grace_seconds=0),
            lambda: loaded(manifest(), TableRunner()),
        )

    assert (seen["answer"], "Exception" in capsys.readouterr().err) == (b"HTTP/1.1 503", False)


@pytest.mark.usefixtures("_logging_kept")
def test_a_request_is_one_line_of_json_without_its_contents(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ask() -> None:
        until(lambda: not refused(url) and post(url, "one seven").is_success)
        os.kill(os.getpid(), signal.SIGTERM)

    with in_thread(ask):
        serve(manifest(), Settings(host="127.0.0.1", port=port), lambda: loaded(manifest(), TableRunner()))
    line = logged(capsys, "request", status=200)

    assert (line["route"], line["inputs"], line["tokens"], "seven" in str(line)) == (PREDICT, 1, 4, False)


def logged(capsys: pytest.CaptureFixture[str], event: str, **fields: object) -> dict[str, Any]:
    """The one logged line of an event."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (found,) = [line for line in lines if line["event"] == event and fields.items() <= line.items()]
    assert isinstance(found, dict)
    return found


def free_port() -> int:
    with listen("127.0.0.1", 0) as free:
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def in_thread(ask: Callable[[], None]) -> Iterator[None]:
    """With a client on a thread of its own; its failures are the test's."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        yield
        asked.result()
