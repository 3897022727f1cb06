import json
from typing import Any

import pytest

from images import attest, record
from images.inside.records import ModelFacts
from images.record import Record
from tests.host import samples

DIGEST = f"sha256:{'a' * 64}"
PASSED = {"gate": "passed"}
IMAGE = samples.record().image
OVERRIDDEN = samples.record(
    verdict=samples.failed(exit=1), override=record.Override(reason="ticket 7", misses=["a miss"])
)


def dependencies(known: Record) -> dict[str, Any]:
    made = attest.provenance(known)["buildDefinition"]["resolvedDependencies"]
    return {each["name"]: each for each in made}


def test_a_statement_is_about_its_digest_and_no_other() -> None:
    made = json.loads(attest.statement("reg.example/m", DIGEST, "verdict", {}))
    assert attest.is_about(made, DIGEST)
    assert not attest.is_about(made, DIGEST.replace("a", "b"))


@pytest.mark.parametrize("found", [{}, {"subject": []}, {"subject": {}}, {"subject": [{"digest": {}}]}])
def test_a_statement_without_a_subject_is_about_nothing(found: dict[str, Any]) -> None:
    assert not attest.is_about(found, DIGEST)


@pytest.mark.parametrize(
    ("labels", "known", "why"),
    [
        (PASSED, samples.record(), ""),
        ({}, samples.record(), "it carries no passed gate"),
        (PASSED, None, "no record of its verification"),
        (PASSED, samples.record(image="sha256:other"), "the record is of another image"),
        (PASSED, samples.record(verdict=samples.failed()), "the record says that the gate failed"),
        ({"gate": "overridden"}, OVERRIDDEN, "its gate failed and was overridden: ticket 7"),
        ({"gate": "overridden"}, None, "its gate failed and was overridden"),
    ],
)
def test_what_an_image_lacks_to_be_verified(labels: dict[str, str], known: Record | None, why: str) -> None:
    assert attest.missing(IMAGE, labels, known).startswith(why)
    assert bool(attest.missing(IMAGE, labels, known)) == bool(why)


def test_a_verdict_passes_with_the_record_of_the_image() -> None:
    made = attest.verdict(IMAGE, PASSED, samples.record())
    assert (made["passed"], made["unverified"], made["record"]["image"]) == (True, "", IMAGE)


def test_a_verdict_on_an_unverified_image_says_why() -> None:
    made = attest.verdict(IMAGE, {}, None)
    assert (made["passed"], made["record"]) == (False, None)
    assert made["unverified"]


def test_a_verdict_does_not_carry_another_images_record() -> None:
    assert attest.verdict(IMAGE, PASSED, samples.record(image="sha256:other"))["record"] is None


def test_a_verdict_does_not_change_with_where_the_image_went() -> None:
    push = record.Pushed(reference="a.b/c:1", digest=DIGEST, at="now", unverified=False, attached={})
    known = samples.record()
    assert attest.verdict(IMAGE, PASSED, record.with_push(known, push)) == attest.verdict(IMAGE, PASSED, known)


def test_provenance_names_what_went_in_by_digest() -> None:
    known = samples.record(wheels={"exact": {"torch==2.0+cpu": "1" * 64}, "run": {"numpy==2.0": "2" * 64}})
    found = dependencies(known)
    assert found["model file config.json"]["digest"] == {"sha256": "0" * 64}
    assert found["runtime base"]["digest"] == {"sha256": "r1"}
    assert found["exact wheel torch==2.0+cpu"]["uri"] == "pkg:pypi/torch@2.0%2Bcpu"
    assert found["run wheel numpy==2.0"]["digest"] == {"sha256": "2" * 64}


@pytest.mark.parametrize(
    ("source", "revision", "uri"),
    [("hub", "c0ffee", "pkg:huggingface/a/b@c0ffee"), ("pypi", "1.0", "pkg:pypi/a/b@1.0"), ("folder", "", None)],
)
def test_a_model_is_named_where_it_can_be_fetched(source: str, revision: str, uri: str | None) -> None:
    model = ModelFacts(id="a/b", source=source, revision=revision, digest="sha256:4d")
    assert dependencies(samples.record(info=samples.info(model=model)))["model a/b"].get("uri") == uri


@pytest.mark.parametrize(
    ("revision", "name"), [("c0ffee", "modelyard"), ("c0ffee-dirty", "modelyard (with local changes)")]
)
def test_the_projects_own_commit_is_named_with_local_changes(revision: str, name: str) -> None:
    assert dependencies(samples.record(revision=revision))[name]["digest"] == {"gitCommit": "c0ffee"}


def test_a_commit_that_is_not_known_is_not_named() -> None:
    assert not [name for name in dependencies(samples.record()) if name.startswith("modelyard")]
