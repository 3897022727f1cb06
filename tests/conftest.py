"""Holds unit tests to this process and this machine: they start no program and talk to the loopback only."""

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

UNIT_TESTS = {Path(__file__).parent / folder for folder in ("host", "inside", "targets", "every_target")}
STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
TALKS = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}
MARKER = "starts_programs: a unit test that starts programs on purpose, such as pip or a shell script of its own"

_forbidden: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and watch what Python itself reports of programs and connections."""
    config.addinivalue_line("markers", MARKER)
    # An audit hook sees every way, also through libraries; it cannot be taken out, only told to forbid nothing.
    sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _hermetic(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forbid programs and connections to other machines while a unit test runs."""
    if UNIT_TESTS & set(request.path.parents):
        _forbidden.update(TALKS if request.node.get_closest_marker("starts_programs") else TALKS | STARTS)
    yield
    _forbidden.clear()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _forbidden:
        return
    if event in STARTS:
        pytest.fail(f"a unit test starts a program: {arguments}; mark it with starts_programs if it must")
    if not _is_near(arguments[0] if event == "socket.getaddrinfo" else arguments[1]):
        pytest.fail(f"a unit test talks to another machine: {arguments}")


def _is_near(address: Any) -> bool:
    """Whether an address is on this machine: a unix socket's path, the loopback, or nothing at all."""
    host = address[0] if isinstance(address, tuple) else address
    if host in {None, "", b"", "localhost", b"localhost"}:
        return True
    try:
        return ipaddress.ip_address(host if isinstance(host, str) else bytes(host).decode()).is_loopback
    except ValueError:
        return not isinstance(address, tuple) and str(host).startswith("/")
