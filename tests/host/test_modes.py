"""Which mode a build takes, by which exporter and with which of the target's own flags; what is refused, and how."""

import hashlib

import msgspec
import pytest

from images import modes
from images.errors import UsageError
from images.inside.records import Bounds, ExportJob
from images.spec import Option, TargetSpec
from tests.host import samples

# The mode


def test_the_first_mode_is_the_default() -> None:
    assert (samples.plan().mode, samples.plan().exporter) == ("none", "exact")


def test_the_mode_chooses_the_exporter() -> None:
    job = samples.plan(mode="int8")
    assert (job.exporter, job.args["EXPORTER"]) == ("small", "small")


def test_only_the_locks_that_are_needed_come_along() -> None:
    locks = [path for path in samples.plan(mode="int8").texts if "requirements" in path]
    assert locks == ["targets/some_cpu/requirements.small.txt", "targets/some_cpu/requirements.run.txt"]


def test_the_lock_of_the_exporter_that_records_the_original_comes_along() -> None:
    job = samples.plan(mode="int8", spec=samples.target(reference="exact"))
    locks = [path.rpartition("/")[2] for path in job.texts if "requirements" in path]
    assert locks == ["requirements.exact.txt", "requirements.small.txt", "requirements.run.txt"]


def test_the_export_is_told_what_it_will_be_held_to() -> None:
    assert samples.export_job(mode="int8") == ExportJob(
        target="some-cpu", exporter="small", mode="int8", bounds=Bounds(agreement=0.9)
    )


def test_a_mode_that_the_task_does_not_have_is_answered_with_those_it_has() -> None:
    with pytest.raises(UsageError, match=r"no quantisation mode 'int2' for fill-mask\n  -> its modes are: none, int8"):
        samples.plan(mode="int2", task="fill-mask")


def test_a_mode_that_no_task_has_is_refused_before_the_model_is_known() -> None:
    with pytest.raises(UsageError, match=r"some-cpu has no quantisation mode 'int2'\n  -> its modes are: none, int8"):
        modes.require(samples.target(), "int2")


def test_a_mode_that_the_target_refuses_is_answered_with_the_reason() -> None:
    target = samples.target(refused={"int2": "it gives garbage"})
    with pytest.raises(UsageError, match=r"some-cpu refuses 'int2': it gives garbage\n  -> its modes are: none, int8"):
        modes.require(target, "int2")


def test_a_task_without_a_mode_named_gets_its_own_default() -> None:
    quick = msgspec.structs.replace(samples.mode("int8", "small", agreement=0.9), tasks=("fill-mask",))
    target = samples.target(modes=(quick, *samples.target().modes))
    assert modes.choose(target, "fill-mask", "").name == "int8"
    assert modes.choose(target, "text-classification", "").name == "none"


def test_an_exporter_that_is_named_makes_the_mode() -> None:
    other = samples.mode("none", "other", agreement=1.0)
    target = samples.target(modes=(*samples.target().modes, other))
    assert modes.choose(target, "fill-mask", "").exporter == "exact"
    assert modes.choose(target, "fill-mask", "none", "other").exporter == "other"


def test_an_exporter_without_the_mode_is_answered_with_its_modes() -> None:
    with pytest.raises(UsageError, match=r"'none' for fill-mask by small\n  -> its modes are: int8"):
        samples.plan(mode="none", exporter="small", task="fill-mask")


def test_an_exporter_that_the_task_does_not_have_is_answered_with_those_it_has() -> None:
    with pytest.raises(UsageError, match=r"no exporter 'tf' for fill-mask\n  -> its exporters are: exact, small"):
        samples.plan(exporter="tf", task="fill-mask")


def test_the_name_of_an_image_tells_an_exporter_that_is_not_the_usual_one() -> None:
    other = samples.mode("none", "other_one", agreement=1.0)
    target = samples.target(modes=(*samples.target().modes, other))
    locks = {**samples.LOCKS, "other_one": b"d==1\n"}
    assert samples.plan(spec=target, exporter="other_one", locks=locks).tag == "modelyard/tiny-model:some-cpu-other-one"


# The target's own flags


OPTIONS = {
    "seq-len": Option(summary="lengths, such as 32,64", pattern=r"\d+(,\d+)*", caps_length=True),
    "fixed": Option(summary="one shape only", default=False),
}


@pytest.mark.parametrize(("given", "mounted"), [({}, False), ({"weights": "mounted"}, True)])
def test_a_flag_keeps_the_models_weights_out_of_the_image(given: dict[str, str], mounted: bool) -> None:
    assert samples.plan(spec=samples.target(options=samples.WEIGHTS), extra=given).mounts_model == mounted


def test_a_switch_that_is_off_mounts_nothing() -> None:
    assert not samples.plan(spec=samples.target(options=OPTIONS)).mounts_model


def test_the_original_answers_in_the_targets_number_format() -> None:
    assert samples.source_job(spec=samples.target(dtype="auto")).dtype == "auto"


def test_the_export_is_told_the_targets_own_flags_with_their_defaults() -> None:
    assert samples.export_job(spec=samples.target(options=OPTIONS), extra={"fixed": True}).options == {
        "seq-len": "",
        "fixed": True,
    }


CALIBRATED = {"texts": Option(summary="texts to measure with", requests=True)}


def calibrated() -> TargetSpec:
    """A target whose second mode measures texts."""
    exact, small = samples.target().modes
    return samples.target(options=CALIBRATED, modes=(exact, msgspec.structs.replace(small, needs=("texts",))))


def test_a_file_of_requests_comes_along_and_the_export_is_told_its_digest() -> None:
    content = b"{}\n"
    job = samples.plan(spec=calibrated(), mode="int8", extra={"texts": "a.jsonl"}, requests={"texts": content})
    told = msgspec.json.decode(job.texts["job/export/export.json"], type=ExportJob).options
    assert job.texts["job/export/texts.jsonl"] == content
    assert told == {"texts": f"sha256:{hashlib.sha256(content).hexdigest()}"}


def test_where_a_file_lies_changes_nothing() -> None:
    plans = [
        samples.plan(spec=calibrated(), mode="int8", extra={"texts": name}, requests={"texts": b"{}\n"}).digest
        for name in ("a.jsonl", "b.jsonl")
    ]
    assert plans[0] == plans[1]


def test_a_mode_without_the_flag_that_it_needs_is_refused_before_any_model_is_known() -> None:
    with pytest.raises(UsageError, match=r"int8 of some-cpu needs --texts\n  -> texts to measure with"):
        modes.require(calibrated(), "int8")


def test_a_mode_without_the_flag_that_it_needs_is_refused_when_it_is_the_default() -> None:
    only = calibrated()
    with pytest.raises(UsageError, match="int8 of some-cpu needs --texts"):
        samples.plan(spec=msgspec.structs.replace(only, modes=only.modes[1:]))


def test_a_flag_that_the_mode_does_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--texts changes nothing in none of some-cpu\n  -> leave .* --quantize int8"):
        samples.plan(spec=calibrated(), extra={"texts": "a.jsonl"}, requests={"texts": b"{}\n"})


def test_a_flag_of_another_target_is_answered_with_those_it_takes() -> None:
    with pytest.raises(UsageError, match=r"some-cpu takes no --shape\n  -> its own flags: --seq-len, --fixed"):
        samples.plan(spec=samples.target(options=OPTIONS), extra={"shape": "1"})


def test_a_value_that_a_flag_does_not_take_is_answered_with_what_it_takes() -> None:
    with pytest.raises(UsageError, match=r"--seq-len 'long' is not what it takes\n  -> lengths, such as 32,64"):
        samples.plan(spec=samples.target(options=OPTIONS), extra={"seq-len": "long"})


@pytest.mark.parametrize(("asked", "cap"), [(0, 2048), (4096, 4096), (8, 8)])
def test_a_targets_own_cap_holds_unless_another_is_asked_for(asked: int, cap: int) -> None:
    assert samples.source_job(spec=samples.target(max_length=2048), max_length=asked).max_length == cap


def test_the_longest_compiled_length_caps_the_input() -> None:
    assert samples.source_job(spec=samples.target(options=OPTIONS), extra={"seq-len": "32,128,64"}).max_length == 128


def test_the_least_cap_counts() -> None:
    capped = samples.target(options=OPTIONS)
    assert samples.source_job(spec=capped, extra={"seq-len": "32,128"}, max_length=64).max_length == 64
