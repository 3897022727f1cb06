"""Removes what builds leave on this machine, or everything that this project put there."""

import shutil
from collections.abc import Callable
from pathlib import Path

from images import base, engines
from images.config import Config
from images.engine import Engine
from images.plan import LABEL

LEFT = ("builds", "locks", "logs")


def run(config: Config, dist: Path, *, everything: bool, say: Callable[[str], None]) -> None:
    """Remove logs, build folders and the build cache of our own engine; with `everything` all else of ours.

    A user's own engine keeps its build cache and its unnamed images: they may be of other projects.
    """
    machine = engines.find(config)
    if machine and everything:
        _remove_images(machine, config, say)
    if machine and engines.is_ours(machine, config):
        say(f"pruning {machine}")
        machine.prune()
    for folder in [config.cache / name for name in LEFT] + ([dist] if everything else []):
        _remove(folder, say)
    if everything:
        if engines.stop(config):
            say("stopped dockerd")
        _remove(config.cache, say)


def _remove_images(machine: Engine, config: Config, say: Callable[[str], None]) -> None:
    bases = [each.reference for each in base.cached(config) or ()]
    for image in [*machine.images(f"{LABEL}.target"), *bases]:
        say(f"removing image {image}")
        machine.remove(image)


def _remove(folder: Path, say: Callable[[str], None]) -> None:
    if folder.exists():
        say(f"removing {folder}")
        shutil.rmtree(folder, ignore_errors=True)
