"""What is measured: processes that turn texts into vectors, each in a loop of its own or behind HTTP on loopback."""

import http.client
import itertools
import json
import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from images.config import ROOT
from images.engine import HARDENED, Engine
from images.errors import ImageError

EMBEDDINGS = "/v1/embeddings"
START_SECONDS = 120


class Contestant(Protocol):
    """One process.

    Attributes:
        name: its row's title.
        pid: its process id on this machine.

    """

    name: str
    pid: int

    def ask(self, texts: Sequence[str], clients: int) -> list[float]:
        """The seconds that each text took; so many clients each send one after the other."""
        ...

    def vector(self, text: str) -> list[float]:
        """The vector of a text."""
        ...


class Loop:
    """A loop over the artifact; it knows no clients."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", *, tokenise: bool) -> None:
        self.name, self.pid = name, process.pid
        self._process, self._tokenise = process, tokenise

    def ask(self, texts: Sequence[str], clients: int) -> list[float]:
        """See `Contestant`; the texts are taken one after the other, whatever the number of clients."""
        del clients
        seconds, _ = self._answer(texts)
        return seconds

    def vector(self, text: str) -> list[float]:
        """See `Contestant`."""
        _, vector = self._answer([text])
        return vector

    def _answer(self, texts: Sequence[str]) -> tuple[list[float], list[float]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the process has no pipes")
        print(json.dumps([self._tokenise, texts]), file=self._process.stdin, flush=True)
        if line := self._process.stdout.readline():
            seconds, vector = json.loads(line)
            return seconds, vector
        raise ImageError(f"{self.name} ended with exit code {self._process.wait()}")


class Server:
    """A server that speaks OpenAI's embeddings; every client keeps its connection."""

    def __init__(self, name: str, pid: int, address: str, model: str) -> None:
        self.name, self.pid = name, pid
        self._address, self._model = address, model

    def ask(self, texts: Sequence[str], clients: int) -> list[float]:
        """See `Contestant`."""
        waiting = deque(map(self._body, texts))
        if clients == 1:
            return self._client(waiting)
        with ThreadPoolExecutor(clients) as pool:
            return [*itertools.chain.from_iterable(pool.map(self._client, [waiting] * clients))]

    def vector(self, text: str) -> list[float]:
        """See `Contestant`."""
        answer = _request(http.client.HTTPConnection(self._address), "POST", EMBEDDINGS, self._body(text))
        vector: list[float] = json.loads(answer)["data"][0]["embedding"]
        return vector

    def _body(self, text: str) -> bytes:
        return json.dumps({"model": self._model, "input": text}).encode()

    def _client(self, waiting: deque[bytes]) -> list[float]:
        connection, seconds = http.client.HTTPConnection(self._address), []
        while waiting:
            try:
                body = waiting.popleft()
            except IndexError:  # another client took the last one
                break
            since = time.perf_counter()
            _request(connection, "POST", EMBEDDINGS, body)
            seconds.append(time.perf_counter() - since)
        connection.close()
        return seconds


@contextmanager
def loop(python: Path, artifact: Path, threads: int) -> Iterator[tuple[Loop, Loop]]:
    """ONNX Runtime over an artifact: token ids given, and tokenised in the loop."""
    argv = [str(python), "-m", "tests.benchmarks.onnxruntime_loop", str(artifact), str(threads)]
    with subprocess.Popen(
        argv, cwd=ROOT, env=_environment(threads), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield (
                Loop("onnxruntime in a loop, token ids given", process, tokenise=False),
                Loop("onnxruntime in a loop, with tokenisation", process, tokenise=True),
            )
        finally:
            process.terminate()


@contextmanager
def image(name: str, machine: Engine, reference: str, model: str, threads: int) -> Iterator[Server]:
    """An image as it is served."""
    # Its health check would start a Python every 30 seconds, in somebody's round.
    flags = (*HARDENED, "--no-healthcheck")
    with machine.serve(reference, "serve", f"--threads={threads}", flags=flags) as served:
        address = served.url.removeprefix("http://")
        _wait(name, address, "/v2/health/ready")
        pid = int(machine._succeed("inspect", "--format={{.State.Pid}}", served.container))
        yield Server(name, pid, address, model)


@contextmanager
def fastapi(name: str, python: Path, model: Path, threads: int, **variables: str) -> Iterator[Server]:
    """sentence-transformers behind FastAPI."""
    address = f"127.0.0.1:{_free_port()}"
    host, port = address.split(":")
    argv = [str(python), "-m", "uvicorn", "tests.benchmarks.fastapi_app:app", f"--host={host}", f"--port={port}"]
    environment = _environment(threads, MODEL=str(model), **variables)
    with subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait(name, address, "/health")
            yield Server(name, process.pid, address, "")
        finally:
            process.terminate()


def _environment(threads: int, **variables: str) -> Mapping[str, str]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "GOMP_"))}
    return {**usual, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **variables}


def _wait(name: str, address: str, path: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            _request(http.client.HTTPConnection(address, timeout=5), "GET", path)
        except (OSError, http.client.HTTPException, ImageError):
            time.sleep(0.1)
        else:
            return
    raise ImageError(f"{name} did not answer within {START_SECONDS} s")


def _request(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.HTTPStatus.OK:
        raise ImageError(f"{method} {path} was answered {response.status}: {answer[:200]!r}")
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
