"""Processes that are measured: started, waited for, charged the CPU time that the kernel charged them."""

import http.client
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from images.config import ROOT
from images.engine import HARDENED, Engine
from images.errors import ImageError
from images.record import ARTIFACT

START_SECONDS = 180


class Started(NamedTuple):
    """A process of this machine, and where it answers."""

    pid: int
    address: str


@contextmanager
def image(machine: Engine, reference: str, threads: int) -> Iterator[Started]:
    """An image as it is served."""
    with container(machine, reference, "serve", f"--threads={threads}") as started:
        yield wait(started, "/v2/health/ready")


@contextmanager
def container(machine: Engine, reference: str, *command: str, flags: Sequence[str] = ()) -> Iterator[Started]:
    """A container of an image under hardened flags; it may not listen yet."""
    # Its health check would start a Python every 30 seconds, in somebody's round.
    with machine.serve(reference, *command, flags=(*HARDENED, "--no-healthcheck", *flags)) as served:
        pid = int(machine._succeed("inspect", "--format={{.State.Pid}}", served.container))
        yield Started(pid, served.url.removeprefix("http://"))


@contextmanager
def native(argv: Callable[[int], Sequence[str]], environment: Mapping[str, str]) -> Iterator[Started]:
    """A process that is told its port; it may not listen yet.

    Args:
        argv: its command line, of the port.
        environment: all of its variables.

    """
    port = _free_port()
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(argv(port), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield Started(process.pid, f"127.0.0.1:{port}")
        except ImageError as error:
            if process.poll() is None:
                raise
            log.seek(0)
            tail = log.read().decode(errors="replace")[-1000:]
            raise ImageError(f"{error.what}: it ended with exit code {process.returncode}\n{tail}") from error
        finally:
            process.terminate()


def wait(started: Started, path: str) -> Started:
    """Return when a server answers a GET."""

    def answered() -> None:
        request(http.client.HTTPConnection(started.address, timeout=5), "GET", path)

    until(started, answered)
    return started


def until(started: Started, attempt: Callable[[], None]) -> None:
    """Try until it works. Raises `ImageError` after `START_SECONDS`, or when the process has ended."""
    last = time.monotonic() + START_SECONDS
    while time.monotonic() < last and _runs(started.pid):
        try:
            attempt()
        except (OSError, ValueError, http.client.HTTPException, ImageError):
            time.sleep(0.1)
        else:
            return
    raise ImageError(f"nothing answered at {started.address}")


def request(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
    """The answer's body. Raises `ImageError` for any other status than 200."""
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.HTTPStatus.OK:
        raise ImageError(f"{method} {path} was answered {response.status}: {answer[:200]!r}")
    return answer


def variables(threads: int, **more: str) -> Mapping[str, str]:
    """What a process of this machine runs with: no network, so many threads in every library."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "GOMP_"))}
    return {**usual, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **more}


def extracted(machine: Engine, reference: str, folder: Path) -> Path:
    """The artifact of an image, in a folder."""
    with machine.files(reference) as files:
        for member in files:
            if member.name.startswith(ARTIFACT):
                files.extract(member, folder, filter="data")
    return folder / ARTIFACT


def cpu_seconds(pid: int) -> float:
    """The CPU time of all threads of a process and of its children, those threads that have ended too.

    In nanoseconds where `/proc/PID/stat` counts hundredths of a second.
    """
    # What clock_getcpuclockid(3) says, which Python has for threads only: the id's complement, then 3 bits of kind.
    return time.clock_gettime((~pid << 3) | 2) + sum(map(cpu_seconds, _children(pid)))


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in _read(file).split()]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
        return ""


def _runs(pid: int) -> bool:
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] != "Z"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
