"""Removes what builds leave on this machine, or everything that this project put there."""

import shutil
from collections.abc import Callable
from pathlib import Path

from images import engine
from images.config import Config
from images.plan import LABEL

LEFT = ("builds", "locks", "logs")


def run(config: Config, dist: Path, *, everything: bool, say: Callable[[str], None]) -> None:
    """Remove logs, build folders, unnamed images and the build cache; with `everything` all else of ours."""
    machine = engine.find(config)
    if machine and everything:
        for image in machine.images(f"{LABEL}.target"):
            say(f"removing image {image}")
            machine.remove(image)
    if machine:
        say(f"pruning {machine}")
        machine.prune()
    for folder in [config.cache / name for name in LEFT] + ([dist] if everything else []):
        _remove(folder, say)
    if everything:
        if engine.stop_daemon(config):
            say("stopped dockerd")
        _remove(config.cache, say)


def _remove(folder: Path, say: Callable[[str], None]) -> None:
    if folder.exists():
        say(f"removing {folder}")
        shutil.rmtree(folder, ignore_errors=True)
