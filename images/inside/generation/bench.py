"""The benchmark of a model that generates: streamed answers over HTTP to several clients at once."""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from images.inside.records import Struct

ANSWER = 64
"""Tokens of an answer."""
CLIENTS = (1, 4, 8, 16)
PROMPT = 128


class Generation(Struct, kw_only=True):
    """Several clients at once, each asking for one answer after the other.

    Attributes:
        clients: how many.
        prompt_tokens: of each prompt.
        tokens_per_second: of all answers together.
        prompt_per_second: prompt tokens by second of the server's in which it read prompts.
        decode_per_second: tokens behind an answer's first one, by second of the server's in which answers went on.
        first_p50_ms: from the request to the answer's first token.
        first_p95_ms: the same.
        next_p50_ms: from one token of an answer to the next.
        next_p95_ms: the same.
        cpu_ms: the server's CPU time, user and system, by token of an answer; prompts are in it.

    """

    clients: int
    prompt_tokens: int
    tokens_per_second: float
    prompt_per_second: float
    decode_per_second: float
    first_p50_ms: float
    first_p95_ms: float
    next_p50_ms: float
    next_p95_ms: float
    cpu_ms: float


class _Counted(NamedTuple):
    """What the server counts: tokens, seconds of its own, answers that have begun."""

    prompt: float
    generated: float
    prompt_seconds: float
    decode_seconds: float
    begun: float


COUNTERS = (
    "modelyard_prompt_tokens_total",
    "modelyard_generated_tokens_total",
    "modelyard_prompt_seconds_total",
    "modelyard_decode_seconds_total",
    "modelyard_time_to_first_token_seconds_count",
)
"""Their names in the server's metrics."""


class Timed(NamedTuple):
    """One answer: seconds to its first piece, between its pieces, and how many tokens it has."""

    first: float
    gaps: Sequence[float]
    tokens: int


def measure(
    port: int, body: bytes, prompt_tokens: int, clients: int, seconds: float, cpu_seconds: Callable[[], float]
) -> Generation:
    """Ask for as long as `seconds`; answers that are under way then are waited for.

    Args:
        port: the server's, on the loopback.
        body: the request, streamed.
        prompt_tokens: of its prompt.
        clients: how many.
        seconds: how long new requests are sent.
        cpu_seconds: what CPU time the server has used.

    """
    _client(port, body, 0, [])
    found: list[Timed] = []
    before, counted, since = cpu_seconds(), _counted(port), time.perf_counter()
    workers = [threading.Thread(target=_client, args=(port, body, since + seconds, found)) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, used = time.perf_counter() - since, cpu_seconds() - before
    count = _Counted(*(now - earlier for now, earlier in zip(_counted(port), counted, strict=True)))
    tokens = sum(answer.tokens for answer in found)
    first, gaps = [answer.first for answer in found], [gap for answer in found for gap in answer.gaps]
    return Generation(
        clients=clients,
        prompt_tokens=prompt_tokens,
        tokens_per_second=tokens / took,
        prompt_per_second=count.prompt / count.prompt_seconds,
        decode_per_second=(count.generated - count.begun) / count.decode_seconds,
        first_p50_ms=statistics.median(first) * 1000,
        first_p95_ms=p95(first) * 1000,
        next_p50_ms=statistics.median(gaps) * 1000,
        next_p95_ms=p95(gaps) * 1000,
        cpu_ms=used * 1000 / tokens,
    )


def body(model: str, prompt: Sequence[int], answer: int = ANSWER) -> bytes:
    """A request for an answer of so many tokens, whatever the model would say."""
    asked = {"model": model, "prompt": list(prompt), "max_tokens": answer, "temperature": 0, "ignore_eos": True}
    return json.dumps({**asked, "stream": True, "stream_options": {"include_usage": True}}).encode()


def table(rows: Sequence[Generation]) -> list[str]:
    """The result for a person at a terminal."""
    heads = (
        "tok/s",
        "prompt tok/s",
        "decode tok/s",
        "first p50 ms",
        "first p95 ms",
        "next p50 ms",
        "next p95 ms",
        "CPU ms/token",
    )
    names = tuple(name for name in Generation.__struct_fields__ if name not in {"clients", "prompt_tokens"})
    return [
        f"  {'clients':<10}" + "".join(f"{head:>14}" for head in heads),
        *(f"  {row.clients:<10}" + "".join(f"{getattr(row, name):>14.2f}" for name in names) for row in rows),
    ]


def _client(port: int, body: bytes, until: float, found: list[Timed]) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        while True:
            found.append(ask(connection, body))
            if time.perf_counter() >= until:
                return


def _counted(port: int) -> _Counted:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    found = dict(line.split() for line in lines if line.startswith(COUNTERS))
    return _Counted(*(float(found[name]) for name in COUNTERS))


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def ask(connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Timed:
    """One streamed answer. Raises `RuntimeError` when the server refuses."""
    since, times, tokens = time.perf_counter(), list[float](), 0
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json", **headers})
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise RuntimeError(f"the server answers {response.status}: {response.read()[:200]!r}")
    for line in response:
        if line.startswith(b"data: {"):
            times.append(time.perf_counter())
            usage = json.loads(line.removeprefix(b"data: ")).get("usage")
            tokens = usage["completion_tokens"] if usage else tokens
    # The last event is the usage: it belongs to no token. Tokens without a text of their own have no event.
    gaps = [after - before for before, after in pairwise(times[:-1])]
    return Timed(times[0] - since, gaps or [(times[-1] - times[0]) / max(tokens - 1, 1)], tokens)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile; of one value that value."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
