"""The commands that speak to registries."""

import json
from pathlib import Path

import pytest

from images import push, record, remote, sign, trust
from images.errors import TrustError
from tests.host import samples
from tests.host.invoking import Invoke, raising


@pytest.mark.parametrize("command", ["pull", "inspect"])
def test_an_image_in_a_registry_must_be_named(command: str, invoke: Invoke) -> None:
    code, _, err = invoke(command)
    assert (code, err.splitlines()[0]) == (2, "error: no image was named")


@pytest.mark.parametrize("command", [("pull", "--image"), ("inspect", "--image"), ("verify", "--key=k")])
def test_a_name_without_a_registry_is_a_usage_error(command: tuple[str, str], invoke: Invoke) -> None:
    code, out, err = invoke(*command, "modelyard/m:1")
    assert (code, out) == (2, "")
    assert err.startswith("error: 'modelyard/m:1' names no registry")


def test_an_image_is_verified_against_a_key_only(invoke: Invoke) -> None:
    code, _, err = invoke("verify", "reg.example/m:1")
    assert (code, err.splitlines()[0]) == (2, "error: no key was named")


def test_a_push_needs_a_registry(invoke: Invoke) -> None:
    code, _, err = invoke("push", "--image", "modelyard/m:1")
    assert (code, err.splitlines()[0]) == (2, "error: no registry was named, and modelyard/m:1 names none")


def test_a_push_with_a_key_that_is_not_there_pushes_nothing(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(push, "run", raising(AssertionError()))
    code, _, err = invoke(
        *("push", "--image", "a:1", "--registry", "reg.example/m", "--sign-key", tmp_path / "none.key")
    )
    assert (code, err.splitlines()[0]) == (
        2,
        f"error: the key {tmp_path}/none.key cannot be read: No such file or directory",
    )


def test_every_option_of_a_push_reaches_it(
    invoke: Invoke, machine: samples.FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[push.Order] = []
    done = record.Pushed(
        reference="reg.example/m:2", digest="sha256:1", at="now", unverified=True, attached={"sbom": "s"}
    )

    def run(order: push.Order, on: object, *_: object) -> push.Done:
        assert on is machine
        asked.append(order)
        return push.Done(image="a:b", pushed=done, file=None)

    monkeypatch.setattr(push, "run", run)
    flags = ("--image", "a:1", "--registry", "reg.example/m", "--tag", "2", "--unverified", "--plain-http")
    code, out, _ = invoke("push", *flags)
    assert asked == [push.Order(image="a:1", to=remote.parse("reg.example/m:2"), unverified=True, plain_http=True)]
    assert code == 0
    assert "  image     a:b\n" in out
    assert "reg.example/m@sha256:1" in out
    assert "UNVERIFIED" in out


def verified(*, passed: bool) -> trust.Verified:
    checks = [trust.Check(name="signature", passed=passed, detail="what was found")]
    return trust.Verified(reference="reg.example/m@sha256:1", key="SHA256:k", checks=checks)


@pytest.mark.parametrize(("passed", "expected", "word"), [(True, 0, "ok"), (False, TrustError.exit_code, "FAILED")])
def test_checks_are_printed_whether_they_hold_or_not(
    passed: bool, expected: int, word: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "verify", lambda *_, **__: verified(passed=passed))
    monkeypatch.setattr(sign, "public_key", lambda _: None)
    code, out, _ = invoke("verify", "reg.example/m:1", "--key", "k.pub")
    assert code == expected
    assert out.splitlines()[-1].split() == [word, "signature", "what", "was", "found"]


@pytest.mark.parametrize("command", ["inspect", "pull"])
def test_what_a_registry_knows_is_printed(
    command: str, invoke: Invoke, machine: samples.FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    del machine
    known = trust.Known(
        reference="reg.example/m@sha256:1",
        digest="sha256:1",
        image="sha256:2",
        created="then",
        platform="linux/amd64",
        layers=1,
        size=1 << 20,
        labels={"dev.modelyard.gate": "passed", "dev.modelyard.gate.cosine": "0.99"},
        signatures=0,
        attached=[trust.Attachment(kind="sbom", digest="sha256:3", signed=False, statement={})],
    )
    monkeypatch.setattr(trust, command, lambda *_, **__: known)
    out = invoke(command, "--image", "reg.example/m:1")[1]
    assert "gate      passed: cosine 0.99" in out
    assert "sbom      sha256:3, not signed" in out
    assert json.loads(invoke(command, "--image", "reg.example/m:1", "--json")[1])["digest"] == "sha256:1"
