"""What this machine's container engine knows of a registry: who may log in, and which certificates are trusted.

Files and helper programs are the engine's own; nothing is asked for, kept or printed here.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from images.errors import AccessError, UsageError

HUB = "docker.io"


class Credentials(NamedTuple):
    """A login: a name with its password, or a token to be exchanged for others. All empty for none."""

    name: str = ""
    password: str = ""
    identity: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.name or 'none'})"


def find(host: str, environment: Mapping[str, str] = os.environ) -> Credentials:
    """The login for a registry that `docker login` or `podman login` left, or a credential helper knows.

    Raises `AccessError` for a helper that fails, `UsageError` for a file that is none.
    """
    from docker import auth, errors  # noqa: PLC0415 - start-up time

    for file in _files(environment):
        try:
            entry = auth.load_config(config_path=str(file)).resolve_authconfig(host) or {}
        except errors.InvalidConfigFile as error:
            raise UsageError(f"{file} is not a container engine's configuration: {error}", "log in again") from error
        except errors.DockerException as error:
            raise AccessError(
                f"the credential helper for {host} failed ({file})", "log in again, or repair it"
            ) from error
        found = {key.lower(): value for key, value in entry.items()}
        login = Credentials(found.get("username") or "", found.get("password") or "", found.get("identitytoken") or "")
        if any(login):
            return login
    return Credentials()


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files in which engines keep logins, podman's first: it reads docker's as well."""
    home = Path(environment.get("HOME") or Path.home())
    runtime = environment.get("XDG_RUNTIME_DIR")
    named = environment.get("REGISTRY_AUTH_FILE")
    places = [
        Path(named) if named else None,
        Path(runtime) / "containers/auth.json" if runtime else None,
        home / ".config/containers/auth.json",
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    ]
    yield from (place for place in places if place and place.is_file())


def trusted(host: str, environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> ssl.SSLContext:
    """The certificates that a registry is held to: the system's (SSL_CERT_FILE), and the engine's `certs.d/<host>`."""
    context = ssl.create_default_context()
    for folder in _certificates(host, environment, root):
        for file in sorted(folder.glob("*.crt")):
            context.load_verify_locations(file)
        for file in sorted(folder.glob("*.cert")):
            context.load_cert_chain(file, file.with_suffix(".key"))
    return context


def _certificates(host: str, environment: Mapping[str, str], root: Path) -> list[Path]:
    home = Path(environment.get("HOME") or Path.home())
    parents = [
        root / "etc/docker",
        root / "etc/containers",
        home / ".config/docker",
        home / ".config/containers",
    ]
    return [folder for folder in (parent / "certs.d" / host for parent in parents) if folder.is_dir()]
