"""A build whose exporter makes something else than the model: refused with nothing left, or accepted by name."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from images.inside.errors import Exit
from images.verify import ISOLATED
from tests.containers.yard import TARGET, Yard, invoke, project

FAULTY = '''

_honest = export


def export(given: Exporting) -> Exported:
    """As above, but the vectors keep their length."""
    import onnx

    made = _honest(given)
    model = onnx.load(given.out / made.entry)
    division = next(node for node in model.graph.node if EMBEDDING in node.output)
    division.op_type = "Identity"
    del division.input[1:]
    onnx.save(model, given.out / made.entry)
    return made
'''
REASON = "vectors are compared by cosine only"


class Refused(NamedTuple):
    """A failed build, and whether it left nothing in the engine."""

    done: "subprocess.CompletedProcess[str]"
    left_nothing: bool


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose onnx-cpu leaves the normalisation out."""
    home = project(tmp_path_factory.mktemp("faulty"))
    with (home / "targets/onnx_cpu/export.py").open("a") as file:
        file.write(FAULTY)
    return home


def build(yard: Yard, home: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Build the tiny encoder with it."""
    argv = (f"--target={TARGET}", f"--model={yard.model('tiny-encoder')}", "--pooling=mean", *more)
    return invoke(home, "build", *argv)


@pytest.fixture(scope="module")
def refused(yard: Yard, faulty: Path) -> Refused:
    """Under the tag of an image that an honest build made."""
    tag = yard.tiny("tiny-encoder", pooling="mean").record.reference
    before = yard.things()
    return Refused(build(yard, faulty, f"--tag={tag}"), yard.leaves_nothing(before))


@pytest.fixture(scope="module")
def accepted(yard: Yard, faulty: Path) -> dict[str, Any]:
    """The record of the same, accepted."""
    done = build(yard, faulty, f"--tag={yard.tag('accepted')}", f"--accept-failed-gate={REASON}", "--json")
    assert done.returncode == 0, done.stderr
    known: dict[str, Any] = json.loads(done.stdout)
    return known


def test_a_failed_gate_names_the_input_the_figure_and_the_bound(refused: Refused) -> None:
    assert refused.done.returncode == 6
    assert "input 'short': max_abs_diff" in refused.done.stderr
    assert "is above the bound 0.0001" in refused.done.stderr
    assert "Traceback" not in refused.done.stderr


def test_a_failed_gate_leaves_nothing_in_the_engine(refused: Refused) -> None:
    assert refused.done.returncode == 6
    assert refused.left_nothing


def test_a_failed_gate_leaves_the_earlier_image_its_name(yard: Yard, refused: Refused) -> None:
    assert refused.done.returncode == 6
    known = yard.tiny("tiny-encoder", pooling="mean").record
    image = yard.engine.image(known.reference)
    assert image
    assert image.id == known.image


def test_a_failed_gate_writes_no_record(faulty: Path, refused: Refused) -> None:
    assert refused.done.returncode == 6
    assert not list((faulty / "dist").glob("*tiny-encoder*"))


def test_an_accepted_failure_is_written_into_the_image(yard: Yard, accepted: dict[str, Any]) -> None:
    image = yard.engine.image(accepted["reference"])
    assert image
    assert image.labels["dev.modelyard.gate"] == "overridden"
    assert image.labels["dev.modelyard.gate.override"] == REASON


def test_an_accepted_failure_is_in_the_record(accepted: dict[str, Any]) -> None:
    assert accepted["override"]["reason"] == REASON
    assert any("input 'short'" in miss for miss in accepted["override"]["misses"])


def test_an_accepted_failure_still_fails_the_smoke_test(yard: Yard, accepted: dict[str, Any]) -> None:
    assert yard.engine.run(accepted["reference"], "smoke-test", flags=ISOLATED).returncode == Exit.DIFFERS
