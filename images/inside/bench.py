"""The benchmark: this image's server under load from its own container, over HTTP on loopback.

The server is a process of its own, so that its CPU time is its own and the clients' is not in it.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from images.inside import tasks
from images.inside.errors import ArtifactError, CannotRunError, Exit
from images.inside.generation import bench as generation
from images.inside.generation.bench import Generation
from images.inside.prompts import Prompts
from images.inside.records import GenerationFacts, ImageFacts, Manifest, Struct, read_manifest
from images.inside.text import Tokenizer

WORDS = "the quick brown fox jumps over a lazy dog while seven small boats sail past an old stone bridge "
JSON = "application/json"
LENGTHS = (16, 128)
PHOTOGRAPH = (1024, 768)
CLIENTS = (1, 4, 16)
TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """A request to measure with.

    Attributes:
        name: of its input, such as `128 tokens`.
        tokens: how many its input has; 0 for a picture.
        body: as it is sent.
        media: the body's media type.

    """

    name: str
    tokens: int
    body: bytes
    media: str = JSON


class Single(Struct, kw_only=True):
    """One request at a time, each with one input of `tokens` tokens. CPU time is the server's, user and system.

    Attributes:
        input: what the input was, in words, where it was no text.

    """

    input: str = ""
    tokens: int
    requests: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float


class Load(Struct, kw_only=True):
    """Several clients at once, each sending one request after the other."""

    clients: int
    input: str = ""
    tokens: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float


class Benchmark(Struct, kw_only=True):
    """What `bench` measured.

    Attributes:
        single: one client at several lengths; empty for a model that generates, like `load`.
        load: several clients.
        generation: the same of a model that generates.
        peak_rss_mib: the server's highest resident memory in MiB.

    """

    model: str
    target: str
    mode: str
    threads: int
    single: list[Single]
    load: list[Load]
    generation: list[Generation] = []
    peak_rss_mib: float


def run(artifact: Path, seconds: float, lengths: Sequence[int], clients: Sequence[int]) -> Benchmark:
    """Measure the artifact's server. Raises `FatalError` when it does not come up.

    Args:
        artifact: the artifact's folder.
        seconds: of one measurement.
        lengths: of texts, in tokens; the last one is that of several clients' inputs. The usual ones when empty.
        clients: how many at once. The usual numbers when empty.

    """
    manifest = read_manifest(artifact)
    with _server(artifact) as (process, port):
        asked = _Asked(artifact, manifest, process, port, seconds, lengths, clients)
        return Benchmark(
            model=manifest.model.id,
            target=manifest.target,
            mode=manifest.mode,
            threads=len(os.sched_getaffinity(0)),
            **(_predicting(asked) if manifest.generation is None else _generating(asked, manifest.generation)),
            peak_rss_mib=_status(process.pid, "VmHWM") / 1024,
        )


class _Asked(NamedTuple):
    """What is to be measured, and the server that it is measured on."""

    artifact: Path
    manifest: Manifest
    process: "subprocess.Popen[bytes]"
    port: int
    seconds: float
    lengths: Sequence[int]
    clients: Sequence[int]


def _predicting(asked: _Asked) -> dict[str, Any]:
    samples = _pictures(asked.manifest.image) if asked.manifest.image else _texts(asked)
    process, port, seconds = asked.process, asked.port, asked.seconds
    single = [_single(process, port, sample, seconds) for sample in samples]
    load = [_load(process, port, samples[-1], count, seconds) for count in asked.clients or CLIENTS]
    return {"single": single, "load": load}


def _texts(asked: _Asked) -> list[Sample]:
    samples = _Samples(asked.artifact, asked.manifest)
    lengths = [min(length, asked.manifest.max_length) for length in asked.lengths or LENGTHS]
    return [Sample(f"{length} tokens", length, samples.body(length)) for length in lengths]


def _pictures(facts: ImageFacts) -> list[Sample]:
    """Files as they are: of the model's own size, which tell its cost, and of a camera's, which is decoded first."""
    from images.inside.vision.pictures import photograph

    sizes = (facts.width, facts.height), PHOTOGRAPH
    return [Sample(f"{width}x{height} JPEG", 0, photograph(width, height), "image/jpeg") for width, height in sizes]


def _generating(asked: _Asked, facts: GenerationFacts) -> dict[str, Any]:
    length = min((asked.lengths or [generation.PROMPT])[-1], facts.context - generation.ANSWER)
    prompt = Prompts.load(asked.artifact, facts).of_text(WORDS * length)[:length]
    body = generation.body(asked.manifest.model.id, prompt)
    rows = [
        generation.measure(asked.port, body, length, count, asked.seconds, lambda: _cpu_seconds(asked.process.pid))
        for count in asked.clients or generation.CLIENTS
    ]
    return {"single": [], "load": [], "generation": rows}


def table(result: Benchmark) -> str:
    """The result for a person at a terminal."""
    lines = [f"{result.model}  {result.target}  {result.mode}  {result.threads} CPUs", ""]
    lines += generation.table(result.generation) if result.generation else _rows(result)
    return "\n".join([*lines, "", f"  peak resident memory {result.peak_rss_mib:.0f} MiB"])


def _rows(result: Benchmark) -> list[str]:
    lines = [
        f"  {'one client':<14}{'p50 ms':>10}{'p95 ms':>10}{'CPU ms/req':>12}",
    ]
    for row in result.single:
        name = row.input or f"{row.tokens} tokens"
        lines.append(f"  {name:<14}{row.p50_ms:>10.2f}{row.p95_ms:>10.2f}{row.cpu_ms:>12.2f}")
    lines += ["", f"  {'clients':<14}{'p50 ms':>10}{'p95 ms':>10}{'CPU ms/req':>12}{'req/s':>10}"]
    lines += [
        f"  {row.clients:<14}{row.p50_ms:>10.2f}{row.p95_ms:>10.2f}{row.cpu_ms:>12.2f}{row.requests_per_second:>10.1f}"
        for row in result.load
    ]
    return lines


class _Samples:
    """Request bodies of a wanted length."""

    def __init__(self, artifact: Path, manifest: Manifest) -> None:
        self._manifest, self._task, self._tokenizer = (
            manifest,
            tasks.load(manifest.task),
            Tokenizer.load(artifact, manifest.__replace__(max_length=1 << 20)),  # the search tries longer ones too
        )

    def body(self, tokens: int) -> bytes:
        """A payload whose input has about so many tokens: as many words as fit."""
        words, low, high = WORDS.split() * (tokens // 8 + 2), 1, tokens
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._length(words[:middle]) <= tokens else (low, middle - 1)
        return json.dumps(self._payload(" ".join(words[:low]))).encode()

    def _length(self, words: Sequence[str]) -> int:
        items = self._task.prepare(
            self._payload(" ".join(words)), self._tokenizer, self._manifest.__replace__(max_length=1 << 20)
        ).items
        return max(len(item.ids) for item in items)

    def _payload(self, text: str) -> dict[str, Any]:
        if self._manifest.task == "question-answering":
            return {"inputs": {"question": "What sails past?", "context": text}}
        return {"inputs": f"{text} {self._manifest.mask_token}".strip()}


@contextmanager
def _server(artifact: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "images.inside", f"--artifact={artifact}", "serve"]
    argv = [*command, "--host=127.0.0.1", f"--port={port}", "--log-level=error"]
    process = subprocess.Popen(argv, env={name: value for name, value in os.environ.items() if "API_KEY" not in name})
    try:
        _wait(process, port)
        yield process, port
    finally:
        process.terminate()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    while process.poll() is None:
        try:
            if _request(http.client.HTTPConnection("127.0.0.1", port), "GET", "/health") == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        time.sleep(0.05)
    kind = ArtifactError if process.returncode == Exit.DAMAGED else CannotRunError
    raise kind(f"the server ended with exit code {process.returncode} before it was ready")


def _single(process: "subprocess.Popen[bytes]", port: int, sample: Sample, seconds: float) -> Single:
    times, cpu = _measure(process, port, sample, 1, seconds)
    return Single(
        input="" if sample.tokens else sample.name,
        tokens=sample.tokens,
        requests=len(times),
        p50_ms=statistics.median(times),
        p95_ms=_p95(times),
        cpu_ms=cpu * 1000 / len(times),
    )


def _load(process: "subprocess.Popen[bytes]", port: int, sample: Sample, clients: int, seconds: float) -> Load:
    since = time.perf_counter()
    times, cpu = _measure(process, port, sample, clients, seconds)
    return Load(
        clients=clients,
        input="" if sample.tokens else sample.name,
        tokens=sample.tokens,
        requests_per_second=len(times) / (time.perf_counter() - since),
        p50_ms=statistics.median(times),
        p95_ms=_p95(times),
        cpu_ms=cpu * 1000 / len(times),
    )


def _measure(
    process: "subprocess.Popen[bytes]", port: int, sample: Sample, clients: int, seconds: float
) -> tuple[list[float], float]:
    times: list[float] = []
    _client(port, sample, time.perf_counter() + min(seconds, 0.5), [])
    before, until = _cpu_seconds(process.pid), time.perf_counter() + seconds
    workers = [threading.Thread(target=_client, args=(port, sample, until, times)) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if not times:
        raise CannotRunError("the server answered none of the requests; see its messages above, and its limits")
    return times, _cpu_seconds(process.pid) - before


def _client(port: int, sample: Sample, until: float, times: list[float]) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        while time.perf_counter() < until:
            since = time.perf_counter()
            if _request(connection, "POST", "/predict", sample.body, sample.media) == http.HTTPStatus.OK:
                times.append((time.perf_counter() - since) * 1000)


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, media: str = JSON
) -> int:
    connection.request(method, path, body, {"content-type": media})
    response = connection.getresponse()
    response.read()
    return response.status


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]


def _cpu_seconds(pid: int) -> float:
    """Of a process and of those that it started: an engine works for its server."""
    fields = {int(folder.name): _stat(folder) for folder in Path("/proc").glob("[0-9]*")}
    family = {pid}
    while found := {one for one, stat in fields.items() if stat and int(stat[1]) in family} - family:
        family |= found
    return sum(int(fields[one][11]) + int(fields[one][12]) for one in family) / TICKS


def _stat(folder: Path) -> list[str]:
    """What the kernel says of a process behind its name; nothing when it has just ended."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _status(pid: int, key: str) -> int:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[key].split()[0])


def as_json(result: Benchmark) -> Mapping[str, Any]:
    """The result as JSON-ready values."""
    import msgspec

    built: Mapping[str, Any] = msgspec.to_builtins(result)
    return built
