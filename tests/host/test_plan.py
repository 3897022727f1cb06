import hashlib
import re
from typing import Any

import msgspec
import pytest

from images import plan as planning
from images.errors import UsageError
from images.inside.records import Bounds, ExportJob, SourceJob
from images.plan import LABEL
from images.spec import Option, TargetSpec
from tests.host import samples
from tests.host.samples import BASES, CODE, LOCKS, MODEL

USUAL = samples.plan().digest
VECTORS: dict[str, Any] = {
    "spec": samples.target(
        modes=(msgspec.structs.replace(samples.mode("none", "exact", cosine=1.0), tasks=("feature-extraction",)),)
    ),
    "task": "feature-extraction",
}
"""A build that makes vectors of texts."""


def source(**options: Any) -> SourceJob:
    return msgspec.json.decode(samples.plan(**options).texts["job/source/source.json"], type=SourceJob)


def export(**options: Any) -> ExportJob:
    return msgspec.json.decode(samples.plan(**options).texts["job/export/export.json"], type=ExportJob)


# The digest


def test_an_image_for_gpus_is_labelled_with_the_resource_that_it_wants() -> None:
    job = samples.plan(spec=samples.target(gpu=True))
    assert planning.labels(job, {}, samples.CREATED)["dev.modelyard.gpu"] == "nvidia.com/gpu"
    assert "dev.modelyard.gpu" not in planning.labels(samples.plan(), {}, samples.CREATED)


def test_equal_inputs_make_equal_plans() -> None:
    assert samples.plan() == samples.plan()


@pytest.mark.parametrize(
    "change",
    [
        {"model": msgspec.structs.replace(MODEL, digest="sha256:other")},
        {"model": msgspec.structs.replace(MODEL, revision="other")},
        {"task": "fill-mask"},
        {"mode": "int8"},
        {"suite": b'{"inputs": "mine"}\n'},
        {"max_length": 8},
        {"allow_pickle": True},
        {"trust_remote_code": True},
        {"dockerfile": "FROM scratch\nUSER 1\n"},
        {"code": CODE | {"targets/some_cpu/run.py": b"run = 2\n"}},
        {"code": CODE | {"images/inside/new.py": b""}},
        {"locks": LOCKS | {"exact": b"a==2\n"}},
        {"locks": LOCKS | {"run": b"c==2\n"}},
        {"bases": BASES | {"builder": ("localhost/builder:1", "sha256:other")}},
        {"bases": BASES | {"runtime": ("localhost/runtime:1", "sha256:other")}},
        {"spec": samples.target(modes=(samples.mode("none", "exact", max_abs_diff=1e-3),))},
        {"spec": samples.target(name="other-cpu")},
    ],
    ids=str,
)
def test_whatever_decides_the_image_changes_the_digest(change: dict[str, Any]) -> None:
    assert samples.plan(**change).digest != USUAL


def test_pooling_changes_the_digest() -> None:
    one, other = (samples.plan(**VECTORS, pooling=pooling).digest for pooling in ("cls", "mean"))
    assert one != other


@pytest.mark.parametrize(
    "change",
    [
        {"tag": "reg.example/mine:1"},
        {"override": "known"},
        {"mode": "none"},
        {"locks": LOCKS | {"small": b"b==2\n"}},
        {"code": dict(reversed(CODE.items()))},
        {"bases": BASES | {"runtime": ("localhost/renamed:1", "sha256:r1")}},
        {"spec": samples.target(summary="in other words")},
    ],
    ids=str,
)
def test_what_does_not_decide_the_image_leaves_the_digest(change: dict[str, Any]) -> None:
    assert samples.plan(**change).digest == USUAL


def test_the_digest_says_how_it_was_made() -> None:
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", USUAL)


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
    assert export(mode="int8") == ExportJob(
        target="some-cpu", exporter="small", mode="int8", bounds=Bounds(agreement=0.9)
    )


def test_a_mode_that_the_task_does_not_have_is_answered_with_those_it_has() -> None:
    with pytest.raises(UsageError, match=r"no quantisation mode 'int2' for fill-mask\n  -> its modes are: none, int8"):
        samples.plan(mode="int2", task="fill-mask")


def test_a_mode_that_no_task_has_is_refused_before_the_model_is_known() -> None:
    with pytest.raises(UsageError, match=r"some-cpu has no quantisation mode 'int2'\n  -> its modes are: none, int8"):
        planning.require_mode(samples.target(), "int2")


def test_a_mode_that_the_target_refuses_is_answered_with_the_reason() -> None:
    target = samples.target(refused={"int2": "it gives garbage"})
    with pytest.raises(UsageError, match=r"some-cpu refuses 'int2': it gives garbage\n  -> its modes are: none, int8"):
        planning.require_mode(target, "int2")


def test_a_task_without_a_mode_named_gets_its_own_default() -> None:
    quick = msgspec.structs.replace(samples.mode("int8", "small", agreement=0.9), tasks=("fill-mask",))
    target = samples.target(modes=(quick, *samples.target().modes))
    assert planning.choose_mode(target, "fill-mask", "").name == "int8"
    assert planning.choose_mode(target, "text-classification", "").name == "none"


def test_an_exporter_that_is_named_makes_the_mode() -> None:
    other = samples.mode("none", "other", agreement=1.0)
    target = samples.target(modes=(*samples.target().modes, other))
    assert planning.choose_mode(target, "fill-mask", "").exporter == "exact"
    assert planning.choose_mode(target, "fill-mask", "none", "other").exporter == "other"


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
WEIGHTS = {"weights": Option(summary="baked or mounted", default="baked", mounts_model="mounted")}


@pytest.mark.parametrize(("given", "mounted"), [({}, False), ({"weights": "mounted"}, True)])
def test_a_flag_keeps_the_models_weights_out_of_the_image(given: dict[str, str], mounted: bool) -> None:
    assert samples.plan(spec=samples.target(options=WEIGHTS), extra=given).mounts_model == mounted


def test_a_switch_that_is_off_mounts_nothing() -> None:
    assert not samples.plan(spec=samples.target(options=OPTIONS)).mounts_model


def test_the_original_answers_in_the_targets_number_format() -> None:
    assert source(spec=samples.target(dtype="auto")).dtype == "auto"


def test_the_export_is_told_the_targets_own_flags_with_their_defaults() -> None:
    assert export(spec=samples.target(options=OPTIONS), extra={"fixed": True}).options == {"seq-len": "", "fixed": True}


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
        planning.require_mode(calibrated(), "int8")


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
    assert source(spec=samples.target(max_length=2048), max_length=asked).max_length == cap


def test_the_longest_compiled_length_caps_the_input() -> None:
    assert source(spec=samples.target(options=OPTIONS), extra={"seq-len": "32,128,64"}).max_length == 128


def test_the_least_cap_counts() -> None:
    capped = samples.target(options=OPTIONS)
    assert source(spec=capped, extra={"seq-len": "32,128"}, max_length=64).max_length == 64


# The options


def test_the_builder_is_told_the_model_and_the_task() -> None:
    assert source() == SourceJob(model=MODEL, task="text-classification")


def test_the_users_suite_comes_along_and_is_named() -> None:
    job = samples.plan(suite=b"{}\n")
    assert (job.texts["job/source/suite.jsonl"], source(suite=b"{}\n").suite) == (b"{}\n", "suite.jsonl")


def test_without_a_suite_none_is_named() -> None:
    assert "job/source/suite.jsonl" not in samples.plan().texts


def test_the_builder_is_told_of_every_option() -> None:
    job = source(**VECTORS, pooling="cls", max_length=8, trust_remote_code=True, allow_pickle=True)
    assert (job.pooling, job.max_length, job.trust_remote_code, job.allow_pickle) == ("cls", 8, True, True)


def test_an_unknown_pooling_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no pooling 'median'\n  -> the poolings are: mean, cls"):
        samples.plan(pooling="median")


def test_pooling_is_for_vectors_only() -> None:
    with pytest.raises(UsageError, match="is for feature-extraction, and this build is for text-classification"):
        samples.plan(task="text-classification", pooling="mean")


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(UsageError, match="-5 is no length"):
        samples.plan(max_length=-5)


def test_bases_are_passed_by_name_and_kept_by_digest() -> None:
    job = samples.plan()
    assert (job.args["RUNTIME_BASE"], job.bases["runtime"]) == BASES["runtime"]


# The tag


@pytest.mark.parametrize(
    ("identity", "mode", "tag"),
    [
        ("acme/Tiny_Model", "none", "modelyard/tiny-model:some-cpu"),
        ("acme/Tiny_Model", "int8", "modelyard/tiny-model:some-cpu-int8"),
        ("plain", "none", "modelyard/plain:some-cpu"),
        ("a/..x..", "none", "modelyard/x:some-cpu"),
        ("a/日本", "none", "modelyard/model:some-cpu"),
    ],
)
def test_the_default_tag_is_made_of_model_target_and_mode(identity: str, mode: str, tag: str) -> None:
    assert samples.plan(model=msgspec.structs.replace(MODEL, id=identity), mode=mode).tag == tag


@pytest.mark.parametrize("identity", ["acme/Tiny_Model", "a/..x..", "a/日本", "x__y", "UPPER", "a/-", "v1.0"])
def test_the_default_tag_is_a_valid_reference(identity: str) -> None:
    tag = samples.plan(model=msgspec.structs.replace(MODEL, id=identity)).tag
    assert planning.reference(tag) == tag


@pytest.mark.parametrize(
    "tag",
    [
        "name:tag",
        "team/name:1.0_x-y",
        "localhost/name:t",
        "localhost:5000/name:t",
        "reg.example/team/name:t",
        "Reg.Example:5000/a/b/c:T",
        "127.0.0.1:5000/x:t",
        "x__y/a.b-c--d:t",
    ],
)
def test_a_reference_with_a_tag_is_taken_as_it_is(tag: str) -> None:
    assert samples.plan(tag=tag).tag == tag


def test_a_reference_without_a_tag_is_the_latest() -> None:
    assert samples.plan(tag="localhost:5000/name").tag == "localhost:5000/name:latest"


@pytest.mark.parametrize(
    "tag",
    [
        *("Name", "Team/name", "a b", "a:", ":t", "/a", "a/", "a//b", "./a", "-/a", "a___b", "a.-b", "a\n"),
        *(
            "name:ünï",
            "name:.t",
            "name:-t",
            f"name:{'t' * 129}",
            "name@sha256:0",
            f"{'n' * 256}:t",
            "--all",
            "http://a/b",
        ),
    ],
)
def test_what_no_engine_takes_for_a_name_is_refused_before_the_build(tag: str) -> None:
    with pytest.raises(UsageError, match="is not an image reference\n  -> it looks like"):
        samples.plan(tag=tag)


# Labels


def test_labels_say_what_is_in_the_image_and_where_it_came_from() -> None:
    labels = planning.labels(samples.plan(mode="int8"), {"gate": "passed"}, samples.CREATED)
    assert {key.removeprefix(f"{LABEL}."): value for key, value in labels.items() if key.startswith(LABEL)} == {
        "schema": "1",
        "plan": samples.plan(mode="int8").digest,
        "target": "some-cpu",
        "task": "text-classification",
        "mode": "int8",
        "exporter": "small",
        "model.id": "acme/Tiny_Model",
        "model.source": "hub",
        "model.revision": "c0ffee",
        "model.digest": "sha256:4d0de1",
        "gate": "passed",
    }


def test_labels_say_what_a_machine_must_give() -> None:
    spec = samples.target(options=WEIGHTS, gpu=True)
    labels = planning.labels(samples.plan(spec=spec, extra={"weights": "mounted"}), {}, samples.CREATED)
    assert (labels[f"{LABEL}.gpu"], labels[f"{LABEL}.weights"]) == ("nvidia.com/gpu", "/weights")


def test_labels_follow_the_oci_specification_too() -> None:
    labels = planning.labels(samples.plan(), {}, samples.CREATED)
    oci = {key.rpartition("image.")[2]: value for key, value in labels.items() if key.startswith("org.opencontainers")}
    assert oci == {
        "title": "acme/Tiny_Model on some-cpu",
        "description": "text-classification (none), verified by Modelyard",
        "created": samples.CREATED,
        "version": "c0ffee",
        "base.name": "localhost/runtime:1",
        "base.digest": "sha256:r1",
    }


def test_a_model_without_a_revision_has_its_digest_for_a_version() -> None:
    job = samples.plan(model=msgspec.structs.replace(MODEL, source="folder", revision=""))
    labels = planning.labels(job, {}, samples.CREATED)
    assert labels["org.opencontainers.image.version"] == "sha256:4d0de1"
