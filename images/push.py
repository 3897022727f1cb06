"""An image with a passed verdict to a registry: pushed, its digest asked for, what is known of it attached, signed."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from images import attest, record, sbom, sign
from images.config import Config
from images.engine import Engine, ImageFacts
from images.errors import GateError, TrustError, UsageError
from images.oci import EMPTY, Layer, Manifest, digest_of
from images.plan import LABEL
from images.progress import Progress
from images.record import Pushed, Record
from images.registry import NotThereError, Repository
from images.remote import Remote
from images.sign import PrivateKey

PREDICATE = "in-toto.io/predicate-type"
OF_COSIGN = "predicateType"
CONFIG = "application/vnd.oci.image.config.v1+json"
NOTHING = Layer(media_type=EMPTY, content=b"{}")
IS_THERE = ("Layer already exists", "Mounted from", "skipped: already exists")
"""What docker and podman say of a layer that they do not send."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a push is to do.

    Attributes:
        image: the image's name or id on this machine.
        to: where it goes.
        key: what signs it; None to sign nothing.
        unverified: whether it may go without a passed verdict.
        plain_http: whether the registry is talked to without TLS.

    """

    image: str
    to: Remote
    key: PrivateKey | None = None
    unverified: bool = False
    plain_http: bool = False


@dataclass(kw_only=True)
class Layers:
    """How many layers were sent, and how many were there already."""

    sent: int = 0
    there: int = 0

    def count(self, line: str) -> None:
        """Read a line that the engine says."""
        self.there += any(words in line for words in IS_THERE)
        self.sent += line.endswith(": Pushed") or (line.startswith("Copying blob") and line.endswith("done"))


@dataclass(frozen=True, kw_only=True)
class Done:
    """A push that ended well.

    Attributes:
        image: what was pushed, by its name or id on this machine.
        pushed: what is recorded of it.
        file: the record that it was written to; None for an image that was not built here.

    """

    image: str
    pushed: Pushed
    file: Path | None
    layers: Layers = field(default_factory=Layers)


def run(order: Order, machine: Engine, config: Config, progress: Progress, dist: Path) -> Done:
    """Push an image, ask the registry for its digest, attach what is known, record it.

    Raises:
        UsageError: there is no such image.
        GateError: it has no passed verdict, and nobody said that it may go without one.
        AccessError, UnreachableError: the registry refuses, or does not answer.
        TrustError: the registry has something else than what was pushed.

    """
    facts = machine.image(order.image)
    if facts is None:
        raise UsageError(f"the engine has no image {order.image}", "see `docker images`, or build it")
    known = _record(dist, order.image, facts)
    _require_verdict(order, facts, known)
    with Repository(order.to, plain_http=order.plain_http) as repository:
        progress.step(f"asking {order.to.host} for access to {order.to.path}")
        repository.check_push()
        progress.step("listing what is in the image (syft)")
        bill = sbom.make(machine, facts.id, known, config.cache)
        layers = _push(machine, order, facts, progress)
        manifest = _pushed(repository, order, facts)
        progress.step("attaching " + ", ".join(attest.KINDS) + (", signature" if order.key else ""))
        attached = _attach(repository, order, manifest, _statements(order, manifest, facts, known, bill))
    pushed = Pushed(
        reference=str(order.to),
        digest=manifest.digest,
        at=record.now(),
        unverified=bool(_lacks(facts, known)),
        attached=attached,
        key=order.key.public.id if order.key else "",
    )
    file = record.write(dist, record.with_push(known, pushed)) if known else None
    return Done(image=order.image, pushed=pushed, file=file, layers=layers)


def labels(of: dict[str, str]) -> dict[str, str]:
    """Our own labels, without their prefix."""
    return {key.removeprefix(f"{LABEL}."): value for key, value in sorted(of.items()) if key.startswith(f"{LABEL}.")}


def is_image(manifest: Manifest, image: str) -> bool:
    """Whether a manifest is that of the image with this id: of its configuration, or of the manifest itself."""
    return image in {manifest.digest, manifest.configuration}


def _record(dist: Path, image: str, facts: ImageFacts) -> Record | None:
    """The record of this very image, by its name or, where it was given another name since, by its id."""
    found = record.read(dist, image) or record.by_image(dist, facts.id)
    return found if found and found.image == facts.id else record.by_image(dist, facts.id) or found


def _lacks(facts: ImageFacts, known: Record | None) -> str:
    return attest.missing(facts.id, labels(dict(facts.labels)), known)


def _require_verdict(order: Order, facts: ImageFacts, known: Record | None) -> None:
    if (lacks := _lacks(facts, known)) and not order.unverified:
        raise GateError(
            f"{order.image} is not pushed: {lacks}",
            "build it here with `invoke build`, or say --unverified: what is attached to it will say so too",
        )


def _push(machine: Engine, order: Order, facts: ImageFacts, progress: Progress) -> Layers:
    """Push under the remote name, which the image has for that time only, unless it had it before."""
    progress.step(f"pushing {order.to}")
    name, layers = str(order.to), Layers()

    def line(text: str) -> None:
        layers.count(text)
        progress.detail(text)

    before = machine.image(name)
    machine.tag(facts.id, name)
    try:
        machine.push(name, line, plain_http=order.plain_http or order.to.is_near)
    finally:
        if before is None:
            machine.untag(name)
        elif before.id != facts.id:
            machine.tag(before.id, name)
    return layers


def _pushed(repository: Repository, order: Order, facts: ImageFacts) -> Manifest:
    """The manifest that the registry has under the tag: that of this image, or `TrustError`."""
    try:
        manifest = repository.manifest(order.to.tag)
    except NotThereError as error:
        raise TrustError(f"{order.to} was pushed and is not there: {error.what}", "push it again") from error
    if not is_image(manifest, facts.id):
        raise TrustError(
            f"{order.to} is {manifest.digest} in the registry, which is not the image {facts.id} that was pushed",
            "somebody else may have pushed there at the same time: push again",
        )
    return manifest


def _statements(
    order: Order, manifest: Manifest, facts: ImageFacts, known: Record | None, bill: bytes
) -> dict[str, bytes]:
    """In-toto statements about the digest, by kind."""
    own = known if known and known.image == facts.id else None
    predicates = {
        "sbom": json.loads(bill),
        "verdict": attest.verdict(facts.id, labels(dict(facts.labels)), known),
        **({"provenance": attest.provenance(own)} if own else {}),
    }
    return {
        kind: attest.statement(order.to.repository, manifest.digest, kind, predicate)
        for kind, predicate in predicates.items()
    }


def _attach(repository: Repository, order: Order, subject: Manifest, statements: dict[str, bytes]) -> dict[str, str]:
    """Attach the statements, signed where there is a key; digests of what was attached, by kind."""
    media_type = sign.ENVELOPE if order.key else sign.STATEMENT
    layers = {
        kind: Layer(
            media_type=media_type,
            content=sign.envelope(content, order.key) if order.key else content,
            annotations={PREDICATE: attest.KINDS[kind]},
        )
        for kind, content in statements.items()
    }
    attached = {
        kind: repository.put([layer], config=NOTHING, subject=subject, artifact=media_type).digest
        for kind, layer in layers.items()
    }
    if order.key:
        attached["signature"] = _sign(repository, subject, order.key)
        attached["cosign"] = _for_cosign(repository, subject, list(layers.values()), order.key)
    return attached


def _sign(repository: Repository, subject: Manifest, key: PrivateKey) -> str:
    """The signature under the tag where cosign looks for it, beside those of other keys; the manifest's digest."""
    tag = cosign_tag(subject.digest, "sig")
    content = sign.payload(repository.where.repository, subject.digest)
    others = [layer for layer in repository.documents(tag) if not _is_by(layer, key)]
    own = Layer(
        media_type=sign.SIMPLE_SIGNING,
        content=content,
        annotations={sign.SIGNATURE: sign.encoded(key.sign(content))},
    )
    return _put_for_cosign(repository, [*others, own], tag)


def _is_by(layer: Layer, key: PrivateKey) -> bool:
    return key.public.verifies(sign.decoded(layer.annotations.get(sign.SIGNATURE, "")), layer.content)


def _for_cosign(repository: Repository, subject: Manifest, layers: list[Layer], key: PrivateKey) -> str:
    """The envelopes under the tag where cosign looks for them, in the place of this key's earlier ones."""
    tag = cosign_tag(subject.digest, "att")
    others = [layer for layer in repository.documents(tag) if not sign.opened(layer.content, key.public).claims]
    own = [
        Layer(
            media_type=layer.media_type,
            content=layer.content,
            annotations={OF_COSIGN: layer.annotations[PREDICATE], sign.SIGNATURE: ""},
        )
        for layer in layers
    ]
    return _put_for_cosign(repository, [*others, *own], tag)


def _put_for_cosign(repository: Repository, layers: list[Layer], tag: str) -> str:
    """An image whose layers are documents: with a configuration that lists them, as cosign's own tool makes it."""
    configuration = {
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer.content) for layer in layers]},
    }
    config = Layer(media_type=CONFIG, content=json.dumps(configuration, sort_keys=True).encode())
    return repository.put(layers, config=config, tag=tag).digest


def cosign_tag(digest: str, suffix: str) -> str:
    """Where cosign looks for what belongs to a digest."""
    return f"{digest.replace(':', '-')}.{suffix}"
