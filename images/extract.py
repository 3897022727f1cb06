"""The artifact of an image as a folder: what an application ships that does not run containers."""

import shutil
import tarfile
from pathlib import Path

from images.engine import Engine
from images.errors import GateError, UsageError, disk_guard
from images.inside.errors import ArtifactError
from images.inside.records import Manifest, read_manifest
from images.inside.smoke import check_files
from images.record import ARTIFACT


def run(engine: Engine, image: str, out: Path) -> Manifest:
    """Copy the artifact of an image to a new folder and check every file against its manifest.

    Raises:
        UsageError: the folder is there already and holds something.
        EngineError: there is no such image.
        GateError: a file is not what the manifest says; nothing is left behind.

    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already", "name a folder that does not exist yet, or an empty one")
    engine.require_image(image)
    fresh = out.with_name(f"{out.name}.new")
    try:
        with disk_guard(out.parent):
            _copy(engine, image, fresh)
        manifest = _checked(fresh)
        if out.exists():
            out.rmdir()
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _copy(engine: Engine, image: str, out: Path) -> None:
    out.mkdir(parents=True)
    with engine.files(image) as files:
        for member in files:
            if member.isfile() and member.name.startswith(ARTIFACT):
                _write(files, member, out)


def _write(files: tarfile.TarFile, member: tarfile.TarInfo, out: Path) -> None:
    member.name = member.name.removeprefix(ARTIFACT)
    # Refuses absolute names and those that lead out of the folder.
    files.extract(member, out, filter="data")


def _checked(folder: Path) -> Manifest:
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
    except ArtifactError as error:
        raise GateError(f"the artifact is damaged: {error}", "build the image again") from error
    return manifest
