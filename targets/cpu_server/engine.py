"""`transformers serve` on the CPU."""

from pathlib import Path

from images.inside import threads
from images.inside.engine.contract import Launch, Wish
from images.inside.errors import CannotRunError
from images.inside.records import Manifest
from images.inside.transformers_serve.launch import Memory, launch

DEVICE = "cpu"
SHARE = 0.5
"""Of the memory that weights and program leave, for the cache: a machine of CPUs is seldom for one server alone."""


def prepare(artifact: Path, manifest: Manifest, wish: Wish) -> Launch:
    """The engine with a cache that fits into this container. Raises `CannotRunError`."""
    if wish.device not in {"", DEVICE}:
        raise CannotRunError(f"this image has torch for {DEVICE} only, not for {wish.device}")
    return launch(artifact, manifest, wish, DEVICE, Memory(threads.memory_limit(), "memory", SHARE))
