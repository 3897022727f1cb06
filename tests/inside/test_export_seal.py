import hashlib
import json
import platform
from pathlib import Path

import msgspec
import pytest

from images.inside import export
from images.inside.contract import HEADROOM, Exported, Exporting
from images.inside.records import MANIFEST, REFERENCE, FileDigest, Manifest, read_manifest
from tests.inside import artifacts, serving

MADE = Exported("model.bin", "by hand")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.sealed(tmp_path_factory.mktemp("sealed"), mode="int8", exporter="table")


@pytest.fixture(scope="module")
def manifest(artifact: Path) -> Manifest:
    return read_manifest(artifact)


@pytest.fixture
def given(tmp_path: Path) -> Exporting:
    return artifacts.exporting(tmp_path)


# What is sealed


def test_the_artifact_is_the_exporters_file_the_tokenizer_and_the_reference(artifact: Path) -> None:
    assert {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()} == {
        *("model.bin", "tokenizer.json", "reference/cases.json", "reference/outputs.npz", MANIFEST)
    }


def test_the_manifest_has_every_file_but_itself_by_path(artifact: Path, manifest: Manifest) -> None:
    assert [file.path for file in manifest.files] == [
        *("model.bin", "reference/cases.json", "reference/outputs.npz", "tokenizer.json")
    ]
    assert manifest.files[0] == FileDigest(
        path="model.bin", size=1000, sha256=hashlib.sha256((artifact / "model.bin").read_bytes()).hexdigest()
    )


def test_a_tokenizer_that_the_exporter_wrote_is_kept(given: Exporting) -> None:
    (given.out / "tokenizer.json").write_text("{}")
    export.seal(given, MADE)
    assert (given.out / "tokenizer.json").read_text() == "{}"


def test_the_manifest_says_what_was_made_and_how(manifest: Manifest) -> None:
    assert (manifest.target, manifest.exporter, manifest.mode, manifest.entry, manifest.recipe) == (
        *("table", "table", "int8"),
        *MADE[:2],
    )


def test_the_manifest_repeats_what_the_exporter_measured(tmp_path: Path) -> None:
    given = artifacts.exporting(tmp_path)
    assert export.manifest_of(given, Exported("model.bin", measures={"delegated": 0.75})).measures == {
        "delegated": 0.75
    }


def test_a_measure_as_large_as_the_mode_asks_for_is_let_through(tmp_path: Path) -> None:
    export.hold(
        artifacts.exporting(tmp_path, least={"delegated": 0.75}).job, Exported("m", measures={"delegated": 0.75})
    )


def test_a_measure_below_what_the_mode_asks_for_ends_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = artifacts.exporting(tmp_path, least={"delegated_share": 0.75}).job
    with pytest.raises(SystemExit):
        export.hold(job, Exported("m", measures={"delegated_share": 0.5}))
    assert "delegated share of the artifact is 0.500; table (none) allows no less than 0.75" in capsys.readouterr().err


def test_the_manifest_says_what_it_is_held_to(manifest: Manifest) -> None:
    assert manifest.bounds == artifacts.BOUNDS


def test_the_manifest_repeats_what_is_known_of_the_original(manifest: Manifest) -> None:
    facts = serving.manifest()
    assert (manifest.model, manifest.max_length, manifest.embedding) == (facts.model, facts.max_length, facts.embedding)


def test_the_artifact_is_for_machines_like_this(manifest: Manifest) -> None:
    assert manifest.architecture == platform.machine()


def test_the_packages_that_made_it_are_named(manifest: Manifest) -> None:
    assert {"numpy", "msgspec"} <= set(manifest.packages)
    assert list(manifest.packages) == sorted(manifest.packages)


def test_any_user_may_read_every_file(artifact: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in artifact.rglob("*") if path.is_file()}
    folders = {path.stat().st_mode & 0o777 for path in artifact.rglob("*") if path.is_dir()}
    assert (modes, folders) == ({0o644}, {0o755})


def test_files_of_a_careful_exporter_are_opened_up(given: Exporting) -> None:
    (given.out / "model.bin").chmod(0o600)
    export.seal(given, MADE)
    assert (given.out / "model.bin").stat().st_mode & 0o777 == 0o644


def test_the_manifest_is_json_to_read(artifact: Path) -> None:
    text = (artifact / MANIFEST).read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_equal_artifacts_have_equal_manifests(tmp_path: Path) -> None:
    one, other = (artifacts.sealed(tmp_path / name) for name in ("one", "other"))
    facts = [msgspec.structs.replace(read_manifest(each), files=[]) for each in (one, other)]
    assert facts[0] == facts[1]


def test_a_manifest_can_be_had_before_the_seal(given: Exporting) -> None:
    assert [file.path for file in export.manifest_of(given, MADE).files] == ["model.bin"]


# The memory it needs


def needed(given: Exporting, size: int, *more: str) -> int:
    for name in ("model.bin", *more):
        (given.out / name).write_bytes(b"")
        with (given.out / name).open("r+b") as file:
            file.truncate(size)
    return export.manifest_of(given, MADE).memory_bytes


def test_the_memory_needed_is_the_weights_and_what_any_server_uses(given: Exporting) -> None:
    assert needed(given, 10 * export.MIB) == 10 * export.MIB + HEADROOM


def test_the_manifest_repeats_that_a_way_is_deprecated(tmp_path: Path) -> None:
    given = artifacts.exporting(tmp_path, deprecated="given up: take b")
    assert export.manifest_of(given, MADE).deprecated == "given up: take b"


def test_memory_that_the_exporter_saw_taken_counts_where_it_is_more(given: Exporting) -> None:
    made = MADE._replace(memory=50 * export.MIB)
    assert export.manifest_of(given, made).memory_bytes == 50 * export.MIB + HEADROOM


def test_it_is_whole_mebibytes_rounded_up(given: Exporting) -> None:
    assert needed(given, 10 * export.MIB + 1) == 11 * export.MIB + HEADROOM


def test_weights_beside_the_entry_count_too(given: Exporting) -> None:
    assert needed(given, 10 * export.MIB, "model.bin_data") == 20 * export.MIB + HEADROOM


# Digests


def test_digests_are_sorted_by_path_and_leave_the_manifest_out(tmp_path: Path) -> None:
    for path in ("b", "a/c", "a/b", MANIFEST, f"a/{MANIFEST}"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(path)
    assert [file.path for file in export.digests(tmp_path)] == ["a/b", "a/c", f"a/{MANIFEST}", "b"]


def test_a_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert export.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# The step as a whole


@pytest.fixture
def job(given: Exporting, tmp_path: Path) -> list[str]:
    """The step's arguments, with the model's exporter still to be called."""
    for name, told in (("source", given.source), ("export", given.job)):
        (tmp_path / "job" / name).mkdir(parents=True)
        (tmp_path / "job" / name / f"{name}.json").write_bytes(msgspec.json.encode(told))
    return [f"--job={tmp_path}/job", f"--model={tmp_path}", f"--work={given.work}", f"--out={tmp_path}/made"]


def test_the_step_calls_the_targets_exporter_and_seals_what_it_makes(
    job: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.install_exporter(_export, monkeypatch)
    export.main(job)
    assert (read_manifest(tmp_path / "made").entry, (tmp_path / "made" / REFERENCE).is_dir()) == ("net", True)


def _export(given: Exporting) -> Exported:
    (given.out / "net").write_text(given.job.mode)
    return Exported("net")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such layer\nin 17 places"), "no such layer"),
        (KeyError("bert2"), "'bert2'"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_an_exporter_that_gives_up_is_told_to_the_host_in_one_line(
    error: Exception, said: str, job: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Exporting) -> Exported:
        raise error

    artifacts.install_exporter(fail, monkeypatch)
    with pytest.raises(SystemExit):
        export.main(job)
    marker, _, told = capsys.readouterr().err.splitlines()[-1].partition(" ")
    assert marker == "MODELYARD-ERROR"
    assert json.loads(told)["what"] == f"none cannot export acme/tiny for feature-extraction: {said}"
