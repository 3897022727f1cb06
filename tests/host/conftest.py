"""What several tests of the host start from."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.program import Program

import tasks
from images import engines, revision
from images.commands import common
from images.engine import ImageFacts
from tests import checkpoints
from tests.host import samples
from tests.host.invoking import Invoke
from tests.host.samples import Script

BASE = f"reg.example/base@sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's commit, without asking git."""
    monkeypatch.setattr(revision, "current", lambda: "c0ffee")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The project's cache, empty."""
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with the least that a build takes."""
    files = {"config.json": checkpoints.BERT, "model.safetensors": 1, "tokenizer.json": {}}
    return checkpoints.write(tmp_path / "tiny", files)


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The find-links folder of a pip that knows nothing else."""
    links, empty = tmp_path / "links", tmp_path / "empty"
    links.mkdir()
    empty.mkdir()
    settings = {"CONFIG_FILE": os.devnull, "FIND_LINKS": str(links), "INDEX_URL": empty.as_uri()}
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return links


@pytest.fixture
def wanted(tmp_path: Path) -> Path:
    """A file of requirements, with what people write beside them."""
    path = tmp_path / "requirements.in"
    path.write_text("# why\napp  # because\n")
    return path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Where their lock goes."""
    return tmp_path / "requirements.txt"


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Makes `docker`, or another program, in a folder for PATH; returns the folder."""

    def make(folder: str, lines: str, name: str = "docker") -> Path:
        file = tmp_path / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{lines}\n")
        file.chmod(0o755)
        return file.parent

    return make


@pytest.fixture
def invoke(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Invoke]:
    """Runs `invoke ...` in this process: exit code, what it printed, what it complained of."""
    for name in ("BUILDER_BASE", "RUNTIME_BASE"):
        monkeypatch.setenv(f"MODELYARD_{name}", BASE)
    monkeypatch.setenv("MODELYARD_CACHE", str(cache))
    monkeypatch.setattr(common, "DIST", tmp_path / "dist")
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[int, str, str]:
        program = Program(namespace=Collection.from_module(tasks))
        code = 0
        try:
            program.run(["invoke", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> samples.FakeEngine:
    """The engine that commands find, which remembers what it is asked."""
    fake = samples.engine()
    fake.store.update(dict.fromkeys(("a:b", "x:y"), ImageFacts(id="sha256:1", size=1, layers=(), labels={})))
    monkeypatch.setattr(engines, "require", lambda _: fake)
    return fake
