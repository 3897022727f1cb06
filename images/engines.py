"""Which container engine this machine has, and a Docker daemon of our own where none answers."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from images.config import Config
from images.engine import Engine
from images.errors import EngineError

SOCKET_LIMIT = 100
"""Longest path of a unix socket that is safe: the kernel's limit is 108 bytes."""


def find(config: Config, environment: Mapping[str, str] = os.environ) -> Engine | None:
    """The first engine that answers and can build: docker before podman, the user's own before ours."""
    hosts: list[dict[str, str]] = [{}]
    if socket(config).exists() and "DOCKER_HOST" not in environment:
        hosts.append({"DOCKER_HOST": f"unix://{socket(config)}"})
    for host in hosts:
        for program in programs(environment.get("PATH", "")):
            engine = Engine(program=program, version="", environment=host)
            if version := engine.probe():
                return replace(engine, version=version)
    return None


def require(config: Config) -> Engine:
    """The engine. Raises `EngineError` when none answers."""
    if engine := find(config):
        return engine
    found = ", ".join(programs(os.environ.get("PATH", ""))) or "neither docker nor podman is on PATH"
    raise EngineError(
        f"no container engine that can build answers ({found})",
        "run `invoke setup`: it starts one, or says what to install",
    )


def programs(path: str) -> list[str]:
    """Every docker on PATH in order, then every podman: an early docker may be a client that cannot build."""
    folders = [Path(entry) for entry in path.split(os.pathsep) if entry]
    first: dict[Path, str] = {}
    for program in [folder / name for name in ("docker", "podman") for folder in folders]:
        if program.is_file() and os.access(program, os.X_OK):
            first.setdefault(program.resolve(), str(program))
    return list(first.values())


def socket(config: Config) -> Path:
    """The socket of the daemon that we start, beside its data, or in /run where that path would be too long."""
    here = config.cache / "engine" / "docker.sock"
    return (
        here
        if len(str(here)) <= SOCKET_LIMIT
        else Path("/run") / f"modelyard-{uuid.uuid5(uuid.NAMESPACE_URL, str(here)).hex[:8]}.sock"
    )


def start(config: Config) -> Engine:
    """Start a dockerd of our own, with its own socket and data. Raises `EngineError` when it does not come up."""
    home = config.cache / "engine"
    home.mkdir(parents=True, exist_ok=True)
    _daemon_pid(config)
    with (home / "dockerd.log").open("a") as log:
        process = subprocess.Popen(
            daemon_command(config), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    for _ in range(300):
        if (engine := find(config)) is not None:
            return engine
        if process.poll() is not None:
            break
        time.sleep(0.1)
    tail = "\n".join((home / "dockerd.log").read_text().splitlines()[-8:])
    raise EngineError(
        f"dockerd did not come up; the end of {home / 'dockerd.log'}:\n{tail}",
        "start a container engine by hand and run the command again",
    )


def is_ours(engine: Engine, config: Config) -> bool:
    """Whether it is the engine that we started, which nobody else uses."""
    return engine.environment.get("DOCKER_HOST") == f"unix://{socket(config)}"


def stop(config: Config) -> bool:
    """Stop the daemon that we started, by its process id; whether there was one."""
    pid = _daemon_pid(config)
    if pid is None:
        return False
    for signal, tries in ((15, 100), (9, 20)):
        for attempt in range(tries):
            try:
                os.kill(pid, signal if attempt == 0 else 0)
            except ProcessLookupError:
                return True
            time.sleep(0.1)
    return True


def _daemon_pid(config: Config) -> int | None:
    """The process of our own daemon. A pid file that outlived it may name another process by now: it is removed."""
    pidfile = config.cache / "engine" / "docker.pid"
    try:
        pid = int(pidfile.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            return pid
    except (OSError, ValueError):
        pass
    pidfile.unlink(missing_ok=True)
    return None


def daemon_command(config: Config) -> list[str]:
    """The dockerd argv: nothing of it is shared with another daemon's folders."""
    home = config.cache / "engine"
    return [
        shutil.which("dockerd") or "/usr/sbin/dockerd",
        f"--host=unix://{socket(config)}",
        f"--data-root={home / 'data'}",
        f"--exec-root={home / 'exec'}",
        f"--pidfile={home / 'docker.pid'}",
    ]
