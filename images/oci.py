"""The documents of a container registry, in the OCI image format and in Docker's that it came from. Pure.

Formats: https://github.com/opencontainers/image-spec (manifest, index, descriptor).
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from images.errors import TrustError

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"

Json = dict[str, Any]


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """How a manifest, or a list of them, points at something."""

    digest: str
    media_type: str = ""
    size: int = 0
    artifact_type: str = ""
    annotations: dict[str, str] | None = None
    platform: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest, as the registry has it.

    Attributes:
        content: its bytes, over which the digest is.
        media_type: what it says it is.
        digest: `sha256:...` of the content.

    """

    content: bytes
    media_type: str
    digest: str

    @functools.cached_property
    def parsed(self) -> Json:
        """The content as JSON."""
        return as_object(self.content, "a manifest")

    def pointers(self, name: str) -> list[Descriptor]:
        """What a list of it points at: `layers` or `manifests`. Raises `TrustError` for what is no such list."""
        return as_descriptors(self.parsed.get(name) or [])

    @property
    def configuration(self) -> str:
        """The digest of the image's configuration, which is its id; empty for a list of images."""
        config = self.parsed.get("config")
        return str(config.get("digest", "")) if isinstance(config, dict) else ""

    @property
    def descriptor(self) -> Json:
        """How another manifest points at this one."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A small document in a manifest: what it is, its bytes, and what is said of it beside."""

    media_type: str
    content: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Json:
        """How a manifest points at it."""
        return describe(self.media_type, self.content) | (
            {"annotations": dict(self.annotations)} if self.annotations else {}
        )


def as_manifest(document: Json) -> Manifest:
    """The manifest of a document that says its media type."""
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return Manifest(content=content, media_type=document["mediaType"], digest=digest_of(content))


def describe(media_type: str, content: bytes) -> Json:
    """The descriptor of some bytes."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def digest_of(content: bytes) -> str:
    """`sha256:...` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def as_object(content: bytes, what: str) -> Json:
    """A JSON object. Raises `TrustError` for anything else."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TrustError(f"the registry has {what} that is no JSON object", "it was not made by this project")
    return value


def as_descriptors(value: object) -> list[Descriptor]:
    """Descriptors from JSON. Raises `TrustError` for what is none."""
    try:
        return msgspec.convert(value, list[Descriptor])
    except msgspec.ValidationError as error:
        raise TrustError(f"the registry has a damaged list: {error}", "it was not made by this project") from error
