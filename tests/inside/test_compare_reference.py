"""The reference on disk: read as it was written, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside import compare
from images.inside.compare import Reference
from images.inside.contract import Outputs
from images.inside.errors import ArtifactError
from images.inside.records import Case
from tests.inside.comparing import logits, normal


def reference(**outputs: list[Outputs]) -> Reference:
    cases = tuple(Case(name=name, payload={"inputs": name}, answer=[1, {"a": "é"}]) for name in outputs)
    return Reference(cases=cases, outputs={name: [dict(item) for item in items] for name, items in outputs.items()})


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = reference(short=logits(normal(0, 3)), batch=logits(*(normal(item, item + 1, 2) for item in range(12))))
    compare.save(tmp_path / "new", written)
    read = compare.load(tmp_path / "new")
    assert read.cases == written.cases
    assert all(
        np.array_equal(one["logits"], other["logits"])
        for name in written.outputs
        for one, other in zip(written.outputs[name], read.outputs[name], strict=True)
    )


def test_a_case_without_outputs_is_kept(tmp_path: Path) -> None:
    compare.save(tmp_path, reference(none=[]))
    assert compare.load(tmp_path).outputs == {"none": []}


def test_a_case_is_not_taken_for_one_whose_name_it_begins(tmp_path: Path) -> None:
    compare.save(tmp_path, reference(a=logits(normal(0, 1)), ab=logits(normal(0, 2), normal(0, 2))))
    assert {name: len(items) for name, items in compare.load(tmp_path).outputs.items()} == {"a": 1, "ab": 2}


@pytest.mark.parametrize("name", [compare.CASES, compare.OUTPUTS])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"[1, 2]", b"\xff"])
def test_a_damaged_reference_is_a_damaged_artifact(name: str, content: bytes | None, tmp_path: Path) -> None:
    compare.save(tmp_path, reference(a=logits(normal(0, 1))))
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"^reference: "):
        compare.load(tmp_path)


def test_a_reference_runs_no_code_when_it_is_read(tmp_path: Path) -> None:
    compare.save(tmp_path, reference(a=logits(normal(0, 1))))
    stored: dict[str, Any] = {"a/0/logits": np.array([{"an": "object"}], dtype=object)}
    np.savez(tmp_path / compare.OUTPUTS, **stored)
    with pytest.raises(ArtifactError, match=r"allow_pickle=False"):
        compare.load(tmp_path)
