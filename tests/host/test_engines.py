import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from images import engine, engines
from images.errors import EngineError
from tests.host import samples
from tests.host.samples import Script


def version(client: str) -> str:
    return f"""[ "$1" = version ] && echo '{json.dumps({"Client": {"Version": client}, "Server": {}})}' && exit 0"""


GOOD = version("20.10.24+dfsg1")
UNREACHABLE = """[ "$1" = version ] && echo '{"Client": {"Version": "20.10.24"}, "Server": null}'
echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2
exit 1"""
WITHOUT_BUILDX = (
    version("28.2.2") + '\n[ "$1" = buildx ] && echo "docker: unknown command: docker buildx" >&2 && exit 1'
)


def search(*folders: Path) -> dict[str, str]:
    return {"PATH": os.pathsep.join(map(str, folders))}


def found(cache: Path, *folders: Path) -> str:
    machine = engines.find(samples.config(cache), search(*folders))
    return machine.program if machine else ""


def test_our_own_daemon_shares_no_folder_with_another(tmp_path: Path) -> None:
    config = samples.config(tmp_path)
    options = dict(option.removeprefix("--").split("=", 1) for option in engines.daemon_command(config)[1:])
    assert options["host"] == f"unix://{engines.socket(config)}"
    assert all(Path(options[name]).is_relative_to(tmp_path) for name in ("data-root", "exec-root", "pidfile"))


def test_the_socket_lies_beside_the_daemons_data() -> None:
    assert engines.socket(samples.config(Path("/c"))) == Path("/c/engine/docker.sock")


def test_the_socket_of_a_deep_cache_has_a_short_path_of_its_own() -> None:
    deep = [engines.socket(samples.config(Path("/") / (letter * 90))) for letter in "ab"]
    assert all(len(str(path)) <= engines.SOCKET_LIMIT for path in deep)
    assert deep[0] != deep[1]


def test_every_docker_comes_before_every_podman(script: Script) -> None:
    one, two = script("one", ""), script("two", "")
    script("one", "", "podman")
    assert engines.programs(search(one, two)["PATH"]) == [f"{one}/docker", f"{two}/docker", f"{one}/podman"]


def test_a_program_that_two_folders_share_is_tried_once_and_first(script: Script, tmp_path: Path) -> None:
    one, two, three = script("one", ""), script("two", ""), tmp_path / "three"
    three.symlink_to(one)
    assert engines.programs(search(one, two, three)["PATH"]) == [f"{one}/docker", f"{two}/docker"]


def test_what_cannot_be_run_is_no_engine(script: Script, tmp_path: Path) -> None:
    plain = script("plain", "")
    (plain / "docker").chmod(0o644)
    (tmp_path / "folder/docker").mkdir(parents=True)
    assert engines.programs(search(plain, tmp_path / "folder", tmp_path / "missing")["PATH"]) == []


def test_an_empty_path_has_no_engine() -> None:
    assert engines.programs("") == []


@pytest.mark.starts_programs
def test_an_engine_that_answers_is_taken_with_its_version(script: Script, tmp_path: Path) -> None:
    machine = engines.find(samples.config(tmp_path), search(script("good", GOOD)))
    assert str(machine) == "docker 20.10.24+dfsg1"


@pytest.mark.starts_programs
@pytest.mark.parametrize(
    "lines",
    [
        UNREACHABLE,
        WITHOUT_BUILDX,
        "echo garbage",
        "echo '[]'",
        "echo '{}'",
        """echo '{"Client": {"Version": "dev"}}'""",
        "exit 127",
        "kill -9 $$",
    ],
)
def test_a_docker_that_cannot_build_is_passed_over(lines: str, script: Script, tmp_path: Path) -> None:
    bad, good = script("bad", lines), script("good", GOOD)
    assert found(tmp_path, bad, good) == f"{good}/docker"


@pytest.mark.starts_programs
def test_a_file_that_is_no_program_is_passed_over(script: Script, tmp_path: Path) -> None:
    bad, good = script("bad", ""), script("good", GOOD)
    (bad / "docker").write_bytes(b"\x7fELF of another machine")
    assert found(tmp_path, bad, good) == f"{good}/docker"


@pytest.mark.starts_programs
def test_a_docker_that_never_answers_is_passed_over(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.05)
    assert found(tmp_path, script("bad", "exec sleep 60")) == ""


@pytest.mark.starts_programs
def test_a_new_docker_with_its_builder_is_taken(script: Script, tmp_path: Path) -> None:
    good = script("good", version("28.2.2") + '\n[ "$1 $2" = "buildx version" ] && exit 0')
    assert found(tmp_path, good) == f"{good}/docker"


@pytest.mark.starts_programs
def test_podman_needs_no_builder_of_its_own(script: Script, tmp_path: Path) -> None:
    script("good", version("25.0.0") + "\nexit 1", "podman")
    assert found(tmp_path, tmp_path / "good") == f"{tmp_path}/good/podman"


@pytest.mark.starts_programs
def test_without_an_engine_there_is_none(script: Script, tmp_path: Path) -> None:
    assert found(tmp_path, script("bad", UNREACHABLE)) == ""


@pytest.fixture
def ours(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A PATH whose docker reaches nothing but the daemon that we started."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    socket = engines.socket(samples.config(tmp_path))
    socket.parent.mkdir()
    socket.touch()
    return search(script("bin", f'[ "$DOCKER_HOST" = "unix://{socket}" ] || exit 1\n{GOOD}'))


@pytest.mark.starts_programs
def test_the_daemon_that_we_started_is_found_again(ours: dict[str, str], tmp_path: Path) -> None:
    machine = engines.find(samples.config(tmp_path), ours)
    assert machine
    assert str(machine) == f"docker 20.10.24+dfsg1 at unix://{engines.socket(samples.config(tmp_path))}"


@pytest.mark.starts_programs
def test_a_users_own_docker_host_is_not_overruled(ours: dict[str, str], tmp_path: Path) -> None:
    assert engines.find(samples.config(tmp_path), ours | {"DOCKER_HOST": "tcp://elsewhere"}) is None


@pytest.mark.starts_programs
def test_the_error_without_an_engine_names_what_was_tried(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = script("bad", UNREACHABLE)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EngineError, match=rf"answers \({re.escape(str(folder))}/docker\)\n  -> run `invoke setup`"):
        engines.require(samples.config(tmp_path))


def test_the_error_without_any_program_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="neither docker nor podman is on PATH"):
        engines.require(samples.config(tmp_path))


def test_there_is_nothing_to_stop_where_nothing_was_started(tmp_path: Path) -> None:
    assert engines.stop(samples.config(tmp_path)) is False


@pytest.mark.starts_programs
def test_a_process_that_took_a_dead_daemons_number_is_not_stopped(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        (tmp_path / "engine/docker.pid").write_text(f"{bystander.pid}\n")
        assert engines.stop(samples.config(tmp_path)) is False
        assert bystander.poll() is None
