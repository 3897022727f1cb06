"""The name of an image in a registry: host, path, and a tag or a digest. Pure."""

import ipaddress
import re
from dataclasses import dataclass, replace

from images.errors import UsageError
from images.plan import LONGEST_NAME, REFERENCE

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FORM = "write HOST/PATH:TAG or HOST/PATH@sha256:<64 hex digits>, such as registry.example/team/model:1"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Where an image is, or is to be, in a registry.

    Attributes:
        host: the registry's name, with its port where it has one.
        path: the repository in it.
        tag: a name that can move; empty for none.
        digest: `sha256:...` of the manifest; empty for none.

    """

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.repository + (f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else "")

    @property
    def repository(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"

    @property
    def is_near(self) -> bool:
        """Whether the registry is on this machine: nobody else can listen there."""
        name = re.sub(r":\d+$", "", self.host).strip("[]")
        try:
            return name == "localhost" or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def at(self, digest: str) -> "Remote":
        """The same repository, by digest alone."""
        return replace(self, tag="", digest=digest)


def parse(text: str) -> Remote:
    """The reference that a text names. Raises `UsageError` for one that names no registry, or is none."""
    name, at, digest = text.partition("@")
    match = REFERENCE.fullmatch(name)
    if not match or len(match["name"]) > LONGEST_NAME or (at and not DIGEST.fullmatch(digest)):
        raise UsageError(f"{text!r} is not the name of an image in a registry", FORM)
    host, _, path = match["name"].partition("/")
    if not path or not (host == "localhost" or set(".:") & set(host)):
        raise UsageError(f"{text!r} names no registry: a host has a dot, or a port, or is localhost", FORM)
    return Remote(host=host, path=path, tag="" if digest else match["tag"] or "", digest=digest)


def destination(registry: str, tag: str, local: str) -> Remote:
    """Where an image is pushed to: the named repository, else the one in its own name, under a tag.

    Args:
        registry: `HOST/PATH[:TAG]`; empty to take it from `local`.
        tag: the tag; empty for the one of `registry`, else of `local`.
        local: the image's name on this machine.

    Raises:
        UsageError: no registry is named, or the name is none.

    """
    if not registry and not _names_host(local):
        raise UsageError(f"no registry was named, and {local} names none", "add --registry HOST/PATH")
    chosen = parse(registry or local)
    if chosen.digest:
        raise UsageError(f"{chosen} names a digest; a push makes one", "add a tag with --tag")
    own = local.rpartition(":")[2] if re.search(r":[\w.-]+$", local) else "latest"
    return parse(f"{chosen.repository}:{tag or chosen.tag or own}")


def _names_host(reference: str) -> bool:
    host, slash, _ = reference.partition("/")
    return bool(slash) and (host == "localhost" or bool(set(".:") & set(host)))
