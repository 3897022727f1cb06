"""How a library's program is asked: over one connection, a line in and a line out. Standard library only.

A line in is the prompts' token ids and how many tokens each answer has; a line out is, for each prompt, the seconds at
which its tokens came and the tokens. A byte is sent first of all, when the model is loaded.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Sequence

Answers = Sequence[tuple[Sequence[float], Sequence[int]]]


class Watch:
    """Seconds since it was made, one for each `tick`."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self.seconds: list[float] = []

    def tick(self) -> None:
        """A token is there."""
        self.seconds.append(time.perf_counter() - self._since)


def serve(port: int, generate: Callable[[list[list[int]], int], Answers]) -> None:
    """Answer one connection's lines until there are no more."""
    # In a container every address is its own; on this machine only the loopback is.
    with socket.create_server((os.environ.get("LISTEN", "127.0.0.1"), port)) as server:
        connection, _ = server.accept()
    connection.sendall(b"+")
    with connection, connection.makefile("rw") as lines:
        for line in lines:
            prompts, tokens = json.loads(line)
            print(json.dumps(_attempt(generate, prompts, tokens)), file=lines, flush=True)


def _attempt(
    generate: Callable[[list[list[int]], int], Answers], prompts: list[list[int]], tokens: int
) -> Answers | dict[str, str]:
    try:
        return generate(prompts, tokens)
    except Exception as error:  # noqa: BLE001  # whatever it was, the one who asked is told
        return {"error": f"{type(error).__name__}: {error}"}
