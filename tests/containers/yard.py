"""What the container tests build with, run and look into."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import httpx
import openai

from images import build as line
from images import plan, record
from images.build import Built
from images.config import ROOT, Config
from images.engine import HARDENED, Engine, Served
from images.progress import Quiet
from tests import models, seeing_models

TARGET = "onnx-cpu"
REPOSITORY = "modelyard-test"
PROJECT = ("images", "targets", "templates", "tasks.py", "pyproject.toml")
"""What a command needs of the project."""
TIMEOUT = 300
"""Seconds for one command; a build that is told nothing new takes a tenth of that."""


@dataclass(frozen=True, kw_only=True)
class Yard:
    """The engine, and what this run of the tests built with it.

    Attributes:
        folder: where models and records are written.
        name: of this run; part of the tag of everything that it builds.

    """

    engine: Engine
    config: Config
    folder: Path
    name: str
    built: dict[str, Built] = field(default_factory=dict)

    def tag(self, name: str) -> str:
        """The reference under which this run builds an image."""
        return f"{REPOSITORY}/{self.name}-{name}:latest"

    def request(self, name: str, model: str, *, target: str = TARGET, **options: Any) -> line.Request:
        """What to build under that name."""
        return line.Request(target=target, model=model, options=plan.Options(tag=self.tag(name), **options))

    def build(self, name: str, model: str, **options: Any) -> Built:
        """Build an image, or say again what was built."""
        return line.build(self.request(name, model, **options), self.config, Quiet(), self.folder / "dist")

    def image(self, name: str, model: str, **options: Any) -> Built:
        """An image that several tests look at: built for the first of them."""
        if name not in self.built:
            self.built[name] = self.build(name, model, **options)
        return self.built[name]

    def tiny(self, name: str, **options: Any) -> Built:
        """The image of one of the tiny models."""
        return self.image("-".join([name, *options.values()]), str(self.model(name)), **options)

    def model(self, name: str) -> Path:
        """The folder of a tiny model, one for pictures included."""
        folder = self.folder / "models" / name
        if folder.exists():
            return folder
        return seeing_models.write(folder) if name == seeing_models.NAME else models.write(name, folder.parent)

    def things(self) -> set[str]:
        """What a build may leave in the engine: containers, images without a name or with one of this run's."""
        names = set(self.engine._succeed("images", "--format={{.Repository}}:{{.Tag}}").split())
        ours = {
            name for name in names if name.startswith((f"{REPOSITORY}/{self.name}-", "localhost/modelyard/candidate"))
        }
        unnamed = self.engine._succeed("images", "--filter=dangling=true", "--quiet", "--no-trunc").split()
        return {*ours, *unnamed, *self.containers()}

    def containers(self) -> set[str]:
        """All containers, running or not."""
        return set(self.engine._succeed("ps", "--all", "--quiet", "--no-trunc").split())

    def leaves_nothing(self, before: set[str]) -> bool:
        """Whether nothing is there that was not there before. Waits a little: others may use this engine too."""
        return until(lambda: not self.things() - before and not self.build_folders(), 20)

    def build_folders(self) -> list[Path]:
        """The build contexts that lie in the cache and belong to no build that runs."""
        found = (self.config.cache / "builds").glob("*.lock")
        return [lock.with_suffix("") for lock in found if lock.with_suffix("").exists() and _is_free(lock)]

    def close(self) -> None:
        """Remove what this run built; the engine's build cache stays, for the next run."""
        for reference in self.engine.images(f"{plan.LABEL}.target"):
            if reference.startswith(f"{REPOSITORY}/{self.name}-"):
                self.engine.remove(reference)
        for kind in ("logs", "locks"):
            for file in (self.config.cache / kind).glob(f"*{self.name}-*"):
                file.unlink()


def _is_free(lock: Path) -> bool:
    try:
        with filelock.FileLock(lock, timeout=0):
            return True
    except filelock.Timeout:
        return False


def project(folder: Path) -> Path:
    """A copy of the project, whose commands write into it alone."""
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def invoke(home: Path, *argv: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command of the project as a user does, and wait for it."""
    return subprocess.run(
        command(*argv), check=False, capture_output=True, text=True, cwd=home, env=environment(env), timeout=TIMEOUT
    )


@contextmanager
def invoking(home: Path, *argv: str, env: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A command of the project that is under way; killed at the end if it still is."""
    with subprocess.Popen(
        command(*argv),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env=environment(env),
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def command(*argv: str) -> list[str]:
    """The argv of `invoke build --target T` or any other command."""
    return [sys.executable, "-m", "invoke", *argv]


def environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment and more."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(more or {})}


def await_line(process: "subprocess.Popen[str]", words: str) -> str:
    """What the command has said on standard error up to the line with these words."""
    said = ""
    for text in process.stderr or ():
        said += text
        if words in text:
            return said
    raise AssertionError(f"the command ended without saying {words!r}:\n{said}")


@contextmanager
def serving(machine: Engine, image: str, *flags: str, seconds: float = 60) -> Iterator[Served]:
    """The image served under the hardened flags, once it is ready, which it must be in so many seconds."""
    with machine.serve(image, flags=(*HARDENED, *flags)) as served:
        assert until(lambda: get(served, "/v2/health/ready") == httpx.codes.OK or not running(machine, served), seconds)
        assert running(machine, served), machine.logs(served.container)
        yield served


def client_of(served: Served, **options: Any) -> openai.OpenAI:
    """OpenAI's client of a served image, which tries once."""
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0, **options)


@contextmanager
def asking(machine: Engine, image: str, *flags: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client of an image, which is served as `serving` does."""
    with serving(machine, image, *flags) as served, client_of(served) as client:
        yield client


def get(served: Served, path: str) -> int | None:
    """The status of an answer, or None when there is none."""
    try:
        return httpx.get(f"{served.url}{path}", timeout=5, trust_env=False).status_code
    except httpx.TransportError:
        return None


def running(machine: Engine, served: Served) -> bool:
    """Whether the container's process is there."""
    return machine._succeed("inspect", "--format={{.State.Running}}", served.container).strip() == "true"


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for it: True, or False when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def extract(machine: Engine, image: str, folder: Path) -> Path:
    """Bring an image's artifact to this machine."""
    with machine.files(image) as files:
        for member in files:
            if member.name.startswith(record.ARTIFACT):
                files.extract(member, folder, filter="data")
    return folder / record.ARTIFACT
