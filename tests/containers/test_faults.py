"""Planted faults: an artifact that is not the original model is refused by the image itself, whatever is wrong with it.

The images are the verified ones, with a spoiled artifact mounted over their own.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from images import verify
from images.build import Built
from images.engine import HARDENED
from images.errors import GateError, MachineError
from images.inside.errors import Exit
from images.inside.report import Report
from images.verify import ISOLATED
from tests.containers import faults
from tests.containers.yard import Yard, extract, get, running


class Fault(NamedTuple):
    """What is done to the artifact, and what must be said of it.

    Attributes:
        caught: by the inputs of these names.
        unseen: inputs that the fault does not touch: a fault of another kind would.

    """

    spoil: Callable[[Path], None]
    caught: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    figure: str = "max_abs_diff"


MINILM = {
    "wrong pooling": Fault(faults.pool_first_token, ("short", "batch")),
    "no normalisation": Fault(faults.drop_normalisation, ("short", "batch")),
    "no attention mask": Fault(faults.drop_mask, ("padding", "batch"), ("short", "long")),
    "padding on the wrong side": Fault(faults.swap_padding, ("padding", "batch"), ("short", "long")),
    "per-tensor int8": Fault(faults.per_tensor_int8, ("short",), figure="cosine"),
    "case is kept": Fault(faults.keep_case, ("short", "mixed")),
}
DAMAGE = {
    "a flipped byte": (faults.flip_a_byte, "model.onnx"),
    "a missing file": (faults.remove_a_file, "missing: tokenizer.json"),
    "a file too many": (faults.add_a_file, "model.onnx_data"),
}


class Spoiled(NamedTuple):
    """An image with another artifact than its own."""

    yard: Yard
    image: str
    artifact: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"--volume={self.artifact}:/artifact:ro",)

    def smoke_test(self) -> tuple[int, Report]:
        done = self.yard.engine.run(self.image, "smoke-test", "--json", flags=(*ISOLATED, *self.flags))
        return done.returncode, msgspec.json.decode(done.stdout, type=Report)


@pytest.fixture
def spoiled(yard: Yard, minilm: Built, artifact: Path, tmp_path: Path) -> Spoiled:
    """MiniLM with a copy of its artifact, still whole."""
    return Spoiled(yard, minilm.record.reference, shutil.copytree(artifact, tmp_path / "artifact"))


def test_the_mounted_artifact_passes_while_it_is_whole(spoiled: Spoiled) -> None:
    code, report = spoiled.smoke_test()
    assert (code, report.misses) == (Exit.PASS, [])


@pytest.mark.parametrize("fault", MINILM.values(), ids=MINILM)
def test_the_gate_catches(fault: Fault, spoiled: Spoiled) -> None:
    fault.spoil(spoiled.artifact)
    code, report = spoiled.smoke_test()
    error = verify.failure(report)
    assert code == Exit.DIFFERS
    assert [check.name for check in report.checks if not check.passed] == ["reference"]
    assert isinstance(error, GateError)
    assert any(f"input {name!r}" in str(error) for name in fault.caught)
    assert all(any(f"input {name!r}: {fault.figure}" in miss for miss in report.misses) for name in fault.caught)
    assert not any(f"input {name!r}" in miss for miss in report.misses for name in fault.unseen)


def test_the_gate_catches_swapped_labels(yard: Yard, tmp_path: Path) -> None:
    image = yard.tiny("tiny-sentiment").record.reference
    spoiled = Spoiled(yard, image, extract(yard.engine, image, tmp_path))
    faults.swap_labels(spoiled.artifact)
    code, report = spoiled.smoke_test()
    assert code == Exit.DIFFERS
    assert any("input 'short': agreement 0 is below the bound 1" in miss for miss in report.misses)


@pytest.mark.parametrize(("spoil", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen_before_the_model_is_loaded(spoil: Callable[[Path], None], words: str, spoiled: Spoiled) -> None:
    spoil(spoiled.artifact)
    code, report = spoiled.smoke_test()
    assert code == Exit.DAMAGED
    assert report.checks[-1].name == "files"
    assert words in report.checks[-1].detail


def test_an_artifact_for_another_machine_is_not_run(spoiled: Spoiled) -> None:
    faults.other_machine(spoiled.artifact)
    code, report = spoiled.smoke_test()
    assert code == Exit.CANNOT_RUN
    assert isinstance(verify.failure(report), MachineError)
    assert "s390x" in report.checks[-1].detail


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (faults.drop_normalisation, Exit.DIFFERS),
        (faults.other_machine, Exit.CANNOT_RUN),
        (faults.flip_a_byte, Exit.DAMAGED),
    ],
    ids=["differs", "cannot run", "damaged"],
)
def test_the_server_is_never_ready(spoil: Callable[[Path], None], code: Exit, spoiled: Spoiled) -> None:
    spoil(spoiled.artifact)
    machine, seen = spoiled.yard.engine, set[int | None]()
    with machine.serve(spoiled.image, flags=(*HARDENED, *spoiled.flags)) as server:
        while running(machine, server):
            seen.add(get(server, "/v2/health/ready"))
        assert machine.stop(server.container) == code
        assert "not ready" in machine.logs(server.container)
    assert seen <= {None, 503}
