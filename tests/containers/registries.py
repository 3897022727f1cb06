"""A real registry, the real cosign and the real buildx, out of Debian packages that are unpacked and not installed."""

import base64
import datetime as dt
import ipaddress
import json
import os
import re
import socket
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from images.oci import DOCKER_IMAGE
from tests.containers.yard import until

SUITE = "trixie"
PLUGIN = "usr/libexec/docker/cli-plugins/docker-buildx"
PACKAGES = {"cosign": "usr/bin/cosign", "docker-registry": "usr/bin/docker-registry", "docker-buildx": PLUGIN}
"""What is brought, and the program in it."""
USER, PASSWORD = "tester", "open sesame"
HTPASSWD = "tester:$2b$05$mZHFzDsTDLloitisS7TeSu9Juw/5qmRkVeFr1Gud2jMr990fGJuO.\n"
UPLOAD = re.compile(r'"(PATCH|PUT) /v2/\S+/blobs/uploads/')


def tools(cache: Path) -> Path:
    """The folder with `cosign` and `docker-registry`, brought by apt into a root of its own below the cache."""
    home = cache / "tools" / SUITE
    home.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(home / ".lock"):
        if not all((home / program).exists() for program in PACKAGES.values()):
            _unpack(home)
    return home / "usr/bin"


def _unpack(home: Path) -> None:
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (home / "sources.list").write_text(f"deb [signed-by={keys}] {_mirror()} {SUITE} main\n")
    settings = {
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home,
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "APT::Sandbox::User": "root",
    }
    (home / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    environment = os.environ | {"APT_CONFIG": str(home / "apt.conf")}
    for argv in (["apt-get", "update", "-qq"], ["apt-get", "download", "-qq", *PACKAGES]):
        subprocess.run(argv, check=True, cwd=home, env=environment)
    for package in home.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, home], check=True)
        package.unlink()


def _mirror() -> str:
    """The Debian mirror that this machine uses."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    mirrors = [line for line in listing.splitlines() if "/debian" in line and "security" not in line]
    assert mirrors, "this machine's apt knows no Debian mirror"
    return mirrors[0]


@dataclass(kw_only=True)
class Registry:
    """A registry that runs, or was killed.

    Attributes:
        host: its name, with the port.
        folder: its data, its log, its certificate where it has one.
        secure: whether it has TLS and asks for a password.
        since: lines of its log before it was started for the last time.

    """

    program: Path
    host: str
    folder: Path
    secure: bool
    since: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def certificate(self) -> Path:
        """What it shows, and its own CA."""
        return self.folder / "ca.crt"

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "log").read_text()

    @property
    def uploads(self) -> int:
        """How many times bytes of a blob were sent to it."""
        return len(UPLOAD.findall(self.log))

    @property
    def stored(self) -> set[str]:
        """Digests of the layers and documents that arrived whole."""
        return {f"sha256:{link.parent.name}" for link in self.folder.glob("data/**/_layers/sha256/*/link")}

    def received(self, path: str) -> set[str]:
        """Digests of the blobs that were sent to a repository since the registry was started for the last time."""
        said = "".join(self.log.splitlines(keepends=True)[self.since :])
        puts = re.findall(rf'"PUT /v2/{path}/blobs/uploads/\S*?digest=(\S+?)[& ]', said)
        return {urllib.parse.unquote(digest) for digest in puts}

    def layers(self, path: str, digest: str) -> set[str]:
        """Digests of an image's layers."""
        manifest = self.ask(f"/v2/{path}/manifests/{digest}", Accept=DOCKER_IMAGE).json()
        return {layer["digest"] for layer in manifest["layers"]}

    @property
    def arriving(self) -> int:
        """Bytes of the largest upload that is under way."""
        return max((file.stat().st_size for file in self.folder.glob("data/**/_uploads/*/data")), default=0)

    def start(self) -> None:
        """Run it until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "serve", self.folder / "config.yml"], stdout=log, stderr=log, env={"PATH": ""}
            )
        assert until(self._answers, 20), self.log

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, **headers: str) -> httpx.Response:
        """What it answers to somebody who may."""
        trust = ssl.create_default_context(cafile=self.certificate if self.secure else None)
        with httpx.Client(verify=trust, trust_env=False, auth=(USER, PASSWORD)) as client:
            return client.get(f"{'https' if self.secure else 'http'}://{self.host}{path}", headers=headers)

    def restart(self) -> None:
        """Run it again with what it had stored."""
        self.since = len(self.log.splitlines())
        self.start()

    def wait_for_the_middle(self, process: "subprocess.Popen[str]") -> None:
        """Wait until layers of a push are there and another is under way."""
        middle = until(lambda: process.poll() is not None or (len(self.stored) > 0 and self.arriving > 1 << 20))
        assert middle, self.log
        assert process.poll() is None, "the push ended before it could be disturbed"

    def _answers(self) -> bool:
        try:
            return self.ask("/v2/").is_success
        except httpx.TransportError:
            return False


@contextmanager
def running(
    program: Path, address: str, folder: Path, *, secure: bool, port: int = 0, everywhere: bool = False
) -> Iterator[Registry]:
    """A registry on an address of this machine: with TLS and a password, or with neither.

    Args:
        program: docker-registry.
        address: of this machine, at which it is asked.
        folder: for its data.
        secure: whether it has TLS and asks for a password.
        port: a free one when left out.
        everywhere: whether it listens on all addresses of this machine; it asks for a password then, too.

    """
    port = port or _free_port(address)
    registry = Registry(program=program, host=f"{address}:{port}", folder=folder, secure=secure)
    http: dict[str, object] = {"addr": f":{port}" if everywhere else registry.host}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": http,
    }
    if secure:
        _certify(address, folder)
        http["tls"] = {"certificate": str(registry.certificate), "key": str(folder / "ca.key")}
    if secure or everywhere:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    try:
        registry.start()
        yield registry
    finally:
        registry.kill()


@contextmanager
def trusted(registry: Registry, program: str) -> Iterator[None]:
    """Make the engine trust the registry's certificate, as its owner would; undone at the end."""
    kind = "containers" if Path(program).name == "podman" else "docker"
    folder = Path("/etc") / kind / "certs.d" / registry.host
    if os.geteuid() != 0:
        # What CI skips, nobody sees.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"only root may write {folder}")
    folder.mkdir(parents=True)
    try:
        (folder / "ca.crt").write_bytes(registry.certificate.read_bytes())
        yield
    finally:
        (folder / "ca.crt").unlink(missing_ok=True)
        folder.rmdir()


def login(registry: Registry, folder: Path, password: str = PASSWORD, *names: str) -> dict[str, str]:
    """The environment of somebody who logged in, under its other names too: the engine's configuration in a folder."""
    folder.mkdir()
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    auths = {name: {"auth": token} for name in (registry.host, *names)}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    return {"DOCKER_CONFIG": str(folder), "REGISTRY_AUTH_FILE": str(folder / "config.json")}


def _certify(address: str, folder: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
