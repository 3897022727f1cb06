"""The build has no network: what a step in it tries to reach on this very machine it does not reach."""

import io
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import build as line
from images import engine
from images.errors import EngineError
from images.progress import Quiet
from tests.containers.yard import Yard

DOCKERFILE = """\
ARG BUILDER_BASE
FROM ${BUILDER_BASE}
ARG ADDRESS
ARG PORT
ARG ONCE
RUN python3 -c "import socket; socket.create_connection(('${ADDRESS}', ${PORT}), 5)  # ${ONCE}"
"""


@pytest.fixture(scope="module")
def base(yard: Yard) -> str:
    """A base image with Python, known to the engine."""
    prepared = line.prepare(yard.request("network", yard.config.example.model), yard.config, Quiet())
    for each in prepared.bases:
        yard.engine.load_base(each.tar, each.reference)
    return prepared.job.args["BUILDER_BASE"]


@pytest.fixture(scope="module")
def bridge(yard: Yard) -> str:
    """This machine's address on the engine's network."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return yard.engine._succeed("network", "inspect", "bridge", f"--format={form}").strip()


@pytest.fixture(params=["loopback", "bridge"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Something that listens on this machine."""
    address = "127.0.0.1" if request.param == "loopback" else request.getfixturevalue("bridge")
    with socket.create_server((address, 0)) as listening:
        listening.settimeout(0.1)
        yield listening


def folder_of(tmp_path: Path) -> Path:
    """A build context whose one step opens a connection."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def args(base: str, listener: socket.socket, tmp_path: Path) -> dict[str, str]:
    """Where it connects to. Its own path makes it a step that no cache knows."""
    address, port = listener.getsockname()
    return {"BUILDER_BASE": base, "ADDRESS": address, "PORT": str(port), "ONCE": str(tmp_path)}


def called(listener: socket.socket) -> bool:
    """Whether a connection has come."""
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


def test_a_build_step_reaches_nothing(yard: Yard, base: str, listener: socket.socket, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="create_connection"):
        yard.engine.build(
            folder_of(tmp_path), args=args(base, listener, tmp_path), labels={}, log=io.StringIO(), line=lambda _: None
        )
    assert not called(listener)


def test_the_same_step_reaches_it_with_a_network(
    yard: Yard, base: str, listener: socket.socket, tmp_path: Path
) -> None:
    """So the other test can fail."""
    network = "host" if listener.getsockname()[0] == "127.0.0.1" else "default"
    iidfile = tmp_path / "iid"
    argv = engine.build_command(folder_of(tmp_path), iidfile, args=args(base, listener, tmp_path), labels={})
    argv = [f"--network={network}" if flag == "--network=none" else flag for flag in argv]
    subprocess.run([yard.engine.program, *argv], check=True, capture_output=True, env=yard.engine._environment())
    yard.engine.remove(iidfile.read_text())
    assert called(listener)
