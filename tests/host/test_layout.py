"""A base as an OCI image layout: every digest is that of the bytes that it names."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from images import layout
from images.base import Base
from images.layout import Layout

TAR = b"a root file system"


@pytest.fixture
def base(tmp_path: Path) -> Base:
    file = tmp_path / "runtime.tar"
    file.write_bytes(TAR)
    return Base(kind="runtime", tar=file, digest=f"sha256:{hashlib.sha256(TAR).hexdigest()}")


@pytest.fixture
def written(base: Base, tmp_path: Path) -> Layout:
    (made,) = layout.write([base], "x86_64", tmp_path / "out")
    return made


def read(written: Layout, digest: str) -> Any:
    return json.loads((written.folder / "blobs" / digest.replace(":", "/")).read_bytes())


def test_every_blob_is_called_by_its_digest(written: Layout) -> None:
    blobs = list((written.folder / "blobs/sha256").iterdir())
    assert len(blobs) == 3
    assert all(hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name for blob in blobs)


def test_the_index_names_the_manifest_by_tag_and_digest(written: Layout) -> None:
    (only,) = json.loads((written.folder / "index.json").read_text())["manifests"]
    assert only["annotations"] == {"org.opencontainers.image.ref.name": layout.TAG}
    assert only["digest"] == written.digest
    assert only["size"] == len(json.dumps(read(written, written.digest)))


def test_the_image_is_the_bases_file_system_and_nothing_else(written: Layout, base: Base) -> None:
    manifest = read(written, written.digest)
    (layer,) = manifest["layers"]
    assert (layer["digest"], layer["size"]) == (base.digest, len(TAR))
    config = read(written, manifest["config"]["digest"])
    assert (config["architecture"], config["rootfs"]["diff_ids"], config["config"]) == ("amd64", [base.digest], {})


def test_the_file_system_is_linked_and_not_copied(written: Layout, base: Base) -> None:
    blob = written.folder / "blobs" / base.digest.replace(":", "/")
    assert blob.samefile(base.tar)


def test_a_layout_stands_for_the_reference_in_the_dockerfile(written: Layout, base: Base) -> None:
    assert written.reference == base.reference
