import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from images import base, engines, setup
from images.base import Base
from images.config import Config
from images.engine import Engine
from images.errors import EngineError
from tests.host import samples
from tests.host.samples import FakeEngine

Machine = Callable[..., FakeEngine]
DEBIAN = 'NAME="Debian GNU/Linux"\nID=debian\n'


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine look as a test wants it; nothing can be started or installed."""

    def make(*, reachable: bool = True, programs: tuple[str, ...] = (), user: int = 0) -> FakeEngine:
        fake = FakeEngine()
        monkeypatch.setattr(engines, "find", lambda _: fake if reachable else None)
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in programs else None)
        monkeypatch.setattr(setup, "_has_dockerd", lambda: "dockerd" in programs)
        monkeypatch.setattr(os, "geteuid", lambda: user)
        monkeypatch.setattr(base, "bootstrap", _forbidden)
        return fake

    return make


def _forbidden(*_: object) -> NoReturn:
    raise AssertionError("a base was bootstrapped")


def bootstrapped(cache: Path) -> Config:
    return msgspec.structs.replace(samples.config(cache), builder_base="", runtime_base="")


def store(config: Config) -> None:
    where = base.folder(config)
    where.mkdir(parents=True)
    for kind in ("builder", "runtime"):
        (where / f"{kind}.tar").write_bytes(b"")
        (where / f"{kind}.sha256").write_text("0" * 64)


# Checking


def test_a_machine_with_an_engine_and_named_bases_is_ready(machine: Machine, cache: Path) -> None:
    machine()
    assert setup.check(samples.config(cache)) == []


def test_a_machine_with_an_engine_and_bases_on_disk_is_ready(machine: Machine, cache: Path) -> None:
    machine()
    config = bootstrapped(cache)
    store(config)
    assert setup.check(config) == []


def test_missing_bases_are_said_to_be_missing(machine: Machine, cache: Path) -> None:
    machine()
    assert [entry.partition(":")[0] for entry in setup.check(bootstrapped(cache))] == ["the base images"]


@pytest.mark.parametrize(
    ("programs", "said"),
    [((), "would install docker.io and start dockerd"), (("dockerd",), "would start dockerd")],
)
def test_a_missing_engine_is_said_with_what_would_be_done(
    programs: tuple[str, ...], said: str, machine: Machine, cache: Path
) -> None:
    machine(reachable=False, programs=programs)
    (missing,) = setup.check(samples.config(cache))
    assert missing.endswith(f": {said}")


def test_a_check_changes_nothing(machine: Machine, cache: Path) -> None:
    machine(reachable=False)
    setup.check(bootstrapped(cache))
    assert not cache.exists()


# Doing it


def run(config: Config) -> list[str]:
    said: list[str] = []
    setup.run(config, said.append)
    return said


def test_a_ready_machine_is_said_to_be_so(machine: Machine, cache: Path) -> None:
    machine()
    assert run(samples.config(cache)) == [
        "container engine: docker 0.0",
        "base images: reg.example/builder@sha256:b1, reg.example/runtime@sha256:r1 (named in the configuration)",
    ]


def test_the_bases_are_loaded_into_the_engine(
    machine: Machine, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, tar = machine(programs=("mmdebstrap",)), tmp_path / "runtime.tar"
    tar.write_bytes(bytes(1 << 20))
    made = Base(kind="runtime", tar=tar, digest=f"sha256:{'1' * 64}")
    monkeypatch.setattr(base, "bootstrap", lambda *_: [made])
    said = run(bootstrapped(cache))
    assert fake.asked == [f"load {made.reference} from runtime.tar"]
    assert said[-1] == f"runtime base: {made.reference} (1.0 MiB)"


def test_a_daemon_is_started_where_none_answers(machine: Machine, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = machine(reachable=False, programs=("dockerd",))
    monkeypatch.setattr(engines, "start", _started(fake))
    assert run(samples.config(cache))[:2] == [
        f"starting dockerd with its own socket and data in {cache}/engine",
        "container engine: docker 0.0",
    ]


def _started(fake: Engine) -> Callable[[Config], Engine]:
    return lambda _: fake


def test_only_root_can_start_a_daemon(machine: Machine, cache: Path) -> None:
    machine(reachable=False, programs=("dockerd",), user=1000)
    with pytest.raises(EngineError, match="only root can start one\n  -> start Docker, install podman, or run"):
        run(samples.config(cache))


@pytest.mark.parametrize("missing", ["docker.io", "mmdebstrap"])
def test_who_may_not_install_is_told_what_to_install(missing: str, machine: Machine, cache: Path) -> None:
    machine(reachable=missing != "docker.io", user=1000)
    config = samples.config(cache) if missing == "docker.io" else bootstrapped(cache)
    with pytest.raises(EngineError, match=f"{missing} is missing.*\n.*apt-get install {missing}"):
        run(config)


def test_what_is_installed_is_said_before(machine: Machine, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(reachable=False)
    monkeypatch.setattr(setup, "_is_debian_like", lambda: True)
    said: list[str] = []
    with pytest.raises(pytest.fail.Exception, match="apt-get"):
        setup.run(samples.config(cache), said.append)
    assert said == ["installing docker.io with apt-get"]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (DEBIAN, True),
        ("ID=ubuntu\nID_LIKE=debian\n", True),
        ('ID="linuxmint"\nID_LIKE="ubuntu debian"\n', True),
        ('ID=fedora\nNAME="not debian"\n', False),
        ("", False),
    ],
)
def test_debian_and_its_kin_are_known(release: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(release)
    assert setup._is_debian_like(tmp_path / "os-release") is expected


def test_a_system_that_does_not_say_what_it_is_is_no_debian(tmp_path: Path) -> None:
    assert not setup._is_debian_like(tmp_path / "missing")
