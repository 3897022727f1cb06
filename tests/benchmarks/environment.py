"""Environments of what images are compared with: an exporter's locked wheels, a list of pinned packages, or both."""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from images import pip, wheels
from images.config import ROOT, Config
from images.errors import UsageError
from images.progress import Progress


def python(name: str, lock: Path | None, config: Config, progress: Progress) -> Path:
    """A Python with everything installed, made once.

    Args:
        name: of the list of packages: `requirements.<name>.txt` beside this file, where there is one.
        lock: locked wheels that it has besides.
        config: where it is kept, and the locks' Python.
        progress: told when it is made.

    Raises:
        UsageError: this Python's version is not the locks'.
        ImageError: pip could not bring or build a package.

    """
    if (found := f"{sys.version_info.major}.{sys.version_info.minor}") != config.bootstrap.python:
        raise UsageError(
            f"the wheels are locked for Python {config.bootstrap.python}, and this is {found}",
            f"run it with Python {config.bootstrap.python}",
        )
    listed = ROOT / "tests" / "benchmarks" / f"requirements.{name}.txt"
    files = [file for file in (lock, listed) if file and file.exists()]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    folder = config.cache / "benchmark" / f"{name}-{digest[:16]}"
    if not folder.exists():
        progress.step(f"making the environment {name} to compare with")
        _make(folder, files, lock, config, progress)
    return folder / "bin" / "python"


def versions(python: Path) -> dict[str, str]:
    """The packages installed beside a Python of `python`."""
    folders = [str(folder) for folder in (python.parent.parent / "lib").glob("python*/site-packages")]
    return {found.name: found.version for found in importlib.metadata.distributions(path=folders)}


def _make(folder: Path, files: list[Path], lock: Path | None, config: Config, progress: Progress) -> None:
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(fresh)], check=True)
    into = fresh / "bin" / "python"
    try:
        for file in files:
            pip.install(into, _locked(file, config, progress) if file == lock else ["-r", str(file)], progress.detail)
    except pip.PipError as error:
        shutil.rmtree(fresh)
        raise pip.explained(error, config.cache, "pip could not install") from error
    fresh.rename(folder)


def _locked(lock: Path, config: Config, progress: Progress) -> list[str]:
    found = wheels.collect(
        lock,
        config.cache,
        python=config.bootstrap.python,
        extra_index_url=config.extra_index_url,
        report=progress.detail,
    )
    return ["--no-index", "--no-deps", *map(str, found)]
