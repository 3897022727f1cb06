"""A plan to a build folder: texts written, weights and wheels hard-linked, never copied on one file system."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock

from images.config import ROOT
from images.plan import Plan

IN_IMAGE = ("*.py", "*.html")
NATIVE = ("*.cpp", "*.h", "CMakeLists.txt")
"""Sources that a target compiles in its builder."""


def code(module: str, root: Path = ROOT) -> dict[str, bytes]:
    """The in-image code and the target's own, by their path in the context."""
    files = [
        root / "images/__init__.py",
        *_of((root / "images/inside"), IN_IMAGE),
        *_of((root / "targets" / module), (*IN_IMAGE, *NATIVE)),
    ]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def _of(folder: Path, kinds: Sequence[str]) -> list[Path]:
    return sorted(file for kind in kinds for file in folder.rglob(kind))


@contextmanager
def write(
    plan: Plan, *, model: Mapping[str, Path], wheels: Mapping[str, Sequence[Path]], cache: Path
) -> Iterator[Path]:
    """The build folder; emptied at the end.

    The path is the same from build to build of one target, because engines send only what changed since the
    last context from the same path. Builds at the same time take the next free one.

    Args:
        plan: the build.
        model: the model's files by their path in its folder.
        wheels: the wheels of each locked environment.
        cache: where the folder is made: the wheels' own file system.

    Yields:
        The folder, holding `Dockerfile`, `images/`, `targets/`, `job/`, `model/` and `wheels/`.

    """
    with _free_folder(cache / "builds", plan.target.module) as folder:
        try:
            for path, text in plan.texts.items():
                _write(folder / path, text)
            for path, source in model.items():
                link(source, folder / "model" / path)
            for environment, paths in wheels.items():
                for wheel in paths:
                    link(wheel, folder / "wheels" / environment / wheel.name)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _free_folder(builds: Path, name: str) -> Iterator[Path]:
    builds.mkdir(parents=True, exist_ok=True)
    for slot in range(1000):
        try:
            with filelock.FileLock(builds / f"{name}-{slot}.lock", timeout=0):
                shutil.rmtree(builds / f"{name}-{slot}", ignore_errors=True)
                (builds / f"{name}-{slot}").mkdir()
                yield builds / f"{name}-{slot}"
                return
        except filelock.Timeout:
            continue


def _write(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    path.chmod(0o644)


def link(source: Path, path: Path) -> None:
    """Make a path another name of a file: a hard link, or a copy where there can be none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), path)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, path)


def copy(folder: Path, to: Path) -> None:
    """Another name of a whole folder: hard links where there can be any."""
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        link(source, to / source.relative_to(folder))
