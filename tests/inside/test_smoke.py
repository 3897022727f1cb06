import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from images.inside import compare, served, server, smoke, threads
from images.inside.contract import IntArray, Outputs
from images.inside.errors import ArtifactError, CannotRunError, Exit, OutputsDifferError
from images.inside.loaded import Loaded
from images.inside.records import Bounds, read_manifest
from images.inside.report import Report
from images.inside.settings import Settings
from tests.inside import artifacts, serving
from tests.inside.serving import TableRunner

Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.sealed(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def artifact(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact that passes; every test has its own."""
    artifacts.install(TableRunner(), monkeypatch)
    return Path(shutil.copytree(whole, tmp_path / "artifact"))


def files(artifact: Path) -> str:
    return smoke.check_files(artifact, read_manifest(artifact))


def failed(report: Report) -> str:
    """The name of the only step that failed, which must be the last one."""
    assert [check.passed for check in report.checks] == [True] * (len(report.checks) - 1) + [False]
    return report.checks[-1].name


# Files


def test_files_that_are_as_stated_are_counted(artifact: Path) -> None:
    assert files(artifact) == "4 files, 0.0 MiB"


def flip(file: Path, place: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("path", ["model.bin", "tokenizer.json", "reference/outputs.npz", "reference/cases.json"])
@pytest.mark.parametrize("place", [0, -1])
def test_one_flipped_bit_is_found_in_any_file(path: str, place: int, artifact: Path) -> None:
    flip(artifact / path, place)
    with pytest.raises(ArtifactError, match=rf"^not as the manifest's digests say: {path}$"):
        files(artifact)


def test_a_file_that_is_cut_short_is_found(artifact: Path) -> None:
    (artifact / "model.bin").write_bytes(bytes(999))
    with pytest.raises(ArtifactError, match=r"model\.bin"):
        files(artifact)


def test_missing_files_are_named(artifact: Path) -> None:
    for path in ("model.bin", "tokenizer.json"):
        (artifact / path).unlink()
    with pytest.raises(ArtifactError, match=r"^missing: model\.bin, tokenizer\.json$"):
        files(artifact)


def test_a_missing_file_that_is_to_be_mounted_is_named_with_its_place(artifact: Path) -> None:
    (artifact / "model.bin").unlink()
    (artifact / "model.bin").symlink_to("/weights/model.bin")
    with pytest.raises(ArtifactError, match=r"^missing: model\.bin \(to be mounted as /weights/model\.bin\)$"):
        files(artifact)


def test_a_file_that_may_not_be_read_is_named(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied", "/artifact/model.bin")

    monkeypatch.setattr(smoke, "digests", refuse)
    with pytest.raises(CannotRunError, match=r"may not read /artifact/model\.bin: make it readable to all"):
        files(artifact)


def test_a_file_that_was_put_there_is_found(artifact: Path) -> None:
    (artifact / "reference/more.json").touch()
    with pytest.raises(ArtifactError, match=r"reference/more\.json"):
        files(artifact)


# Hardware


def test_a_machine_of_another_kind_is_told_from_this(artifact: Path) -> None:
    manifest = artifacts.restate(artifact, architecture="s390x")
    with pytest.raises(CannotRunError, match=rf"^the artifact is for s390x; this machine is {platform.machine()}$"):
        smoke.check_hardware(manifest)


def test_memory_that_is_just_enough_is_enough(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "memory_limit", lambda: 256 << 20)
    assert smoke.check_hardware(artifacts.restate(artifact, memory_bytes=256 << 20)).endswith("256 MiB of memory")


def test_too_little_memory_is_told_with_what_is_needed(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "memory_limit", lambda: 128 << 20)
    with pytest.raises(CannotRunError, match=r"^256 MiB of memory are needed; this container may use 128 MiB$"):
        smoke.check_hardware(artifacts.restate(artifact, memory_bytes=256 << 20))


# The whole test


@pytest.fixture(scope="module")
def report(whole: Path) -> Iterator[Report]:
    """What the smoke test says of a sound artifact."""
    with pytest.MonkeyPatch.context() as patch:
        artifacts.install(TableRunner(), patch)
        yield smoke.run(whole)


def test_a_sound_artifact_passes_every_step_in_order(report: Report) -> None:
    assert (report.exit, report.misses) == (Exit.PASS, [])
    assert [(check.name, check.passed) for check in report.checks] == [
        *(("manifest", True), ("files", True), ("hardware", True)),
        *(("load", True), ("reference", True), ("http", True)),
    ]


def test_a_report_says_what_was_tested_and_with_what(report: Report) -> None:
    assert (report.target, report.task, report.mode, report.model, report.bounds, report.runtime) == (
        *("table", "feature-extraction", "none", "acme/tiny"),
        *(artifacts.BOUNDS, {"runtime": "table"}),
    )


def test_every_input_is_measured_twice(report: Report) -> None:
    names = list(artifacts.PAYLOADS)
    assert [figures.case for figures in report.figures] == names
    assert [figures.case for figures in report.http_figures] == names
    assert all(figures.cosine == pytest.approx(1) for figures in [*report.figures, *report.http_figures])


def test_a_runtime_that_fails_on_an_input_is_a_difference(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError("no such kernel")

    runner = TableRunner()
    monkeypatch.setattr(runner, "predict", fail)
    artifacts.install(runner, monkeypatch)
    report = smoke.run(artifact)
    assert (report.exit, failed(report)) == (Exit.DIFFERS, "reference")
    assert report.checks[-1].detail == "the runtime fails on the suite: no such kernel"


def test_latency_is_measured_in_process_and_over_http(report: Report) -> None:
    latency = report.latency
    assert latency
    assert 0 < latency.runner_p50_ms <= latency.runner_p95_ms
    assert latency.runner_p50_ms < latency.http_p50_ms <= latency.http_p95_ms


def test_a_report_says_what_it_took(report: Report) -> None:
    assert report.peak_memory_bytes > 10 << 20
    assert report.cpus > 0


def test_a_report_survives_its_json(report: Report) -> None:
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def unlink(path: str) -> Break:
    return lambda artifact: (artifact / path).unlink()


@pytest.mark.parametrize(
    ("damage", "step", "code"),
    [
        (unlink("manifest.json"), "manifest", Exit.DAMAGED),
        (lambda artifact: flip(artifact / "manifest.json", 0), "manifest", Exit.DAMAGED),
        (lambda artifact: flip(artifact / "model.bin"), "files", Exit.DAMAGED),
        (unlink("tokenizer.json"), "files", Exit.DAMAGED),
        (lambda artifact: artifacts.restate(artifact, architecture="s390x"), "hardware", Exit.CANNOT_RUN),
        (lambda artifact: artifacts.restate(artifact, memory_bytes=1 << 62), "hardware", Exit.CANNOT_RUN),
    ],
)
def test_the_first_failure_decides_the_exit_code(damage: Break, step: str, code: Exit, artifact: Path) -> None:
    damage(artifact)
    report = smoke.run(artifact)
    assert (failed(report), report.exit) == (step, code)


def test_without_a_manifest_the_report_says_so_and_nothing_more(artifact: Path) -> None:
    (artifact / "manifest.json").unlink()
    report = smoke.run(artifact)
    assert (report.target, report.model, report.figures) == ("", "", [])
    assert report.checks[0].detail.startswith("manifest.json: ")


def test_a_runner_that_cannot_read_its_file_is_a_damaged_artifact(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["targets.table.run"], "load", _cannot_read)
    report = smoke.run(artifact)
    assert (failed(report), report.exit, report.checks[-1].detail) == ("load", Exit.DAMAGED, "model.bin: no graph")


def _cannot_read(*_: object) -> None:
    raise ArtifactError("model.bin: no graph")


@pytest.mark.parametrize("by", [2e-5, 0.5, float("nan")])
def test_outputs_that_differ_are_named_with_figure_and_bound(
    by: float, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.install(artifacts.Shifted(by), monkeypatch)
    report = smoke.run(artifact)
    assert (failed(report), report.exit) == ("reference", Exit.DIFFERS)
    assert report.misses[0].startswith("input 'short': max_abs_diff ")
    assert report.checks[-1].detail.startswith(report.misses[0])


def test_a_difference_within_the_bounds_passes(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.install(artifacts.Shifted(2e-6), monkeypatch)
    assert smoke.run(artifact).exit == Exit.PASS


def test_a_wrong_input_is_found_among_right_ones(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.install(_WrongBatch(), monkeypatch)
    report = smoke.run(artifact)
    assert {miss.partition(":")[0] for miss in report.misses} == {"input 'batch'"}


class _WrongBatch(TableRunner):
    """Forgets the mask, which only a batch of unequal lengths shows."""

    def predict(self, batch: Mapping[str, IntArray]) -> Outputs:
        """The mean over padding too."""
        return {"sentence_embedding": self.table[batch["input_ids"]].mean(axis=1)}


def test_a_server_that_answers_otherwise_than_the_runner_is_found(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.install(_Tiring(), monkeypatch)
    report = smoke.run(artifact)
    assert (failed(report), report.exit) == ("http", Exit.DIFFERS)
    assert report.misses


class _Tiring(TableRunner):
    """Right for as long as the suite takes in process, wrong afterwards."""

    def predict(self, batch: Mapping[str, IntArray]) -> Outputs:
        """The outputs, and after a while their opposite."""
        outputs = super().predict(batch)
        tired = len(self.shapes) > len(artifacts.PAYLOADS)
        return {name: -array if tired else array for name, array in outputs.items()}


def test_a_server_that_fails_is_found(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.install(_Breaking(), monkeypatch)
    report = smoke.run(artifact)
    assert (failed(report), report.exit) == ("http", Exit.DIFFERS)
    assert "/predict" in report.checks[-1].detail


class _Breaking(TableRunner):
    """Breaks where `_Tiring` gets tired."""

    def predict(self, batch: Mapping[str, IntArray]) -> Outputs:
        """The outputs, and after a while none."""
        if len(self.shapes) > len(artifacts.PAYLOADS):
            raise RuntimeError("it broke")
        return super().predict(batch)


def test_a_server_that_answers_no_vectors_is_found(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_post", lambda *_: {"data": []})
    model = smoke.checked(artifact, read_manifest(artifact), Settings(threads=1))
    assert isinstance(model, Loaded)
    figures = served.check_http(model, artifacts.reference(), "http://127.0.0.1")
    assert {miss.case for miss in compare.misses(figures, artifacts.BOUNDS)} == set(artifacts.PAYLOADS)


def test_vectors_of_tokens_are_held_to_the_reference_over_http_too(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.install(TableRunner(per_token=True), monkeypatch)
    artifacts.per_token(artifact)
    report = smoke.run(artifact)
    assert report.exit == Exit.PASS
    assert all(figures.max_abs_diff is not None for figures in report.http_figures)


# Against a service that runs already

KEY = "open sesame"


@pytest.fixture
def service(artifact: Path) -> Iterator[str]:
    """The artifact served to those who have the key."""
    manifest = read_manifest(artifact)
    chosen = Settings(threads=1, log_level="error", api_key=KEY)
    with server.running(manifest, chosen, lambda: smoke.checked(artifact, manifest, chosen)) as url:
        yield url


def test_a_service_that_answers_as_proved_passes(artifact: Path, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_API_KEY", KEY)
    report = smoke.run(artifact, url=service)
    assert (report.exit, len(report.http_figures)) == (Exit.PASS, len(artifacts.PAYLOADS))
    assert report.latency


def test_a_service_that_wants_another_key_is_a_failure(artifact: Path, service: str) -> None:
    report = smoke.run(artifact, url=service)
    assert (failed(report), report.exit) == ("http", Exit.DIFFERS)
    assert "401" in report.checks[-1].detail


def test_a_service_that_answers_otherwise_than_the_image_is_found(artifact: Path) -> None:
    manifest, other = read_manifest(artifact), serving.loaded(serving.manifest(), artifacts.Shifted(0.5))
    with server.running(manifest, smoke.SETTINGS, lambda: other) as url:
        report = smoke.run(artifact, url=url)
    assert (failed(report), report.exit) == ("http", Exit.DIFFERS)
    assert {miss.partition(":")[0] for miss in report.misses} == {f"input {name!r}" for name in artifacts.PAYLOADS}


def test_a_service_that_is_not_there_is_waited_for_and_then_a_failure() -> None:
    with pytest.raises(OutputsDifferError, match=r"^http://127\.0\.0\.1:9 is not ready after 0 s: .*refused"):
        served.await_ready("http://127.0.0.1:9", seconds=0)


# Before the server says ready


def checked(artifact: Path) -> object:
    return smoke.checked(artifact, read_manifest(artifact), Settings(threads=1))


def test_a_sound_artifact_is_loaded(artifact: Path) -> None:
    assert checked(artifact)


def test_a_damaged_artifact_is_not_served(artifact: Path) -> None:
    flip(artifact / "model.bin")
    with pytest.raises(ArtifactError):
        checked(artifact)


def test_an_artifact_of_another_machine_is_not_served(artifact: Path) -> None:
    artifacts.restate(artifact, architecture="s390x")
    with pytest.raises(CannotRunError):
        checked(artifact)


def test_outputs_that_differ_are_not_served(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.install(artifacts.Shifted(0.5), monkeypatch)
    with pytest.raises(OutputsDifferError, match=r"^input 'short': max_abs_diff"):
        checked(artifact)


def test_bounds_that_hold_nothing_are_not_served(artifact: Path) -> None:
    artifacts.restate(artifact, bounds=Bounds(agreement=1.0))
    with pytest.raises(ValueError, match="no bound of this mode holds any figure"):
        checked(artifact)
