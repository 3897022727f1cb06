"""From a verified image to a registry and back: a real registry, the real cosign, commands as a user types them."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from images import attest, base, push, record, sign
from images.build import Built
from images.errors import AccessError, GateError, TrustError, UnreachableError
from images.oci import DOCKER_IMAGE, Layer, digest_of
from images.record import Pushed
from images.registry import NotThereError, Repository
from images.remote import Remote, parse
from tests.containers import registries
from tests.containers.registries import Registry
from tests.containers.yard import Yard, invoke, invoking

WORD = "correct horse"
KEY = {"COSIGN_PASSWORD": WORD}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A registry with TLS and a password, that the engine trusts; somebody who is logged in there, and has a key.

    Attributes:
        home: the project, with the records of the images.
        environment: the login.

    """

    yard: Yard
    registry: Registry
    tools: Path
    home: Path
    environment: dict[str, str]

    @property
    def key(self) -> Path:
        return self.home / "cosign.key"

    @property
    def public(self) -> Path:
        return self.home / "cosign.pub"

    def name(self, path: str) -> str:
        return f"{self.registry.host}/{path}"

    def invoke(self, *argv: object, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return invoke(self.home, *map(str, argv), env={**self.environment, **KEY, **(env or {})})

    def push(self, built: Built, path: str, *more: object) -> Pushed:
        record.write(self.home / "dist", built.record)
        done = self.invoke("push", "--image", built.record.reference, "--registry", self.name(path), *more)
        assert done.returncode == 0, done.stderr
        known = record.read(self.home / "dist", built.record.reference)
        assert known
        return known.pushed[-1]

    def cosign(self, *argv: object) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **self.environment, **KEY, "SSL_CERT_FILE": str(self.registry.certificate)}
        return subprocess.run(
            [self.tools / "cosign", *map(str, argv)],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.home,
            env=environment,
        )


@pytest.fixture(scope="module")
def tools(yard: Yard) -> Path:
    return registries.tools(yard.config.cache)


@pytest.fixture(scope="module")
def shop(yard: Yard, tools: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Not on the loopback: engines do not look at the certificate of a registry there."""
    gateway = yard.engine._succeed("network", "inspect", "bridge", "--format={{(index .IPAM.Config 0).Gateway}}")
    folder = tmp_path_factory.mktemp("registry")
    with (
        registries.running(tools / "docker-registry", gateway.strip(), folder, secure=True) as registry,
        registries.trusted(registry, yard.engine.program),
    ):
        environment = registries.login(registry, folder / "login")
        made = Shop(yard=yard, registry=registry, tools=tools, home=home, environment=environment)
        assert made.cosign("generate-key-pair").returncode == 0
        yield made


@pytest.fixture(scope="module")
def pushed(shop: Shop, minilm: Built) -> Pushed:
    """MiniLM in the registry, signed with a key that cosign made."""
    return shop.push(minilm, "team/minilm", "--tag", "1", "--sign-key", shop.key)


@pytest.fixture(scope="module")
def small(yard: Yard) -> Built:
    """A second model on the same target."""
    return yard.tiny("tiny-sentiment")


@pytest.fixture
def repository(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Repository]:
    """Opens a repository as the one who is logged in."""
    for name, value in shop.environment.items():
        monkeypatch.setenv(name, value)
    return lambda path: Repository(parse(shop.name(path)))


def exact(pushed: Pushed) -> Remote:
    return parse(pushed.reference).at(pushed.digest)


# Pushing


def test_the_recorded_digest_is_the_registrys(shop: Shop, pushed: Pushed) -> None:
    answer = shop.registry.ask("/v2/team/minilm/manifests/1", Accept=DOCKER_IMAGE)
    assert pushed.digest == answer.headers["Docker-Content-Digest"] == digest_of(answer.content)


def test_pushing_again_sends_nothing(shop: Shop, pushed: Pushed, minilm: Built) -> None:
    before = shop.registry.uploads
    again = shop.push(minilm, "team/minilm", "--tag", "1", "--sign-key", shop.key)
    assert (again.digest, again.attached) == (pushed.digest, pushed.attached)
    assert shop.registry.uploads == before


def test_a_second_model_sends_its_own_layer_only(shop: Shop, pushed: Pushed, small: Built) -> None:
    fresh = shop.push(small, "team/small")
    new, old = shop.registry.layers("team/small", fresh.digest), shop.registry.layers("team/minilm", pushed.digest)
    assert new & shop.registry.received("team/small") == new - old
    assert len(new - old) == 1


def test_a_wrong_password_is_an_access_error_that_does_not_show_it(
    shop: Shop, pushed: Pushed, minilm: Built, tmp_path: Path
) -> None:
    del pushed
    environment = registries.login(shop.registry, tmp_path / "login", "close sesame")
    done = shop.invoke(
        *("push", "--image", minilm.record.reference, "--registry", shop.name("team/minilm")), env=environment
    )
    assert done.returncode == AccessError.exit_code
    assert f"error: the registry {shop.registry.host} refuses access" in done.stderr
    token = base64.b64encode(b"tester:close sesame").decode()
    assert not [secret for secret in ("sesame", token) if secret in done.stdout + done.stderr]


def test_a_push_leaves_no_name_behind(yard: Yard, shop: Shop, pushed: Pushed) -> None:
    del pushed
    assert shop.registry.host not in yard.engine._succeed("images", "--format={{.Repository}}")


def test_an_image_that_was_never_verified_is_not_pushed(shop: Shop, yard: Yard) -> None:
    runtime = base.bootstrap(yard.config, lambda _: None)[1].reference
    done = shop.invoke("push", "--image", runtime, "--registry", shop.name("team/base"))
    assert done.returncode == GateError.exit_code
    assert "it carries no passed gate" in done.stderr
    assert shop.registry.ask("/v2/team/base/tags/list").status_code == 404


def test_it_is_pushed_when_that_is_said_and_what_is_attached_says_so(shop: Shop, yard: Yard) -> None:
    runtime = base.bootstrap(yard.config, lambda _: None)[1].reference
    where = shop.name("team/unverified:1")
    flags = ("--unverified", "--sign-key", shop.key)
    assert shop.invoke("push", "--image", runtime, "--registry", where, *flags).returncode == 0
    done = shop.invoke("verify", where, "--key", shop.public)
    assert done.returncode == TrustError.exit_code
    assert "gate: it carries no passed gate: it was not verified" in done.stderr


def test_a_registry_that_dies_is_named_and_the_next_push_goes_on(
    yard: Yard, tools: Path, minilm: Built, home: Path, tmp_path: Path
) -> None:
    """On the loopback, where plain HTTP needs no flag. The engine itself goes on trying for most of a minute."""
    record.write(home / "dist", minilm.record)
    with registries.running(tools / "docker-registry", "127.0.0.1", tmp_path, secure=False) as registry:
        argv = ("push", "--image", minilm.record.reference, "--registry", f"{registry.host}/team/minilm", "--json")
        with invoking(home, *argv) as process:
            registry.wait_for_the_middle(process)
            registry.kill()
            _, complaint = process.communicate(timeout=150)
        assert process.returncode == UnreachableError.exit_code
        assert complaint.startswith(f"error: the registry {registry.host} did not take part")
        assert registry.host not in yard.engine._succeed("images", "--format={{.Repository}}")
        arrived = registry.stored
        registry.restart()
        done = invoke(home, *argv)
        assert done.returncode == 0, done.stderr
        layers = registry.layers("team/minilm", json.loads(done.stdout)["digest"])
        assert layers & registry.received("team/minilm") == layers - arrived
    assert arrived & layers


# What is attached


def test_the_real_cosign_accepts_the_signature(shop: Shop, pushed: Pushed) -> None:
    done = shop.cosign("verify", "--insecure-ignore-tlog=true", "--key", shop.public, exact(pushed))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["critical"]["image"]["docker-manifest-digest"] == pushed.digest


@pytest.mark.parametrize("kind", ["cyclonedx", "slsaprovenance1", attest.VERDICT])
def test_the_real_cosign_accepts_every_attestation(kind: str, shop: Shop, pushed: Pushed) -> None:
    done = cosign_attestation(shop, kind, exact(pushed))
    assert done.returncode == 0, done.stderr


def cosign_attestation(shop: Shop, kind: str, where: Remote) -> "subprocess.CompletedProcess[str]":
    flags = ("--insecure-ignore-tlog=true", "--key", shop.public, "--type", kind)
    return shop.cosign("verify-attestation", *flags, where)


def test_all_holds_against_the_key(shop: Shop, pushed: Pushed) -> None:
    done = shop.invoke("verify", exact(pushed), "--key", shop.public, "--json")
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert [check["name"] for check in checks] == ["signature", *attest.KINDS, "gate"]
    assert all(check["passed"] for check in checks)


def test_nothing_holds_against_another_key(shop: Shop, pushed: Pushed, tmp_path: Path) -> None:
    (tmp_path / "other.pub").write_bytes(other_public_key())
    done = shop.invoke("verify", exact(pushed), "--key", tmp_path / "other.pub", "--json")
    assert done.returncode == TrustError.exit_code
    assert not any(check["passed"] for check in json.loads(done.stdout)["checks"])


def other_public_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_tampered_verdict_is_refused_here_and_by_cosign(
    shop: Shop, small: Built, repository: Callable[[str], Repository]
) -> None:
    where = exact(shop.push(small, "team/tampered", "--sign-key", shop.key))
    with repository("team/tampered") as opened:
        tamper(opened, where.digest)
    done = shop.invoke("verify", where, "--key", shop.public)
    assert done.returncode == TrustError.exit_code
    assert "verdict: names this key, and was changed after it was signed" in done.stderr
    assert cosign_attestation(shop, attest.VERDICT, where).returncode != 0


def tamper(repository: Repository, digest: str) -> None:
    """Change one word of the verdict where cosign looks for it; its signature stays as it was."""
    tag = push.cosign_tag(digest, "att")
    changed = [layer for layer in repository.documents(tag) if layer.annotations["predicateType"] == attest.VERDICT]
    envelope = json.loads(changed[0].content)
    statement = base64.b64decode(envelope["payload"]).replace(b'"agreement"', b'"Agreement"')
    envelope["payload"] = base64.b64encode(statement).decode()
    layer = Layer(media_type=sign.ENVELOPE, content=json.dumps(envelope).encode(), annotations=changed[0].annotations)
    push._put_for_cosign(repository, [layer], tag)


def test_the_registry_alone_tells_what_the_record_says(shop: Shop, pushed: Pushed, minilm: Built) -> None:
    before = shop.registry.log
    done = shop.invoke("inspect", "--image", exact(pushed), "--json")
    assert done.returncode == 0, done.stderr
    known = json.loads(done.stdout)
    statements = {each["kind"]: each["statement"]["predicate"] for each in known["attached"]}
    assert (known["image"], known["signatures"]) == (minilm.record.image, 1)
    assert known["labels"]["dev.modelyard.gate"] == "passed"
    assert statements["verdict"]["record"]["verdict"]["figures"][0]["case"] == "short"
    fetched = shop.registry.log.removeprefix(before)
    assert not [layer for layer in shop.registry.layers("team/minilm", pushed.digest) if layer in fetched]


def test_the_bill_of_materials_covers_debian_packages_wheels_and_the_model(
    shop: Shop, yard: Yard, pushed: Pushed, minilm: Built
) -> None:
    known = json.loads(shop.invoke("inspect", "--image", exact(pushed), "--json").stdout)
    bill = next(each["statement"]["predicate"] for each in known["attached"] if each["kind"] == "sbom")
    names = {
        kind: {each["name"] for each in bill["components"] if kind in each.get("purl", "")} for kind in ("deb", "pypi")
    }
    assert names["deb"] == set(yard.config.bootstrap.runtime_packages)
    assert names["pypi"] == {name.lower().replace("_", "-") for name in minilm.record.info.packages}
    assert [each["name"] for each in bill["components"] if each["type"] == "machine-learning-model"] == [
        minilm.record.info.manifest.model.id
    ]


def test_the_provenance_names_every_wheel_and_both_bases_by_digest(shop: Shop, pushed: Pushed, minilm: Built) -> None:
    known = json.loads(shop.invoke("inspect", "--image", exact(pushed), "--json").stdout)
    made = next(each["statement"]["predicate"] for each in known["attached"] if each["kind"] == "provenance")
    digests = {each["digest"].get("sha256") for each in made["buildDefinition"]["resolvedDependencies"]}
    wheels = {digest for environment in minilm.record.wheels.values() for digest in environment.values()}
    bases = {digest.removeprefix("sha256:") for digest in minilm.record.bases.values()}
    assert minilm.record.wheels["run"]
    assert wheels | bases < digests


# Back


def test_an_image_is_pulled_by_digest_once_it_holds(shop: Shop, yard: Yard, pushed: Pushed, minilm: Built) -> None:
    where = exact(pushed)
    done = shop.invoke("pull", "--image", where, "--key", shop.public)
    try:
        assert done.returncode == 0, done.stderr
        found = yard.engine.image(str(where))
        assert found
        assert found.id == minilm.record.image
    finally:
        yard.engine.untag(str(where))


def test_an_image_that_is_not_there_is_a_usage_error(shop: Shop, repository: Callable[[str], Repository]) -> None:
    done = shop.invoke("inspect", "--image", shop.name("team/minilm:2"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: there is no {shop.name('team/minilm:2')}")
    with repository("team/minilm") as opened, pytest.raises(NotThereError):
        opened.manifest(f"sha256:{'0' * 64}")


# To a cluster


def test_manifests_are_made_of_what_the_registry_says(
    shop: Shop, pushed: Pushed, minilm: Built, tmp_path: Path
) -> None:
    done = shop.invoke("manifests", "--image", exact(pushed), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "out/deployment.yaml").read_text()
    assert f'image: "{exact(pushed)}"' in written
    assert minilm.record.info.manifest.model.digest in written
    peak = minilm.record.verdict.peak_memory_bytes
    asked = int(re.findall(r'requests: .*memory: "(\d+)Mi"', written)[0]) << 20
    assert peak < asked < 2 * peak


def test_an_image_by_tag_gets_no_manifests(shop: Shop, pushed: Pushed, tmp_path: Path) -> None:
    done = shop.invoke("manifests", "--image", pushed.reference, "--out", tmp_path / "out")
    assert (done.returncode, (tmp_path / "out").exists()) == (2, False)
    assert "is not named by digest" in done.stderr


def test_an_image_that_went_without_a_verdict_gets_no_manifests(shop: Shop, yard: Yard, tmp_path: Path) -> None:
    runtime = base.bootstrap(yard.config, lambda _: None)[1].reference
    done = shop.invoke("push", "--image", runtime, "--registry", shop.name("team/foreign"), "--unverified", "--json")
    where = parse(shop.name("team/foreign")).at(json.loads(done.stdout)["digest"])
    refused = shop.invoke("manifests", "--image", where, "--out", tmp_path / "out")
    assert (refused.returncode, (tmp_path / "out").exists()) == (2, False)
    assert "was not built by `invoke build`" in refused.stderr
