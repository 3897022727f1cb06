"""A root file system as an OCI image layout: how a builder elsewhere gets a base that no registry has.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import context
from images.base import Base

TAG = "base"
"""The name of the only image in a layout."""
OCI = "application/vnd.oci.image"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One image in a folder.

    Attributes:
        reference: the name that a Dockerfile has for it.
        folder: the layout.
        digest: `sha256:...` of its manifest.

    """

    reference: str
    folder: Path
    digest: str


def write(bases: Sequence[Base], machine: str, folder: Path) -> list[Layout]:
    """A layout for each base, below a folder; the root file systems are linked, not copied.

    Args:
        bases: what builds start from.
        machine: as `uname -m` says.
        folder: on their file system.

    """
    return [_write(base, ARCHITECTURES.get(machine, machine), folder / base.kind) for base in bases]


def _write(base: Base, architecture: str, folder: Path) -> Layout:
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [base.digest]},
    }
    layer = {"mediaType": f"{OCI}.layer.v1.tar", "digest": base.digest, "size": base.tar.stat().st_size}
    context.link(base.tar, folder / "blobs" / base.digest.replace(":", "/"))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _blob(folder, config, f"{OCI}.config.v1+json"),
        "layers": [layer],
    }
    named = {
        **_blob(folder, manifest, f"{OCI}.manifest.v1+json"),
        "annotations": {"org.opencontainers.image.ref.name": TAG},
    }
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return Layout(reference=base.reference, folder=folder, digest=named["digest"])


def _blob(folder: Path, document: Json, media_type: str) -> dict[str, Any]:
    """Store a document; its descriptor."""
    content = json.dumps(document).encode()
    digest = hashlib.sha256(content).hexdigest()
    (folder / "blobs/sha256" / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
