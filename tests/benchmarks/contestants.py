"""What is measured: processes that turn texts into vectors, each in a loop of its own or behind HTTP on loopback."""

import http.client
import itertools
import json
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from images.config import ROOT
from images.engine import Engine
from images.errors import ImageError
from tests.benchmarks import processes

EMBEDDINGS = "/v1/embeddings"


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
        answer = processes.request(http.client.HTTPConnection(self._address), "POST", EMBEDDINGS, self._body(text))
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
            processes.request(connection, "POST", EMBEDDINGS, body)
            seconds.append(time.perf_counter() - since)
        connection.close()
        return seconds


class Alone(NamedTuple):
    """A runtime without a server.

    Attributes:
        name: of its rows.
        module: beside this one: the program that answers as `loops` does.
        python: of an environment that has the runtime.
        original: whether it runs the original model, and not an image's artifact.

    """

    name: str
    module: str
    python: Path
    original: bool = False


@contextmanager
def loop(alone: Alone, folder: Path, threads: int) -> Iterator[tuple[Loop, Loop]]:
    """A runtime in a loop over a folder: token ids given, and tokenised in the loop."""
    argv = [str(alone.python), "-m", f"tests.benchmarks.{alone.module}", str(folder), str(threads)]
    # PyTorch's threads would otherwise spin between two texts, and double its CPU time.
    environment = processes.variables(threads, OMP_WAIT_POLICY="PASSIVE")
    with subprocess.Popen(
        argv, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield (
                Loop(f"{alone.name} in a loop, token ids given", process, tokenise=False),
                Loop(f"{alone.name} in a loop, with tokenisation", process, tokenise=True),
            )
        finally:
            process.terminate()


@contextmanager
def image(name: str, machine: Engine, reference: str, model: str, threads: int) -> Iterator[Server]:
    """An image as it is served."""
    with processes.image(machine, reference, threads) as started:
        yield Server(name, started.pid, started.address, model)


@contextmanager
def fastapi(name: str, python: Path, model: Path, threads: int, **variables: str) -> Iterator[Server]:
    """sentence-transformers behind FastAPI."""
    environment = processes.variables(threads, MODEL=str(model), **variables)
    argv = [str(python), "-m", "uvicorn", "tests.benchmarks.fastapi_app:app", "--host=127.0.0.1"]
    with processes.native(lambda port: [*argv, f"--port={port}"], environment) as started:
        processes.wait(started, "/health")
        yield Server(name, started.pid, started.address, "")
