"""The environment of what the image is compared with: the exporter's locked wheels, and FastAPI with uvicorn."""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from images import pip, wheels
from images.config import Config
from images.errors import UsageError
from images.progress import Progress
from images.spec import TargetSpec

SERVER = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0")


def python(target: TargetSpec, config: Config, progress: Progress) -> Path:
    """A Python with everything installed, made once for a lock. Raises `UsageError` for a Python of another version."""
    lock = target.lock(target.exporters[0])
    if (found := f"{sys.version_info.major}.{sys.version_info.minor}") != config.bootstrap.python:
        raise UsageError(
            f"the wheels are locked for Python {config.bootstrap.python}, and this is {found}",
            f"run it with Python {config.bootstrap.python}",
        )
    digest = hashlib.sha256(lock.read_bytes() + repr(SERVER).encode()).hexdigest()
    folder = config.cache / "benchmark" / digest[:16]
    if not folder.exists():
        progress.step("installing sentence-transformers and FastAPI to compare with")
        _make(folder, lock, config, progress)
    return folder / "bin" / "python"


def versions(python: Path) -> dict[str, str]:
    """The packages installed beside a Python of `python`."""
    folders = [str(folder) for folder in (python.parent.parent / "lib").glob("python*/site-packages")]
    return {found.name: found.version for found in importlib.metadata.distributions(path=folders)}


def _make(folder: Path, lock: Path, config: Config, progress: Progress) -> None:
    extra = config.extra_index_url
    files = wheels.collect(
        lock, config.cache, python=config.bootstrap.python, extra_index_url=extra, report=progress.detail
    )
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(fresh)], check=True)
    try:
        pip.install(fresh / "bin" / "python", ["--no-index", "--no-deps", *map(str, files)], progress.detail)
        pip.install(fresh / "bin" / "python", SERVER, progress.detail)
    except pip.PipError as error:
        raise pip.explained(error, config.cache, "pip could not install") from error
    fresh.rename(folder)
