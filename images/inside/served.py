"""The served API, asked as a client asks it: its answers against the reference, and how long they take."""

import http.client
import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from images.inside import compare
from images.inside.compare import Figures, Reference
from images.inside.contract import Outputs
from images.inside.engine import proof as of_engines
from images.inside.errors import OutputsDifferError
from images.inside.generation import bench, proof
from images.inside.loaded import Loaded, LoadedEngine, LoadedGenerator
from images.inside.report import Latency, TokenLatency
from images.inside.settings import from_environment

REPEATS = 40
"""Requests behind a latency figure: few enough for a smoke test, enough for a 95th percentile."""
PATIENCE = 60.0
"""Seconds in which a server that was there before the test says that it is ready."""
ANSWERS, ANSWER = 10, 16
"""Answers behind the latency of a model that generates, and the tokens of each."""


def await_ready(url: str, seconds: float = PATIENCE) -> None:
    """Wait until a server says that it is ready: a Service sends requests on a little later than its pods are.

    Raises `OutputsDifferError` when it does not in this time: nothing came that could be compared.
    """
    until = time.monotonic() + seconds
    while said := _unready(url):
        if time.monotonic() > until:
            raise OutputsDifferError(f"{url} is not ready after {seconds:.0f} s: {said}")
        time.sleep(0.5)


def _unready(url: str) -> str:
    """Why a server is not ready; empty when it is."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v2/health/ready", timeout=5):  # noqa: S310 - the caller names it
            return ""
    except (OSError, http.client.HTTPException) as error:
        return str(error)


def check_http(model: Loaded, reference: Reference, url: str) -> list[Figures]:
    """The same through the served API: `/predict`, and `/v1/embeddings` where the model makes embeddings."""
    measured = []
    for case in reference.cases:
        answer = _post(f"{url}/predict", case.payload)
        outputs = _outputs(model, url, case.payload, answer)
        # By the task and not by what came back: a server that answers nothing is compared, too.
        original = reference.outputs[case.name] if model.task.name == "feature-extraction" else []
        measured.append(compare.figures(model.task, case, original, outputs, answer))
    return measured


def check_answers(
    model: LoadedGenerator | LoadedEngine, reference: Reference, served: AbstractContextManager[str]
) -> tuple[TokenLatency, str]:
    """What a model that generates answers through the served API, and when. Raises `OutputsDifferError`."""
    # The server is the generator's only user, so it is asked before.
    own = (of_engines if isinstance(model, LoadedEngine) else proof).answers(model, reference)
    with served as url:
        said = proof.check_http(model, reference, own, lambda path, body: _post(f"{url}{path}", body))
        latency = measure_tokens(model, proof.prompt(reference), url)
    first, after = f"first token p50 {latency.first_p50_ms:.1f} ms", f"next {latency.next_p50_ms:.1f} ms"
    return latency, f"{said}; {first}, {after}"


def measure_latency(model: Loaded, payload: Mapping[str, Any], url: str) -> Latency:
    """Wall time of one input, in process and over HTTP on loopback."""
    runner = _milliseconds(lambda: model.ask(payload))
    http = _milliseconds(lambda: _post(f"{url}/predict", payload))
    return Latency(runner_p50_ms=runner[0], runner_p95_ms=runner[1], http_p50_ms=http[0], http_p95_ms=http[1])


def measure_tokens(model: LoadedGenerator | LoadedEngine, prompt: Sequence[int], url: str) -> TokenLatency:
    """Wall time of streamed answers to one prompt, one after the other, over HTTP on loopback."""
    body = bench.body(model.manifest.model.id, prompt, ANSWER)
    where = urlsplit(url)
    with closing(http.client.HTTPConnection(where.hostname or "", where.port)) as connection:
        answers = [bench.ask(connection, body, _authorization()) for _ in range(ANSWERS)]
    first, gaps = [answer.first for answer in answers], [gap for answer in answers for gap in answer.gaps]
    return TokenLatency(
        first_p50_ms=statistics.median(first) * 1000,
        first_p95_ms=bench.p95(first) * 1000,
        next_p50_ms=statistics.median(gaps) * 1000,
        next_p95_ms=bench.p95(gaps) * 1000,
    )


def _milliseconds(action: Callable[[], object]) -> tuple[float, float]:
    times = []
    for _ in range(REPEATS):
        since = time.perf_counter()
        action()
        times.append((time.perf_counter() - since) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


def _outputs(model: Loaded, url: str, payload: Mapping[str, Any], answer: Any) -> list[Outputs]:
    """The raw outputs as far as the API shows them: vectors of texts or of tokens; other answers have none."""
    if model.manifest.embedding:
        return _vectors(model, url, payload)
    vectors = answer if model.task.name == "feature-extraction" else []
    return [{"last_hidden_state": np.array(rows, np.float32)} for rows in vectors]


def _vectors(model: Loaded, url: str, payload: Mapping[str, Any]) -> list[Outputs]:
    body = {"model": model.manifest.model.id, "input": payload["inputs"], "truncate": True}
    data = _post(f"{url}/v1/embeddings", body)["data"]
    return [{"sentence_embedding": np.array(entry["embedding"], np.float32)} for entry in data]


def _authorization() -> Mapping[str, str]:
    """What a server that is closed by the container's own key asks for; the test's own server is open."""
    key = from_environment(os.environ).api_key
    return {"authorization": f"Bearer {key}"} if key else {}


def _post(url: str, body: Mapping[str, Any]) -> Any:
    headers = {"content-type": "application/json", **_authorization()}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the caller names it
    try:
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
            return json.load(response)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: what it says is no JSON
        raise OutputsDifferError(f"the served API failed: POST {url}: {error}") from error
