"""The image of the real all-MiniLM-L6-v2: what is in it, what is known about it, and its commands."""

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from images import spec
from images.build import Built
from images.engine import ImageFacts
from images.inside import compare
from images.inside.__main__ import USAGE
from images.inside.errors import Exit
from images.record import MIB, Record
from images.verify import ISOLATED
from tests.containers.yard import TARGET, Yard


@pytest.fixture(scope="module")
def image(yard: Yard, minilm: Built) -> ImageFacts:
    found = yard.engine.image(minilm.record.reference)
    assert found
    return found


@pytest.fixture(scope="module")
def files(yard: Yard, minilm: Built) -> dict[str, int]:
    """Sizes by absolute path, read from the image."""
    with yard.engine.files(minilm.record.reference) as members:
        return {f"/{member.name}": member.size for member in members}


def test_the_gate_passed_on_every_input_in_process_and_over_http(minilm: Built) -> None:
    verdict = minilm.record.verdict
    assert verdict.passed
    assert len(verdict.figures) == len(verdict.http_figures) == 8
    assert all(entry.max_abs_diff is not None and entry.max_abs_diff <= 1e-4 for entry in verdict.figures)


def test_the_recorded_original_knows_which_sentences_mean_the_same(reference: compare.Reference) -> None:
    """A fact about MiniLM that no code of ours can bend: it would not hold for a random or a wrong model."""
    vectors = {name: [item["sentence_embedding"] for item in items] for name, items in reference.outputs.items()}
    rain, _, harbour, _ = vectors["batch"]
    assert harbour @ vectors["padding"][1] == pytest.approx(1, abs=1e-5)
    assert abs(harbour @ rain) < 0.4
    assert vectors["short"][0].shape == (384,)
    assert np.linalg.norm(vectors["short"][0]) == pytest.approx(1, abs=1e-5)


def test_the_image_without_its_model_is_within_the_budget(files: dict[str, int]) -> None:
    rest = sum(size for path, size in files.items() if not path.startswith("/artifact/"))
    assert rest <= spec.load(TARGET).size_budget_mib * MIB


def test_the_recorded_sizes_are_those_of_the_files(minilm: Built, files: dict[str, int]) -> None:
    model = sum(size for path, size in files.items() if path.startswith("/artifact/"))
    sizes, total = minilm.record.sizes, sum(files.values())
    assert (sizes.total, sizes.artifact, sizes.without_artifact) == (total, model, total - model)


def test_the_record_says_what_the_same_wheels_are_elsewhere(minilm: Built) -> None:
    assert minilm.record.sizes.wheels > minilm.record.sizes.without_artifact


@pytest.mark.parametrize("name", ["torch", "transformers", "optimum", "pip", "nvidia", "sh", "bash", "gcc", "apt"])
def test_nothing_of_that_name_is_in_the_image(name: str, files: dict[str, int]) -> None:
    assert [path for path in files if name in Path(path).parts] == []


def test_the_image_knows_no_python_package_beyond_its_lock(minilm: Built) -> None:
    locked = spec.load(TARGET).lock("run").read_text().splitlines()
    names = {line.split("==")[0] for line in locked if "==" in line}
    assert {name.lower().replace("_", "-") for name in minilm.record.info.packages} == names


def test_the_written_record_is_the_returned_one(minilm: Built) -> None:
    assert msgspec.json.decode(minilm.file.read_bytes(), type=Record) == minilm.record


def test_the_labels_say_what_the_record_says(minilm: Built, image: ImageFacts) -> None:
    known = minilm.record
    manifest, worst = known.info.manifest, compare.worst(known.verdict.figures)["max_abs_diff"].max_abs_diff
    expected = {
        "plan": known.plan,
        "target": TARGET,
        "task": "feature-extraction",
        "mode": "none",
        "model.id": manifest.model.id,
        "model.source": "pypi",
        "model.revision": manifest.model.revision,
        "model.digest": manifest.model.digest,
        "gate": "passed",
        "gate.max_abs_diff": f"{worst:.6g}",
        "size.without-model": str(known.sizes.without_artifact),
    }
    assert {key: image.labels[f"dev.modelyard.{key}"] for key in expected} == expected
    assert image.labels["org.opencontainers.image.created"] == known.created


def test_the_record_names_the_image_that_the_engine_has(minilm: Built, image: ImageFacts) -> None:
    assert (minilm.record.image, tuple(minilm.record.layers)) == (image.id, image.layers)


def test_the_base_digest_is_the_first_layers(minilm: Built, image: ImageFacts) -> None:
    digests = {minilm.record.bases["runtime"], image.labels["org.opencontainers.image.base.digest"]}
    assert digests == {image.layers[0]}


def test_the_models_digest_is_that_of_its_files_on_this_machine(yard: Yard, minilm: Built) -> None:
    found = {file.parent for file in (yard.config.cache / "models").rglob("model.safetensors")}
    assert minilm.record.info.manifest.model.digest in {_digest(folder, minilm.record) for folder in found}


def test_the_smoke_test_passes_hardened_and_without_network(yard: Yard, minilm: Built) -> None:
    assert {"--network=none", "--read-only", "--user=12345", "--cap-drop=ALL"} < set(ISOLATED)
    done = yard.engine.run(minilm.record.reference, "smoke-test", flags=ISOLATED)
    assert done.returncode == Exit.PASS
    assert done.stdout.rstrip().endswith("PASS (exit code 0)")
    assert done.stderr == ""


def test_info_says_what_is_in_the_image(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, "info", flags=ISOLATED)
    assert done.returncode == 0
    assert "384 dimensions, pooling mean, normalized True" in done.stdout
    assert minilm.record.info.manifest.model.digest in done.stdout


def test_bench_measures_the_server(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, "bench", "--json", "--seconds=0.3", flags=ISOLATED)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert [row["tokens"] for row in measured["single"]] == [16, 128]
    assert [row["clients"] for row in measured["load"]] == [1, 4, 16]
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in (*measured["single"], *measured["load"]))
    assert 50 < measured["peak_rss_mib"] < 1000


def test_an_unknown_command_is_a_usage_error(yard: Yard, minilm: Built) -> None:
    done = yard.engine.run(minilm.record.reference, "train")
    assert done.returncode == USAGE
    assert "smoke-test" in done.stderr


def _digest(folder: Path, known: Record) -> str:
    """As `sha256sum` of all files, sorted, and of that."""
    sums = [(hashlib.sha256((folder / file.path).read_bytes()).hexdigest(), file.path) for file in known.model_files]
    lines = "".join(sorted(f"{digest}  {path}\n" for digest, path in sums))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
