"""What a user is told when a build cannot be: one readable message, an exit code, and nothing left behind."""

import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.containers.proxy import Proxy
from tests.containers.yard import TARGET, Yard, await_line, invoke, invoking, until

UNDER_WAY = 3
"""Seconds after which the first slow step of a build runs, which takes longer than that."""
SUITE = [{"inputs": "The first of our own."}, {"inputs": ["Two texts", "in one request."]}]


class Both(NamedTuple):
    """Two builds of one tag: the second began while the first was under way."""

    first: "subprocess.CompletedProcess[str]"
    second: "subprocess.CompletedProcess[str]"

    @property
    def record(self) -> dict[str, Any]:
        """The first's."""
        (file,) = Path(str(self.first.args)).glob("dist/*both*/record.json")
        known: dict[str, Any] = json.loads(file.read_bytes())
        return known


def new_model(yard: Yard, folder: Path, name: str = "tiny-sentiment", **changes: Any) -> Path:
    """A tiny model that no cache knows, with changes to its config.json; a key with the value None is left out."""
    home = folder / f"new-{name}"
    home.mkdir()
    for file in yard.model(name).iterdir():
        os.link(file, home / file.name)
    config = json.loads((home / "config.json").read_text()) | {"new": uuid.uuid4().hex} | changes
    (home / "config.json").unlink()
    (home / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return home


def build(home: Path, yard: Yard, model: Path, *more: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """`invoke build` of a model that is expected to fail."""
    argv = (f"--target={TARGET}", f"--model={model}", f"--tag={yard.tag('failing')}", *more)
    return invoke(home, "build", *argv, env=env)


def said_once(done: "subprocess.CompletedProcess[str]") -> str:
    """The error's one message."""
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    return done.stderr[done.stderr.index("error:") :]


@pytest.fixture(scope="module")
def both(yard: Yard, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The first has a suite of its own."""
    folder = tmp_path_factory.mktemp("both")
    suite = folder / "suite.jsonl"
    suite.write_text("\n".join(json.dumps(payload) for payload in SUITE))
    model = new_model(yard, folder)
    argv = ("build", f"--target={TARGET}", f"--model={model}", f"--tag={yard.tag('both')}")
    with invoking(home, *argv, f"--suite={suite}") as first:
        await_line(first, "- building")
        second = invoke(home, *argv)
        out, err = first.communicate()
    done = subprocess.CompletedProcess(home, first.returncode, out, err)
    return Both(done, second)


def test_a_second_build_of_a_tag_is_refused_while_the_first_runs(yard: Yard, both: Both) -> None:
    assert both.second.returncode == 9
    assert f"another build of {yard.tag('both')} is under way" in said_once(both.second)


def test_the_first_build_of_a_tag_is_not_disturbed_by_a_second(yard: Yard, both: Both) -> None:
    assert both.first.returncode == 0, both.first.stderr
    image = yard.engine.image(yard.tag("both"))
    assert image
    assert image.id == both.record["image"]


def test_the_users_own_inputs_are_part_of_the_gate(both: Both) -> None:
    figures = both.record["verdict"]["figures"]
    assert [entry["case"] for entry in figures[8:]] == ["line-1", "line-2"]
    assert all(entry["agreement"] == 1 for entry in figures)


def test_the_same_command_again_takes_at_most_two_seconds(yard: Yard, home: Path, both: Both) -> None:
    suite = next(Path(home.parent).glob("both*/suite.jsonl"))
    argv = (f"--target={TARGET}", f"--model={suite.parent / 'new-tiny-sentiment'}", f"--tag={yard.tag('both')}")
    since = time.monotonic()
    done = invoke(home, "build", *argv, f"--suite={suite}")
    assert time.monotonic() - since <= 2
    assert both.first.returncode == done.returncode == 0
    assert "nothing was built" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(yard: Yard, home: Path, tmp_path: Path, number: signal.Signals) -> None:
    before = yard.things()
    argv = (f"--target={TARGET}", f"--model={new_model(yard, tmp_path)}", f"--tag={yard.tag('interrupted')}")
    with invoking(home, "build", *argv) as process:
        await_line(process, "- building")
        time.sleep(UNDER_WAY)
        assert process.poll() is None
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert yard.leaves_nothing(before)
    assert yard.engine.image(yard.tag("interrupted")) is None


def test_an_interrupted_smoke_test_leaves_nothing(yard: Yard, home: Path) -> None:
    argv = (f"--target={TARGET}", f"--model={yard.model('tiny-sentiment')}", f"--tag={yard.tag('interrupted')}")
    yard.tiny("tiny-sentiment")
    before = yard.things()
    with invoking(home, "build", *argv) as process:
        await_line(process, "- proving")
        assert until(lambda: bool(yard.containers() - before))
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert yard.leaves_nothing(before)
    assert yard.engine.image(yard.tag("interrupted")) is None


def test_an_engine_that_dies_during_the_build_is_named(yard: Yard, home: Path, tmp_path: Path) -> None:
    if Path(yard.engine.program).name != "docker":
        pytest.skip("this engine has no daemon that could die")
    argv = (f"--target={TARGET}", f"--model={new_model(yard, tmp_path)}", f"--tag={yard.tag('orphan')}")
    before = yard.things()
    with (
        Proxy(yard.engine, tmp_path) as proxy,
        invoking(home, "build", *argv, env={"DOCKER_HOST": proxy.address}) as process,
    ):
        await_line(process, "- building")
        time.sleep(UNDER_WAY)
        proxy.cut()
        _, told = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "error: the container engine stopped answering" in told
    assert "Traceback" not in told
    assert yard.leaves_nothing(before)


def test_without_an_engine_the_build_says_what_to_do(yard: Yard, home: Path, tmp_path: Path) -> None:
    (tmp_path / "docker").symlink_to(Path(yard.engine.program).resolve())
    env = {"DOCKER_HOST": "unix:///nonexistent", "CONTAINER_HOST": "unix:///nonexistent", "PATH": str(tmp_path)}
    done = build(home, yard, yard.model("tiny-sentiment"), **env)
    assert done.returncode == 5
    assert "invoke setup" in said_once(done)


def test_an_unknown_architecture_is_refused(yard: Yard, home: Path, tmp_path: Path) -> None:
    model = new_model(
        yard, tmp_path, model_type="martian", architectures=["MartianForSequenceClassification"], dim=None
    )
    before = yard.things()
    done = build(home, yard, model)
    assert done.returncode == 3
    assert "martian" in said_once(done)
    assert yard.leaves_nothing(before)


def test_a_task_that_the_checkpoint_has_no_weights_for_is_refused(yard: Yard, home: Path, tmp_path: Path) -> None:
    done = build(home, yard, new_model(yard, tmp_path, "tiny-topics"), "--task=question-answering")
    assert done.returncode == 3
    assert "no weights for question-answering: qa_outputs" in said_once(done)


def test_a_broken_line_of_a_suite_is_numbered(yard: Yard, home: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text('{"inputs": "fine"}\n\n{"inputs": "not closed\n')
    done = build(home, yard, yard.model("tiny-sentiment"), f"--suite={suite}")
    assert done.returncode == 2
    assert "line 3" in said_once(done)


def test_a_line_of_a_suite_that_the_task_does_not_take_is_numbered(yard: Yard, home: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text('{"inputs": "fine"}\n{"inputs": 5}\n')
    done = build(home, yard, yard.model("tiny-sentiment"), f"--suite={suite}")
    assert done.returncode == 2
    assert "line 2" in said_once(done)
