"""What a registry knows of an image, read from it alone; and whether it holds against a public key."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from images import attest, sign
from images.attest import KINDS
from images.engine import Engine
from images.errors import TrustError
from images.inside.records import Struct
from images.oci import Layer, Manifest, as_object
from images.progress import Progress
from images.push import cosign_tag, labels
from images.registry import NotThereError, Repository, require_there
from images.remote import Remote
from images.sign import ENVELOPE, SIGNATURE, STATEMENT, PublicKey

Json = dict[str, Any]


class Attachment(Struct, kw_only=True):
    """A statement about an image, as the registry has it; whether its signature holds is not looked at.

    Attributes:
        kind: `sbom`, `verdict`, `provenance`, or the type of a predicate that is not ours.
        digest: of the artifact that carries it.
        signed: whether it is in a signed envelope.
        statement: the in-toto statement.

    """

    kind: str
    digest: str
    signed: bool
    statement: Json


class Known(Struct, kw_only=True):
    """What the registry knows of an image.

    Attributes:
        reference: the image by digest.
        image: its id: the digest of its configuration.
        size: compressed bytes of its layers.
        labels: all of them.
        signatures: how many signatures it carries.

    """

    reference: str
    digest: str
    image: str
    created: str
    platform: str
    layers: int
    size: int
    labels: dict[str, str]
    signatures: int
    attached: list[Attachment]


class Check(Struct, kw_only=True):
    """One thing that was checked, and what was found."""

    name: str
    passed: bool
    detail: str


class Verified(Struct, kw_only=True):
    """All checks of an image against a key.

    Attributes:
        reference: the image by digest.
        key: the key's id.

    """

    reference: str
    key: str
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether all of them did."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image in a registry: the manifest that its name stands for, its own, and its configuration."""

    top: Manifest
    own: Manifest
    configuration: Json

    @property
    def labels(self) -> dict[str, str]:
        """All labels."""
        found = (self.configuration.get("config") or {}).get("Labels") or {}
        return {str(key): str(value) for key, value in found.items()}


def find(repository: Repository) -> Image:
    """The image that the repository's reference names. Raises `UsageError` when there is none."""
    where = repository.where
    try:
        top = repository.manifest(where.digest or where.tag or "latest")
        own = _own(repository, top)
        return Image(top=top, own=own, configuration=as_object(repository.blob(own.configuration), "an image"))
    except NotThereError as error:
        raise require_there(where, error) from error


def inspect(where: Remote, *, plain_http: bool = False) -> Known:
    """What the registry knows of an image; no layer is read. Raises as `Repository` does."""
    with Repository(where, plain_http=plain_http) as repository:
        image = find(repository)
        layers = image.own.pointers("layers")
        return Known(
            reference=str(where.at(image.top.digest)),
            digest=image.top.digest,
            image=image.own.configuration,
            created=str(image.configuration.get("created", "")),
            platform=f"{image.configuration.get('os')}/{image.configuration.get('architecture')}",
            layers=len(layers),
            size=sum(layer.size for layer in layers),
            labels=image.labels,
            signatures=len(repository.documents(cosign_tag(image.top.digest, "sig"))),
            attached=list(_attached(repository, image.top.digest)),
        )


def verify(where: Remote, key: PublicKey, *, plain_http: bool = False) -> Verified:
    """Check an image's signature, what is attested of it, and its verdict, against a key.

    Raises as `Repository` does; what does not hold is in the checks.
    """
    with Repository(where, plain_http=plain_http) as repository:
        image = find(repository)
        envelopes = list(_envelopes(repository, image.top.digest))
        signature = _signature(repository, image.top.digest, key)
    found = {kind: _attested(envelopes, kind, image.top.digest, key) for kind in KINDS}
    checks = [signature, *(check for check, _ in found.values()), _verdict(image, found["verdict"][1])]
    return Verified(reference=str(where.at(image.top.digest)), key=key.id, checks=checks)


def pull(
    where: Remote, key: PublicKey | None, machine: Engine, progress: Progress, *, plain_http: bool = False
) -> Known:
    """Bring an image to the engine by its digest, once it holds against the key if there is one.

    Raises as `Repository` and `Engine.pull` do; `TrustError` when the image does not hold, or another one arrived.
    """
    progress.step(f"asking {where.host} for {where}")
    known = inspect(where, plain_http=plain_http)
    exact = where.at(known.digest)
    if key and (error := failure(verify(exact, key, plain_http=plain_http))):
        raise error
    progress.step(f"pulling {exact}")
    machine.pull(str(exact), progress.detail, plain_http=plain_http or where.is_near)
    arrived = machine.image(str(exact))
    if arrived is None or arrived.id not in {known.image, known.digest}:
        raise TrustError(f"the engine has {arrived and arrived.id} for {exact}", "remove it there and pull again")
    return known


def failure(verified: Verified) -> TrustError | None:
    """The error that failed checks stand for; None when all passed."""
    failed = [f"{check.name}: {check.detail}" for check in verified.checks if not check.passed]
    if not failed:
        return None
    return TrustError(
        f"{verified.reference} does not hold against the key {verified.key}:\n  " + "\n  ".join(failed),
        "do not deploy it; push it again with `invoke push --sign-key` if it is yours",
    )


def _own(repository: Repository, top: Manifest) -> Manifest:
    """The image's own manifest: the only one of a list that is for a platform."""
    entries = [entry for entry in top.pointers("manifests") if entry.platform and entry.platform.get("os") != "unknown"]
    if not entries:
        return top
    if len(entries) > 1:
        raise TrustError(f"{repository.where} is a list of {len(entries)} images", "name one of them by its digest")
    return repository.manifest(entries[0].digest)


def _attached(repository: Repository, digest: str) -> Iterator[Attachment]:
    for entry in repository.referrers(digest):
        if entry.artifact_type in {ENVELOPE, STATEMENT}:
            for layer in repository.documents(entry.digest):
                yield _attachment(entry.digest, layer)


def _attachment(digest: str, layer: Layer) -> Attachment:
    signed = layer.media_type == ENVELOPE
    statement = sign.unopened(layer.content) if signed else as_object(layer.content, "a statement")
    names = {predicate: kind for kind, predicate in KINDS.items()}
    predicate = str(statement.get("predicateType", ""))
    return Attachment(kind=names.get(predicate, predicate), digest=digest, signed=signed, statement=statement)


def _envelopes(repository: Repository, digest: str) -> Iterator[Layer]:
    """Everything attached to a digest that may hold a statement: by the registry's list, and where cosign looks."""
    seen = set()
    attached = [entry.digest for entry in repository.referrers(digest) if entry.artifact_type in {ENVELOPE, STATEMENT}]
    for artifact in [*attached, cosign_tag(digest, "att")]:
        for layer in repository.documents(artifact):
            if layer.content not in seen:
                seen.add(layer.content)
                yield layer


def _signature(repository: Repository, digest: str, key: PublicKey) -> Check:
    layers = repository.documents(cosign_tag(digest, "sig"))
    by_key = [
        layer for layer in layers if key.verifies(sign.decoded(layer.annotations.get(SIGNATURE, "")), layer.content)
    ]
    if not layers:
        return Check(name="signature", passed=False, detail="there is none")
    if not by_key:
        return Check(name="signature", passed=False, detail=f"none of {len(layers)} is by this key")
    about = {sign.payload_digest(layer.content) for layer in by_key}
    if digest not in about:
        return Check(name="signature", passed=False, detail=f"by this key, but over {', '.join(sorted(about))}")
    return Check(name="signature", passed=True, detail=f"by this key, over {digest}")


def _attested(layers: list[Layer], kind: str, digest: str, key: PublicKey) -> tuple[Check, list[Json]]:
    """Whether a statement of that kind holds, with all of that kind that do."""
    opened = [sign.opened(layer.content, key) for layer in layers if layer.media_type == ENVELOPE]
    ours = [each for each in opened if each.statement.get("predicateType") == KINDS[kind]]
    signed = [each.statement for each in ours if each.signed]
    about = [statement for statement in signed if attest.is_about(statement, digest)]
    broken = [each for each in ours if each.claims and not each.signed]
    if broken:
        return Check(name=kind, passed=False, detail="names this key, and was changed after it was signed"), []
    if not ours:
        bare = any(_kind(layer) == KINDS[kind] for layer in layers if layer.media_type == STATEMENT)
        return Check(name=kind, passed=False, detail="is not signed" if bare else "is not attached"), []
    if not signed:
        return Check(name=kind, passed=False, detail="is not signed by this key"), []
    if not about:
        return Check(name=kind, passed=False, detail="is signed by this key, but about another image"), []
    return Check(name=kind, passed=True, detail="signed by this key, about this digest"), about


def _kind(layer: Layer) -> object:
    return as_object(layer.content, "a statement").get("predicateType")


def _verdict(image: Image, statements: list[Json]) -> Check:
    """Whether one of the verdicts that hold says that this image's gate passed, and so does the image."""
    predicates = [each["predicate"] for each in statements if isinstance(each.get("predicate"), dict)]
    own = [each for each in predicates if each.get("image") == image.own.configuration]
    passed = [each for each in own if each.get("passed") is True]
    if not own:
        return Check(name="gate", passed=False, detail="no verdict on this image holds")
    if not passed:
        return Check(name="gate", passed=False, detail=str(own[0].get("unverified") or "not passed"))
    if labels(image.labels).get("gate") != "passed":
        return Check(name="gate", passed=False, detail="the image's own label does not say that it passed")
    return Check(name="gate", passed=True, detail=_figures(labels(image.labels)))


def _figures(own: dict[str, str]) -> str:
    figures = [f"{key.removeprefix('gate.')} {value}" for key, value in own.items() if key.startswith("gate.")]
    return "passed: " + ", ".join(figures)
