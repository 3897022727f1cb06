"""An engine that can die: its socket, passed on to the real one until it is cut."""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from images.engine import Engine

SOCKET = "unix:///var/run/docker.sock"
"""Where a docker client looks when nothing else is said."""


class Proxy:
    """A unix socket in front of the engine's; a context manager. `cut` is its sudden death.

    Nothing happens to the real engine: it sees a client leave.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = (engine.environment.get("DOCKER_HOST") or os.environ.get("DOCKER_HOST") or SOCKET)[7:]
        self._path = folder / "engine.sock"
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()

    @property
    def address(self) -> str:
        """What `DOCKER_HOST` is set to."""
        return f"unix://{self._path}"

    def cut(self) -> None:
        """From now on nothing answers, and what was said is left unfinished."""
        self._path.unlink(missing_ok=True)
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        for connection in (self._listener, *self._connections):
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._engine)
                self._connections += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
