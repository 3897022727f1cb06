"""A tiny vision transformer: built, proved, asked with files and JSON; preprocessing of another kind is caught."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from images.build import Built
from images.inside import compare
from images.inside.errors import Exit
from images.inside.records import REFERENCE, ImageFacts, read_manifest
from images.inside.report import Report
from images.inside.vision import decoding
from images.verify import ISOLATED
from tests import seeing_models
from tests.containers import faults
from tests.containers.yard import Yard, extract, serving


@pytest.fixture(scope="module")
def vit(yard: Yard) -> Built:
    return yard.tiny(seeing_models.NAME)


@pytest.fixture(scope="module")
def artifact(yard: Yard, vit: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(yard.engine, vit.record.reference, tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def url(yard: Yard, vit: Built) -> Iterator[str]:
    with serving(yard.engine, vit.record.reference) as server:
        yield server.url


def test_the_task_is_inferred_and_the_gate_passed(vit: Built) -> None:
    assert vit.record.info.manifest.task == "image-classification"
    assert vit.record.verdict.passed
    assert [entry.pixels for entry in vit.record.verdict.figures] == [pytest.approx(0, abs=1e-6)] * 8


def test_the_original_tells_the_suites_pictures_apart(artifact: Path) -> None:
    """Or the gate would prove little."""
    cases = compare.load(artifact / REFERENCE).cases
    best = {case.answer[0]["label"] for case in cases if isinstance(case.answer[0], dict)}
    assert len(best) > 1


def test_nothing_of_a_tokenizer_is_in_the_artifact(artifact: Path) -> None:
    assert {path.name for path in artifact.iterdir()} == {"manifest.json", "model.onnx", "reference"}


def test_files_and_json_get_the_originals_labels(url: str, artifact: Path) -> None:
    for case in compare.load(artifact / REFERENCE).cases:
        answer = httpx.post(f"{url}/predict", json=case.payload, timeout=30, trust_env=False).json()
        assert _labels(answer) == _labels(case.answer)
        if isinstance(text := case.payload["inputs"], str):
            file = httpx.post(
                f"{url}/predict",
                content=decoding.from_text(text),
                headers={"content-type": "image/png"},
                timeout=30,
                trust_env=False,
            )
            assert file.json() == answer


def _labels(answer: Any) -> Any:
    return [entry["label"] if isinstance(entry, dict) else _labels(entry) for entry in answer]


def _swapped(facts: ImageFacts) -> ImageFacts:
    return msgspec.structs.replace(facts, mean=facts.std, std=facts.mean)


def _bgr(facts: ImageFacts) -> ImageFacts:
    return msgspec.structs.replace(facts, channels="BGR")


@pytest.mark.parametrize("fault", [_swapped, _bgr])
def test_the_gate_catches_other_preprocessing_by_name(fault: Any, yard: Yard, vit: Built, artifact: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()
    facts = read_manifest(artifact).image
    assert facts
    faults.seal(artifact, image=fault(facts))
    flags = (*ISOLATED, f"--volume={artifact}:/artifact:ro")
    done = yard.engine.run(vit.record.reference, "smoke-test", "--json", flags=flags)
    (artifact / "manifest.json").write_bytes(before)
    report = msgspec.json.decode(done.stdout, type=Report)
    assert (done.returncode, report.checks[-1].name) == (Exit.DIFFERS, "reference")
    assert any("pixels" in miss for miss in report.misses)
