import re
from typing import Any

import msgspec
import pytest

from images import plan as planning
from images.errors import UsageError
from images.inside.records import SourceJob
from images.plan import LABEL
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


# The options


def test_the_builder_is_told_the_model_and_the_task() -> None:
    assert samples.source_job() == SourceJob(model=MODEL, task="text-classification")


def test_the_users_suite_comes_along_and_is_named() -> None:
    job = samples.plan(suite=b"{}\n")
    assert (job.texts["job/source/suite.jsonl"], samples.source_job(suite=b"{}\n").suite) == (b"{}\n", "suite.jsonl")


def test_without_a_suite_none_is_named() -> None:
    assert "job/source/suite.jsonl" not in samples.plan().texts


def test_the_builder_is_told_of_every_option() -> None:
    job = samples.source_job(**VECTORS, pooling="cls", max_length=8, trust_remote_code=True, allow_pickle=True)
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
    spec = samples.target(options=samples.WEIGHTS, gpu=True)
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
