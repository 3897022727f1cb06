"""The served image of the real MiniLM, hardened: what clients ask, the key, the limits of its container, its end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import numpy as np
import pytest

from images.build import Built
from images.engine import HARDENED, Served
from images.inside.compare import Reference
from images.inside.errors import Exit
from images.inside.report import Report
from images.verify import ISOLATED
from tests.containers.yard import Yard, client_of, running, serving, until

CLOSE = 1 - 1e-5
"""A cosine that only rounding keeps from 1."""
KEY = "the-key-of-this-test"
HEAVY = {"inputs": ["the quick brown fox jumps over a lazy dog " * 12] * 64}
"""A request that takes a second or so."""


def similarity(one: object, other: object) -> float:
    """Cosine."""
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.fixture(scope="module")
def texts(reference: Reference) -> list[str]:
    """Four texts of unequal lengths."""
    batch = next(case for case in reference.cases if case.name == "batch")
    inputs: list[str] = batch.payload["inputs"]
    return inputs


@pytest.fixture(scope="module")
def vectors(reference: Reference) -> list[object]:
    """What the original makes of them."""
    return [item["sentence_embedding"] for item in reference.outputs["batch"]]


@pytest.fixture(scope="module")
def model(minilm: Built) -> str:
    return minilm.record.info.manifest.model.id


def test_the_openai_client_gets_the_originals_embeddings(
    served: Served, model: str, texts: list[str], vectors: list[object]
) -> None:
    with client_of(served) as client:
        answer = client.embeddings.create(model=model, input=texts)
    ours = [entry.embedding for entry in answer.data]
    assert all(similarity(one, other) > CLOSE for one, other in zip(ours, vectors, strict=True))
    assert answer.usage.prompt_tokens > len(texts)


def test_the_openai_client_lists_the_model(served: Served, model: str) -> None:
    with client_of(served) as client:
        assert [entry.id for entry in client.models.list()] == [model]


def test_predict_answers_with_the_originals_vectors(
    client: httpx.Client, texts: list[str], vectors: list[object]
) -> None:
    ours = client.post("/predict", json={"inputs": texts}).raise_for_status().json()
    assert all(similarity(one, other) > CLOSE for one, other in zip(ours, vectors, strict=True))


def test_open_inference_infers_the_originals_vectors(
    client: httpx.Client, model: str, texts: list[str], vectors: list[object]
) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    answer = client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]}).raise_for_status().json()
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"]) == ("sentence_embedding", [4, 384])
    assert similarity(output["data"], np.concatenate([np.asarray(vector) for vector in vectors])) > CLOSE


def test_open_inference_describes_the_model(client: httpx.Client, model: str) -> None:
    facts = client.get(f"/v2/models/{model}").raise_for_status().json()
    assert facts["name"] == model
    assert {"name": "sentence_embedding", "datatype": "FP32", "shape": [-1, 384]} in facts["outputs"]


@pytest.mark.parametrize(
    ("path", "said"), [("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True}), ("/health", None)]
)
def test_a_ready_server_says_so(client: httpx.Client, path: str, said: object) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert said is None or answer.json() == said


def test_metrics_count_requests_by_route(client: httpx.Client) -> None:
    client.post("/predict", json={"inputs": "one"}).raise_for_status()
    metrics = client.get("/metrics").raise_for_status().text
    counted = [line for line in metrics.splitlines() if line.startswith("modelyard_requests_total")]
    assert any('route="/predict"' in line and 'status="200"' in line for line in counted)


def test_the_openapi_document_has_the_routes(client: httpx.Client) -> None:
    document = client.get("/openapi.json").raise_for_status().json()
    assert {"/v1/embeddings", "/predict", "/v2/health/ready", "/metrics"} <= set(document["paths"])


def test_the_documentation_is_a_page_about_this_model(client: httpx.Client, model: str) -> None:
    answer = client.get("/docs").raise_for_status()
    assert answer.headers["content-type"].startswith("text/html")
    assert model in answer.text


def test_a_text_that_is_too_long_is_refused_with_413(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"inputs": "word " * 600})
    assert answer.status_code == 413
    assert "256" in answer.json()["error"]


def test_the_image_knows_its_own_health(yard: Yard, served: Served) -> None:
    check = ["/usr/bin/python3", "-m", "images.inside", "health"]
    assert yard.engine._call("exec", served.container, *check).returncode == 0


@pytest.fixture(scope="module", params=["environment", "file"])
def locked(
    yard: Yard, minilm: Built, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A server that wants a key, given in either way."""
    flags = [f"--env=MODELYARD_API_KEY={KEY}"]
    if request.param == "file":
        secret = tmp_path_factory.mktemp("secret") / "key"
        secret.write_text(f"{KEY}\n")
        secret.chmod(0o644)
        flags = [f"--volume={secret}:/run/secrets/key:ro", "--env=MODELYARD_API_KEY_FILE=/run/secrets/key"]
    with (
        serving(yard.engine, minilm.record.reference, *flags) as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
    ):
        yield http


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer another"}], ids=["no key", "wrong key"])
def test_without_the_key_there_is_no_answer(locked: httpx.Client, header: dict[str, str]) -> None:
    assert locked.post("/predict", json={"inputs": "one"}, headers=header).status_code == 401


def test_with_the_key_there_is(locked: httpx.Client) -> None:
    header = {"authorization": f"Bearer {KEY}"}
    assert locked.post("/predict", json={"inputs": "one"}, headers=header).status_code == 200


def test_probes_need_no_key(locked: httpx.Client) -> None:
    assert [locked.get(path).status_code for path in ("/v2/health/ready", "/health", "/metrics")] == [200] * 3


@pytest.mark.parametrize(("key", "code"), [(KEY, Exit.PASS), ("another", Exit.DIFFERS)])
def test_the_smoke_test_asks_a_server_in_another_container(key: str, code: Exit, yard: Yard, minilm: Built) -> None:
    image, own = minilm.record.reference, f"--env=MODELYARD_API_KEY={KEY}"
    with serving(yard.engine, image, own) as server:
        flags = (f"--network=container:{server.container}", f"--env=MODELYARD_API_KEY={key}", *HARDENED)
        done = yard.engine.run(image, "smoke-test", "--json", "--url=http://127.0.0.1:8080", flags=flags)
        report = msgspec.json.decode(done.stdout, type=Report)
        assert (done.returncode, report.exit, len(report.checks)) == (code, code, 6)
        assert bool(report.http_figures) == (code == Exit.PASS)


def test_the_key_is_in_no_log(yard: Yard, minilm: Built) -> None:
    with serving(yard.engine, minilm.record.reference, f"--env=MODELYARD_API_KEY={KEY}") as server:
        header = {"authorization": f"Bearer {KEY}"}
        httpx.post(f"{server.url}/predict", json={"inputs": "one"}, headers=header, trust_env=False)
        assert KEY not in yard.engine.logs(server.container)


def test_sigterm_under_load_answers_what_was_asked_and_exits_0(yard: Yard, minilm: Built) -> None:
    with serving(yard.engine, minilm.record.reference) as server, ThreadPoolExecutor(4) as clients:
        asked = [
            clients.submit(httpx.post, f"{server.url}/predict", json=HEAVY, timeout=120, trust_env=False)
            for _ in range(4)
        ]
        assert until(lambda: _queued(server) >= len(HEAVY["inputs"]))
        assert not any(future.done() for future in asked)
        assert yard.engine.stop(server.container) == Exit.PASS
        assert [future.result().status_code for future in asked] == [200] * 4


def test_a_container_with_too_little_memory_says_so_and_exits_2(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, flags=(*ISOLATED, "--memory=128m"), timeout=60)
    assert done.returncode == Exit.CANNOT_RUN
    needed = minilm.record.info.manifest.memory_bytes / 2**20
    assert f"{needed:.0f} MiB of memory are needed; this container may use 128 MiB" in done.stdout + done.stderr


def test_the_smoke_test_too_says_what_is_missing_and_exits_2(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, "smoke-test", flags=(*ISOLATED, "--memory=128m"))
    assert done.returncode == Exit.CANNOT_RUN
    assert "MiB of memory are needed" in done.stdout


def test_the_stated_memory_is_enough(yard: Yard, minilm: Built) -> None:
    needed = minilm.record.info.manifest.memory_bytes
    flags = (*ISOLATED, f"--memory={needed}", f"--memory-swap={needed}")
    done = yard.engine.run(minilm.record.reference, "smoke-test", flags=flags)
    assert done.returncode == Exit.PASS, done.stdout + done.stderr


def test_threads_follow_the_cpu_quota(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, "smoke-test", "--json", flags=(*ISOLATED, "--cpus=1"))
    report = msgspec.json.decode(done.stdout, type=Report)
    assert report.runtime["threads"] == "1"
    (hardware,) = [check.detail for check in report.checks if check.name == "hardware"]
    assert "1 threads" in hardware


def test_a_wrong_setting_is_named_and_exits_64(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, flags=(*HARDENED, "--env=MODELYARD_PORT=eighty"))
    assert done.returncode == 64
    assert "MODELYARD_PORT" in done.stderr


def test_a_killed_client_leaves_the_server_ready(yard: Yard, served: Served, client: httpx.Client) -> None:
    def give_up() -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/predict", json=HEAVY, timeout=httpx.Timeout(5, read=0.05), trust_env=False)

    threads = [threading.Thread(target=give_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.post("/predict", json={"inputs": "one"}).status_code == 200
    assert running(yard.engine, served)


def _queued(server: Served) -> float:
    lines = httpx.get(f"{server.url}/metrics", timeout=5, trust_env=False).text.splitlines()
    return max((float(line.split()[1]) for line in lines if line.startswith("modelyard_queue_items ")), default=0)
