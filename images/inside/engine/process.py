"""An engine's process: started in a group of its own, waited for until it answers, ended with all its children."""

import atexit
import http.client
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress

from images.inside.engine.contract import Launch
from images.inside.errors import CannotRunError
from images.inside.logs import log

START_SECONDS = 600
"""How long an engine may take until it answers: large weights come from slow disks."""
LAST_LINES = 12
"""Of an engine's output, for the message when it ends."""
END_SECONDS = 1
"""Between SIGTERM and SIGKILL: by then nobody waits for an answer any more."""


class Process:
    """One running engine.

    Args:
        launch: how to start it.
        seconds: how long it may take until it answers.

    Attributes:
        launch: how it was started.
        port: of the loopback.

    """

    def __init__(self, launch: Launch, seconds: float = START_SECONDS) -> None:
        self.launch, self.port = launch, _free_port()
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._ending = False
        argv = [part.replace("{port}", str(self.port)) for part in launch.argv]
        # A key of ours is none of the engine's business.
        environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
        self._process = subprocess.Popen(
            argv,
            env=environment | dict(launch.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="engine output", daemon=True)
        self._reader.start()
        atexit.register(self.end)
        try:
            self._await(time.monotonic() + seconds)
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    def healthy(self) -> bool:
        """Whether it says by itself that it is well."""
        return self.alive and self._answers()

    def watch(self, died: Callable[[str], None]) -> None:
        """Call back once, on a thread, with its last words, when the process ends and nobody here ended it."""

        def wait() -> None:
            self._process.wait()
            if not self._ending:
                died(self.last_words())

        threading.Thread(target=wait, name="engine watch", daemon=True).start()

    def kill(self) -> None:
        """End it as if it had died by itself: `watch` tells."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """End it and everything that it started."""
        self._ending = True
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(1)

    def last_words(self) -> str:
        """How it ended, with the end of its output."""
        self._reader.join(1)
        return f"the engine ended with exit code {self._process.poll()}; {self.said()}"

    def said(self) -> str:
        """The end of its output."""
        return f"its last words: {'; '.join(self._lines) or 'none'}"

    def _await(self, until: float) -> None:
        while not self._answers():
            if not self.alive:
                raise CannotRunError(self.last_words())
            if time.monotonic() > until:
                raise CannotRunError("the engine did not answer in time after its start; its log has more")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
                connection.request("GET", self.launch.wire.health)
                return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        with closing(self._process.stdout) as output:  # type: ignore[type-var]
            for raw in output or ():
                line = raw.decode(errors="replace").strip()
                if line:
                    self._lines.append(line)
                    log(logging.DEBUG, "engine", said=line)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
