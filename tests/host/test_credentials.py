import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from images import credentials
from images.credentials import Credentials
from images.errors import AccessError, UsageError

HOST = "reg.example:5000"
LOGIN = {"auth": base64.b64encode(b"tester:open sesame").decode()}


def configured(folder: Path, **content: Any) -> dict[str, str]:
    """The environment of somebody with this configuration of docker."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(content))
    return {"DOCKER_CONFIG": str(folder), "HOME": str(folder)}


def helper(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install `docker-credential-tests`."""
    program = folder / "docker-credential-tests"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_login_of_docker_is_found(tmp_path: Path) -> None:
    environment = configured(tmp_path / "docker", auths={HOST: LOGIN})
    assert credentials.find(HOST, environment) == Credentials("tester", "open sesame")


def test_another_registrys_login_is_not_used(tmp_path: Path) -> None:
    environment = configured(tmp_path / "docker", auths={HOST: LOGIN})
    assert credentials.find("reg.example", environment) == Credentials()


def test_the_hubs_login_is_found_by_its_old_name(tmp_path: Path) -> None:
    environment = configured(tmp_path / "docker", auths={"https://index.docker.io/v1/": LOGIN})
    assert credentials.find("docker.io", environment).name == "tester"


def test_an_identity_token_is_found(tmp_path: Path) -> None:
    environment = configured(tmp_path / "docker", auths={HOST: {**LOGIN, "identitytoken": "t"}})
    assert credentials.find(HOST, environment) == Credentials(identity="t")


def test_a_login_of_podman_is_found(tmp_path: Path) -> None:
    environment = configured(tmp_path / "docker", auths={})
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {HOST: LOGIN}}))
    assert credentials.find(HOST, environment | {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}).name == "tester"


@pytest.mark.starts_programs
@pytest.mark.parametrize("how", [{"credsStore": "tests"}, {"credHelpers": {HOST: "tests"}}])
def test_a_credential_helper_is_asked(how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, """echo '{"Username": "helped", "Secret": "s"}'""", monkeypatch)
    assert credentials.find(HOST, configured(tmp_path / "docker", **how)) == Credentials("helped", "s")


@pytest.mark.starts_programs
def test_a_helper_that_fails_is_an_access_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "echo broken; exit 1", monkeypatch)
    with pytest.raises(AccessError, match=f"the credential helper for {HOST} failed"):
        credentials.find(HOST, configured(tmp_path / "docker", credsStore="tests"))


def test_a_damaged_configuration_is_a_usage_error(tmp_path: Path) -> None:
    environment = configured(tmp_path / "docker", auths={HOST: "text"})
    with pytest.raises(UsageError, match="is not a container engine's configuration"):
        credentials.find(HOST, environment)


def test_nobody_is_logged_in_where_there_is_no_configuration(tmp_path: Path) -> None:
    assert credentials.find(HOST, {"HOME": str(tmp_path)}) == Credentials()


def test_a_password_is_not_in_what_is_printed_of_a_login() -> None:
    assert "sesame" not in repr(Credentials("tester", "open sesame", "identity of sesame"))


def test_the_engines_certificates_of_a_registry_are_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "etc/docker/certs.d" / HOST
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        credentials.trusted(HOST, {"HOME": str(tmp_path)}, root=tmp_path)


def test_another_registrys_certificates_are_not_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "etc/docker/certs.d/other"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("no certificate")
    assert credentials.trusted(HOST, {"HOME": str(tmp_path)}, root=tmp_path).verify_mode == ssl.CERT_REQUIRED
