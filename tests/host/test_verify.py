from pathlib import Path

import msgspec
import pytest

from images import verify
from images.engine import HARDENED
from images.errors import EngineError, GateError, ImageError, MachineError
from images.inside.errors import Exit
from images.inside.report import Check, Report
from tests.host import samples
from tests.host.samples import FakeEngine


def failure(report: Report) -> ImageError:
    error = verify.failure(report)
    assert error
    return error


# Running it


def test_the_image_proves_itself_hardened_and_without_network() -> None:
    machine = samples.engine()
    verify.run(machine, "sha256:1")
    assert machine.asked == [f"run --network=none {' '.join(HARDENED)} sha256:1 smoke-test --json"]


def test_hardened_means_no_writable_root_no_root_user_and_no_capability() -> None:
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"} < set(HARDENED)
    assert "--user=12345" in HARDENED


def test_the_image_is_told_its_device_and_where_its_weights_are(tmp_path: Path) -> None:
    machine = samples.engine()
    verify.run(machine, "sha256:1", device="cpu", weights=tmp_path)
    assert f" --env=MODELYARD_DEVICE=cpu --volume={tmp_path}:/weights:ro " in machine.asked[-1]


@pytest.mark.parametrize("report", [samples.report(), samples.failed()])
def test_the_report_is_what_the_image_printed(report: Report) -> None:
    assert verify.run(samples.engine(report), "sha256:1") == report


def test_an_image_that_ends_without_a_report_shows_why() -> None:
    with pytest.raises(EngineError, match="ended with exit code 1 and no report:\nit broke"):
        verify.run(FakeEngine(), "sha256:1")


def test_a_report_of_another_form_is_no_report() -> None:
    machine = FakeEngine(answers={"smoke-test": '{"exit": 0, "all": "fine"}'})
    with pytest.raises(EngineError, match="and no report"):
        verify.run(machine, "sha256:1")


# What a report means


def test_a_report_of_a_pass_is_no_error() -> None:
    assert verify.failure(samples.report()) is None


def test_outputs_that_differ_are_a_failed_gate_that_names_the_check_and_the_misses() -> None:
    error = failure(samples.failed(misses=["input 'a': cosine 0.1 is below the bound 0.9"]))
    assert (type(error), error.what) == (
        GateError,
        "the artifact does not reproduce the original model (reference): input 'a': cosine 0.1 is below the bound 0.9",
    )


def test_of_many_misses_three_are_shown() -> None:
    assert failure(samples.failed(misses=["a", "b", "c", "d"])).what.endswith("(reference): a; b; c")


def test_a_failure_without_a_miss_shows_what_the_check_said() -> None:
    assert failure(samples.failed("http", "POST /predict: HTTP Error 500")).what.endswith(
        "(http): POST /predict: HTTP Error 500"
    )


def test_a_machine_that_is_too_small_is_no_failed_gate() -> None:
    error = failure(samples.failed("hardware", "512 MiB of memory are needed", exit=Exit.CANNOT_RUN))
    assert (type(error), error.what) == (
        MachineError,
        "this machine cannot run the image: 512 MiB of memory are needed",
    )


def test_a_damaged_artifact_is_a_failed_gate_that_says_so() -> None:
    error = failure(samples.failed("files", "missing: model.onnx", exit=Exit.DAMAGED))
    assert (type(error), error.what) == (GateError, "the artifact is damaged: missing: model.onnx")


@pytest.mark.parametrize("code", [1, 2, 3, 137])
def test_a_report_that_does_not_say_what_failed_is_no_pass(code: int) -> None:
    assert isinstance(verify.failure(samples.report(exit=code)), GateError)


def test_a_report_with_a_failed_check_is_no_pass_whatever_its_exit_code() -> None:
    assert isinstance(verify.failure(samples.failed(exit=0)), GateError)


def test_every_failure_says_what_to_do() -> None:
    assert all(failure(samples.failed(exit=code)).hint for code in Exit if code)


def test_a_report_survives_its_json() -> None:
    report = samples.report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    assert isinstance(report.checks[0], Check)


# Accepting a failed gate


def test_an_override_accepts_outputs_that_differ() -> None:
    verify.hold(samples.failed(), override=True)


def test_without_an_override_they_are_an_error() -> None:
    with pytest.raises(GateError):
        verify.hold(samples.failed(), override=False)


@pytest.mark.parametrize(("code", "kind"), [(Exit.DAMAGED, GateError), (Exit.CANNOT_RUN, MachineError)])
def test_an_override_accepts_nothing_else(code: Exit, kind: type[ImageError]) -> None:
    with pytest.raises(kind):
        verify.hold(msgspec.structs.replace(samples.failed(), exit=code), override=True)
