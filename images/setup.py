"""Makes this machine able to build: a container engine that answers, the base images. Says each thing it does."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from images import base, engines
from images.config import Config
from images.engine import Engine
from images.errors import EngineError

DEBIAN_LIKE = {"debian", "ubuntu"}
Say = Callable[[str], None]


def run(config: Config, say: Say) -> Engine:
    """Install and start what is missing; idempotent. Raises `EngineError` when this machine needs a person."""
    if (
        not (config.builder_base and config.runtime_base)
        and base.cached(config) is None
        and not shutil.which("mmdebstrap")
    ):
        _install(["mmdebstrap"], say)
    machine = engines.find(config) or _make_engine(config, say)
    say(f"container engine: {machine}")
    if config.builder_base and config.runtime_base:
        say(f"base images: {config.builder_base}, {config.runtime_base} (named in the configuration)")
        return machine
    for each in base.bootstrap(config, say):
        machine.load_base(each.tar, each.reference)
        say(f"{each.kind} base: {each.reference} ({each.tar.stat().st_size / 2**20:.1f} MiB)")
    return machine


def check(config: Config) -> list[str]:
    """What `run` would do on this machine; nothing when it is ready. Changes nothing."""
    missing = []
    if engines.find(config) is None:
        missing.append(
            "a container engine: would install docker.io and start dockerd"
            if not _has_dockerd()
            else "a running container engine: would start dockerd"
        )
    if not (config.builder_base and config.runtime_base) and base.cached(config) is None:
        missing.append("the base images: would bootstrap them from Debian packages with mmdebstrap")
    return missing


def _make_engine(config: Config, say: Say) -> Engine:
    if not _has_dockerd():
        _install(["docker.io"], say)
        if (found := engines.find(config)) is not None:
            return found
    if os.geteuid() != 0:
        raise EngineError(
            "no container engine answers, and only root can start one",
            "start Docker, install podman, or run `invoke setup` as root",
        )
    say(f"starting dockerd with its own socket and data in {config.cache / 'engine'}")
    return engines.start(config)


def _has_dockerd() -> bool:
    return bool(shutil.which("dockerd")) or Path("/usr/sbin/dockerd").exists()


def _install(packages: list[str], say: Say) -> None:
    names = " ".join(packages)
    if os.geteuid() != 0 or not _is_debian_like():
        raise EngineError(
            f"{names} is missing, and can be installed here by hand only",
            f"install {names} (on Debian or Ubuntu: apt-get install {names}), or Docker or podman instead",
        )
    say(f"installing {names} with apt-get")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(argv, check=False, text=True, capture_output=True, env=environment)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise EngineError(
                f"`{' '.join(argv)}` failed:\n{tail}", f"install {names} by hand and run the command again"
            )


def _is_debian_like(release: Path = Path("/etc/os-release")) -> bool:
    lines = (
        dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line) if release.exists() else {}
    )
    return bool(DEBIAN_LIKE & {word.strip('"') for key in ("ID", "ID_LIKE") for word in lines.get(key, "").split()})
