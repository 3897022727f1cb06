"""Push, inspect, verify and pull against a registry on loopback and an engine in memory."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from images import attest, push, record, sbom, sign, trust
from images.engine import ImageFacts, Line
from images.errors import GateError, TrustError, UnreachableError, UsageError
from images.oci import Layer
from images.plan import LABEL
from images.progress import Quiet
from images.push import Order
from images.record import Record
from images.registry import Repository
from images.remote import Remote, parse
from images.sign import PrivateKey
from tests.host import samples
from tests.scripted_registry import Registry, Script, digest_of

NAME = samples.plan().tag
KEY = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
OTHER = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
LABELS = {f"{LABEL}.gate": "passed", f"{LABEL}.gate.cosine": "0.999"}


@dataclass(frozen=True, kw_only=True)
class Pushing(samples.FakeEngine):
    """An engine whose pushes reach a registry: of the image that it was asked for, or of another one."""

    registry: Registry
    labels: dict[str, str] = field(default_factory=lambda: dict(LABELS))
    arrives: dict[str, Any] = field(default_factory=dict)

    def push(self, reference: str, line: Line, *, plain_http: bool = False) -> None:
        """Store a manifest with a configuration that has the labels."""
        assert plain_http, "a loopback registry needs no flag"
        self.asked.append(f"push {reference}")
        line("abc: Pushed")
        line("def: Layer already exists")
        where = parse(reference)
        self.registry.image(where.path, where.tag, self.arrives or configuration(self.labels))

    def pull(self, reference: str, line: Line, *, plain_http: bool = False) -> None:
        """Remember it, and have it."""
        del line, plain_http
        self.asked.append(f"pull {reference}")
        self.store[reference] = self.store[NAME]


def configuration(labels: dict[str, str]) -> dict[str, Any]:
    return {"config": {"Labels": labels}, "os": "linux", "architecture": "amd64", "created": "then"}


def identity(labels: dict[str, str]) -> str:
    return digest_of(json.dumps(configuration(labels)).encode())


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine with an image and its record, and a registry."""

    registry: Registry
    machine: Pushing
    dist: Path

    @property
    def where(self) -> Remote:
        return parse(f"{self.registry.host}/team/m:1")

    def known(self) -> Record:
        found = record.read(self.dist, NAME)
        assert found
        return found

    def push(self, **order: Any) -> push.Done:
        asked = Order(**{"image": NAME, "to": self.where, **order})
        return push.run(asked, self.machine, samples.config(self.dist), Quiet(), self.dist)

    def verify(self, key: PrivateKey = KEY) -> dict[str, trust.Check]:
        return {check.name: check for check in trust.verify(self.where, key.public).checks}

    def failed(self, key: PrivateKey = KEY) -> dict[str, str]:
        return {name: check.detail for name, check in self.verify(key).items() if not check.passed}


Placed = Callable[..., Place]


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Placed]:
    """Makes a place: labels of the image, and whether there is a record of it."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(sbom, "make", lambda *_: b'{"components": []}')
    with Registry(Script()) as registry:

        def place(labels: dict[str, str] = LABELS, *, recorded: bool = True, **changes: Any) -> Place:
            image = identity(labels)
            machine = Pushing(registry=registry, labels=labels)
            facts = ImageFacts(id=image, size=1, layers=(), labels=labels)
            machine.store.update({NAME: facts, image: facts})
            if recorded:
                record.write(tmp_path, samples.record(**{"image": image, "reference": NAME, **changes}))
            return Place(registry=registry, machine=machine, dist=tmp_path)

        yield place


# Push


def test_the_registrys_digest_is_recorded(placed: Placed) -> None:
    place = placed()
    done = place.push()
    assert done.pushed.digest == digest_of(place.registry.manifests["team/m@1"][0])
    assert place.known().pushed == [done.pushed]


def test_layers_are_counted(placed: Placed) -> None:
    assert placed().push().layers == push.Layers(sent=1, there=1)


@pytest.mark.parametrize(
    ("line", "sent", "there"),
    [
        ("Copying blob abc done", 1, 0),
        ("Copying blob abc skipped: already exists", 0, 1),
        ("abc: Mounted from team/other", 0, 1),
        ("abc: Pushing", 0, 0),
    ],
)
def test_what_engines_say_of_a_layer(line: str, sent: int, there: int) -> None:
    layers = push.Layers()
    layers.count(line)
    assert layers == push.Layers(sent=sent, there=there)


def test_the_image_has_the_remote_name_for_the_push_only(placed: Placed) -> None:
    place = placed()
    place.push()
    assert str(place.where) not in place.machine.store


def test_an_image_that_had_the_remote_name_gets_it_back(placed: Placed) -> None:
    place = placed()
    before = ImageFacts(id="sha256:before", size=1, layers=(), labels={})
    place.machine.store.update({str(place.where): before, "sha256:before": before})
    place.push()
    assert place.machine.store[str(place.where)] == before


def test_pushing_again_replaces_the_entry(placed: Placed) -> None:
    place = placed()
    place.push()
    place.push(key=KEY)
    assert [each.key for each in place.known().pushed] == [KEY.public.id]


def test_an_image_under_another_name_is_found_by_its_id(placed: Placed) -> None:
    place = placed()
    place.machine.store["mine:1"] = place.machine.store[NAME]
    assert place.push(image="mine:1").file == record.path(place.dist, NAME)


def test_an_image_that_the_engine_does_not_have_is_a_usage_error(placed: Placed) -> None:
    with pytest.raises(UsageError, match="the engine has no image none:1"):
        placed().push(image="none:1")


@pytest.mark.parametrize(
    ("labels", "changes"),
    [
        ({}, {}),
        (LABELS, {"recorded": False}),
        (LABELS, {"verdict": samples.failed()}),
        ({f"{LABEL}.gate": "overridden"}, {"verdict": samples.failed()}),
    ],
)
def test_an_image_without_a_passed_verdict_is_not_pushed(
    labels: dict[str, str], changes: dict[str, Any], placed: Placed
) -> None:
    place = placed(labels, **changes)
    with pytest.raises(GateError, match="is not pushed: "):
        place.push()
    assert (place.machine.asked, place.registry.requests) == ([], [])


def test_one_that_is_pushed_all_the_same_is_recorded_as_unverified(placed: Placed) -> None:
    place = placed(verdict=samples.failed())
    assert place.push(unverified=True).pushed.unverified
    assert place.failed()["verdict"] == "is not signed"


def test_saying_unverified_of_a_verified_image_changes_nothing(placed: Placed) -> None:
    assert not placed().push(unverified=True).pushed.unverified


def test_another_image_under_the_tag_is_refused_and_nothing_attached(placed: Placed) -> None:
    place = placed()
    place.machine.arrives["config"] = {}
    with pytest.raises(TrustError, match="which is not the image"):
        place.push()
    assert [name for name in place.registry.manifests if "sha256-" in name] == []


def test_a_registry_that_is_not_there_is_noticed_before_the_engine_tries(placed: Placed) -> None:
    place = placed()
    with pytest.raises(UnreachableError):
        place.push(to=parse("127.0.0.1:9/m:1"))
    assert place.machine.asked == []


# Verify


def test_what_was_signed_holds(placed: Placed) -> None:
    place = placed()
    place.push(key=KEY)
    assert place.failed() == {}
    assert list(place.verify()) == ["signature", *attest.KINDS, "gate"]


def test_what_was_not_signed_does_not(placed: Placed) -> None:
    place = placed()
    place.push()
    assert place.failed() == {
        "signature": "there is none",
        **dict.fromkeys(attest.KINDS, "is not signed"),
        "gate": "no verdict on this image holds",
    }


def test_another_key_holds_nothing(placed: Placed) -> None:
    place = placed()
    place.push(key=KEY)
    failed = place.failed(OTHER)
    assert failed["signature"] == "none of 1 is by this key"
    assert failed["verdict"] == "is not signed by this key"


def test_two_keys_sign_one_image(placed: Placed) -> None:
    place = placed()
    place.push(key=KEY)
    place.push(key=OTHER)
    assert (place.failed(KEY), place.failed(OTHER)) == ({}, {})


def test_an_image_that_nothing_is_attached_to_says_so(placed: Placed) -> None:
    place = placed()
    place.registry.image("team/m", "1", configuration(LABELS))
    assert place.failed()["sbom"] == "is not attached"


def test_a_signed_image_that_is_unverified_fails_for_that_alone(placed: Placed) -> None:
    place = placed(verdict=samples.failed())
    place.push(key=KEY, unverified=True)
    assert place.failed() == {"gate": "the record says that the gate failed"}


def attached(place: Place, kind: str, content: bytes) -> None:
    """Attach an envelope as somebody would who may push, but has no key."""
    with Repository(place.where) as repository:
        layer = Layer(media_type=sign.ENVELOPE, content=content, annotations={push.PREDICATE: attest.KINDS[kind]})
        repository.put([layer], config=push.NOTHING, subject=repository.manifest("1"), artifact=sign.ENVELOPE)


def verdict(place: Place, digest: str, **predicate: Any) -> bytes:
    image = identity(LABELS)
    return attest.statement(place.where.repository, digest, "verdict", {"passed": True, "image": image, **predicate})


def test_a_verdict_of_another_image_does_not_count(placed: Placed) -> None:
    place = placed()
    place.registry.image("team/m", "1", configuration(LABELS))
    attached(place, "verdict", sign.envelope(verdict(place, f"sha256:{'b' * 64}"), KEY))
    assert place.failed()["verdict"] == "is signed by this key, but about another image"


def test_a_verdict_about_this_digest_must_name_this_image(placed: Placed) -> None:
    place = placed()
    place.registry.image("team/m", "1", configuration(LABELS))
    digest = digest_of(place.registry.manifests["team/m@1"][0])
    attached(place, "verdict", sign.envelope(verdict(place, digest, image="sha256:other"), KEY))
    assert "verdict" not in place.failed()
    assert place.failed()["gate"] == "no verdict on this image holds"


def test_a_changed_envelope_fails_even_beside_one_that_holds(placed: Placed) -> None:
    place = placed()
    done = place.push(key=KEY)
    envelope = json.loads(sign.envelope(verdict(place, done.pushed.digest), KEY))
    changed = json.loads(sign.envelope(verdict(place, done.pushed.digest, passed=False), KEY))
    attached(place, "verdict", json.dumps(envelope | {"payload": changed["payload"]}).encode())
    assert place.failed()["verdict"] == "names this key, and was changed after it was signed"


def test_a_signature_that_was_moved_from_another_image_fails(placed: Placed) -> None:
    place = placed()
    done = place.push(key=KEY)
    tag = push.cosign_tag(done.pushed.digest, "sig")
    with Repository(place.where) as repository:
        content = sign.payload(place.where.repository, f"sha256:{'b' * 64}")
        layer = Layer(
            media_type=sign.SIMPLE_SIGNING,
            content=content,
            annotations={sign.SIGNATURE: sign.encoded(KEY.sign(content))},
        )
        push._put_for_cosign(repository, [layer], tag)
    assert place.failed() == {"signature": f"by this key, but over sha256:{'b' * 64}"}


def test_failed_checks_are_one_error_that_names_each(placed: Placed) -> None:
    place = placed()
    place.push()
    error = trust.failure(trust.verify(place.where, KEY.public))
    assert error
    assert "\n  signature: there is none\n  sbom: is not signed" in error.what


# Inspect and pull


def test_the_registry_alone_knows_the_image(placed: Placed) -> None:
    place = placed()
    done = place.push(key=KEY)
    known = trust.inspect(place.where)
    assert known.reference == f"{place.where.repository}@{done.pushed.digest}"
    assert (known.image, known.platform, known.labels, known.signatures) == (
        identity(LABELS),
        "linux/amd64",
        LABELS,
        1,
    )
    assert {each.kind: each.digest for each in known.attached} == {
        kind: done.pushed.attached[kind] for kind in attest.KINDS
    }


def test_an_image_in_a_list_beside_its_builders_notes_is_found(placed: Placed) -> None:
    place = placed()
    place.registry.image("team/m", "1", configuration(LABELS))
    own = digest_of(place.registry.manifests["team/m@1"][0])
    notes = {"digest": f"sha256:{'0' * 64}", "platform": {"os": "unknown"}}
    index = {"mediaType": "i", "manifests": [notes, {"digest": own, "platform": {"os": "linux"}}]}
    place.registry.store("team/m", "1", json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    assert trust.inspect(place.where).image == identity(LABELS)


def test_an_image_that_is_not_there_is_a_usage_error(placed: Placed) -> None:
    with pytest.raises(UsageError, match="there is no "):
        trust.inspect(placed().where)


def test_a_tag_is_pulled_by_its_digest(placed: Placed) -> None:
    place = placed()
    done = place.push(key=KEY)
    trust.pull(place.where, KEY.public, place.machine, Quiet())
    assert place.machine.asked[-1] == f"pull {place.where.repository}@{done.pushed.digest}"


def test_nothing_is_pulled_that_does_not_hold(placed: Placed) -> None:
    place = placed()
    place.push()
    with pytest.raises(TrustError, match="does not hold against the key"):
        trust.pull(place.where, KEY.public, place.machine, Quiet())
    assert not [asked for asked in place.machine.asked if asked.startswith("pull")]


def test_another_image_that_arrives_is_refused(placed: Placed) -> None:
    place = placed()
    place.push()
    place.machine.store[NAME] = ImageFacts(id="sha256:other", size=1, layers=(), labels={})
    with pytest.raises(TrustError, match="the engine has sha256:other"):
        trust.pull(place.where, None, place.machine, Quiet())
