"""Whom to ask for text: servers that speak OpenAI's chat, and libraries, each in a program of its own."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from images.errors import ImageError
from tests.benchmarks import processes
from tests.benchmarks.processes import Started

CHAT = "/v1/chat/completions"


class Prompt(NamedTuple):
    """What a user says, and the token ids of it in the model's chat template."""

    text: str
    ids: tuple[int, ...]


class Answer(NamedTuple):
    """One answer.

    Attributes:
        first: seconds from the request to the first token.
        last: seconds from the request to the last token.
        tokens: how many; 0 when it ended before as many as were asked for.
        text: of a server's answer.
        ids: of a library's answer.

    """

    first: float
    last: float
    tokens: int
    text: str = ""
    ids: Sequence[int] = ()


class Contestant(Protocol):
    """One process.

    Attributes:
        pid: its process id on this machine.
        crowd: what it does with several requests at once.

    """

    pid: int
    crowd: str

    def ask(self, prompts: Sequence[Prompt], tokens: int, clients: int) -> list[Answer]:
        """Greedy answers of so many tokens; so many clients each send one prompt after the other."""
        ...


class Server:
    """A server that speaks OpenAI's chat, streamed; every client keeps its connection.

    Args:
        started: its process.
        crowd: see `Contestant`.
        fields: what a request has besides.

    """

    def __init__(self, started: Started, crowd: str, fields: Mapping[str, Any]) -> None:
        self.pid, self.crowd = started.pid, crowd
        self._address, self._fields = started.address, fields

    def ask(self, prompts: Sequence[Prompt], tokens: int, clients: int) -> list[Answer]:
        """See `Contestant`."""
        waiting = deque(self._body(prompt, tokens) for prompt in prompts)
        together = threading.Barrier(clients)
        with ThreadPoolExecutor(clients) as pool:
            futures = [pool.submit(self._client, waiting, tokens, together) for _ in range(clients)]
            return [answer for future in futures for answer in future.result()]

    def _body(self, prompt: Prompt, tokens: int) -> bytes:
        messages = [{"role": "user", "content": prompt.text}]
        asked = {"messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True}
        return json.dumps({**asked, **self._fields}).encode()

    def _client(self, waiting: deque[bytes], tokens: int, together: threading.Barrier) -> list[Answer]:
        answers = []
        with contextlib.closing(http.client.HTTPConnection(self._address)) as connection:
            connection.connect()
            together.wait()
            while waiting:
                try:
                    body = waiting.popleft()
                except IndexError:  # another client took the last one
                    break
                answers.append(_answer(connection, body, tokens))
        return answers


class Library:
    """A library in a program that reads lines; it knows no clients."""

    def __init__(self, started: Started, crowd: str, connection: socket.socket) -> None:
        self.pid, self.crowd = started.pid, crowd
        self._lines = connection.makefile("rw")

    def ask(self, prompts: Sequence[Prompt], tokens: int, clients: int) -> list[Answer]:
        """See `Contestant`; several clients' prompts are handed over together."""
        batches = [prompts[at : at + clients] for at in range(0, len(prompts), clients)]
        return [answer for batch in batches for answer in self._batch(batch, tokens)]

    def _batch(self, prompts: Sequence[Prompt], tokens: int) -> list[Answer]:
        print(json.dumps([[prompt.ids for prompt in prompts], tokens]), file=self._lines, flush=True)
        line = self._lines.readline()
        if not line:
            raise ImageError("the program ended")
        answers = json.loads(line)
        if isinstance(answers, dict):
            raise ImageError(answers["error"])
        return [
            Answer(seconds[0], seconds[-1], len(ids) if len(ids) == tokens else 0, ids=ids) for seconds, ids in answers
        ]


@contextmanager
def library(started: Started, crowd: str) -> Iterator[Library]:
    """A program that listens, or will: connected once it has loaded its model."""
    host, port = started.address.split(":")
    connections: list[socket.socket] = []

    def connect() -> None:
        connection = socket.create_connection((host, int(port)), timeout=processes.START_SECONDS)
        # A container's port is open before the program is: such a connection ends without a byte.
        if not connection.recv(1):
            connection.close()
            raise ConnectionError(started.address)
        connections.append(connection)

    processes.until(started, connect)
    with connections[0] as connection:
        yield Library(started, crowd, connection)


def _answer(connection: http.client.HTTPConnection, body: bytes, tokens: int) -> Answer:
    since = time.perf_counter()
    connection.request("POST", CHAT, body, {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise ImageError(f"POST {CHAT} was answered {response.status}: {response.read()[:200]!r}")
    # Only noted while it comes: the client's work is done on the server's processors.
    events = [(time.perf_counter() - since, line) for line in response if line.startswith(b"data: {")]
    response.read()  # iterating does not close an answer of a known length
    return read([(seconds, json.loads(line.removeprefix(b"data: "))) for seconds, line in events], tokens)


def read(events: Sequence[tuple[float, Mapping[str, Any]]], tokens: int) -> Answer:
    """The answer of a stream: chunks, and the seconds at which they came."""
    if error := next((chunk["error"] for _, chunk in events if "error" in chunk), None):
        raise ImageError(f"the answer broke off: {error}")
    choices = [(seconds, choice) for seconds, chunk in events for choice in chunk["choices"]]
    if not choices:
        raise ImageError("the answer is empty")
    said = [(seconds, text) for seconds, choice in choices if (text := choice["delta"].get("content"))]
    whole = any(choice.get("finish_reason") == "length" for _, choice in choices)
    times = [seconds for seconds, _ in said or choices]
    return Answer(times[0], times[-1], tokens if whole else 0, text="".join(text for _, text in said))
