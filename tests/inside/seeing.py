"""What the tests of models for pictures serve: a small real classifier, pictures for it, the server around it."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from images.inside import modality, tasks
from images.inside.contract import Batch, Outputs
from images.inside.loaded import Loaded
from images.inside.records import ImageFacts, Manifest
from images.inside.server import running
from images.inside.settings import Settings
from tests.inside import serving

FACTS = ImageFacts(
    height=8, width=6, resize=[8, 6], resample=0, crop=[], scale=1 / 255, mean=[0, 0, 0], std=[1, 1, 1], processor="X"
)
LABELS = ["red", "green", "blue"]


def manifest(**changes: Any) -> Manifest:
    """A classifier's manifest."""
    usual: dict[str, Any] = {"task": "image-classification", "embedding": None, "max_length": 0}
    return serving.manifest(**{**usual, "labels": LABELS, "image": FACTS, **changes})


class ColourRunner:
    """A model that says how much of each colour there is; notes the shapes it is asked."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, batch: Batch) -> Outputs:
        """The mean of each channel, times 4."""
        pixels = batch["pixel_values"]
        self.shapes.append(pixels.shape)
        return {"logits": pixels.mean(axis=(2, 3), dtype=np.float32) * 4}

    def describe(self) -> dict[str, str]:
        """Its name."""
        return {"runtime": "colours"}


def loaded(facts: Manifest | None = None, runner: ColourRunner | None = None) -> Loaded:
    """The model as the server's start gives it."""
    facts = facts or manifest()
    processor = modality.of(facts).processor(Path(), facts)
    task = tasks.load(facts.task)
    return Loaded(artifact=Path(), manifest=facts, processor=processor, task=task, runner=runner or ColourRunner())


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    """A ready server on the loopback: its URL."""
    with running(manifest(), Settings(**settings), loaded) as url:
        yield url


def file(colour: Any = "red", form: str = "PNG", size: tuple[int, int] = (12, 16), mode: str = "RGB") -> bytes:
    """A picture of one colour."""
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, form)
    return out.getvalue()


def text(content: bytes | None = None) -> str:
    """A file as base64."""
    return base64.b64encode(file() if content is None else content).decode()
