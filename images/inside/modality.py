"""What a model takes: how its inputs are prepared, and how they become a batch and outputs again.

Each kind of input is one row here. All else (the queue, the server, the gate) handles items without looking into them.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from images.inside import collate
from images.inside.compare import PIXELS
from images.inside.contract import FloatArray, Outputs, Pixels, Runner
from images.inside.errors import ArtifactError
from images.inside.records import Manifest, Source
from images.inside.text import TOKENIZER, Tokenizer
from images.inside.vision.preprocessing import Preprocessor

PROBES = 4096
"""Values of a preprocessed picture that the reference keeps: enough to see any wrong step, and not megabytes."""


class Modality(NamedTuple):
    """One kind of input.

    Attributes:
        unit: what work is measured in: an item's `length` counts it.
        files: what its processor reads of the artifact.
        processor: loads what a task's `prepare` is given. Raises `ArtifactError`.
        predict: runs items, as one batch where the model bears it; one mapping of outputs an item, in order.
        inputs: what the gate compares of an item beside the outputs.
        raw: the media type of a request whose body is one input as it is; empty for JSON only.
        inline: whether a small request is prepared at once: a small text is soon read, a small file may be any picture.

    """

    unit: str
    files: tuple[str, ...]
    processor: Callable[[Path, Manifest], Any]
    predict: Callable[[Runner, Sequence[Any], Manifest], list[Outputs]]
    inputs: Callable[[Any], Outputs]
    raw: str
    inline: bool


def of(facts: Manifest | Source) -> Modality:
    """The modality of a model's inputs."""
    return VISION if facts.image else TEXT


def _preprocessor(artifact: Path, manifest: Manifest) -> Preprocessor:
    del artifact
    if manifest.image is None:
        raise ArtifactError("the manifest does not say how pictures are preprocessed")
    return Preprocessor(manifest.image)


def _stacked(runner: Runner, items: Sequence[Pixels], manifest: Manifest) -> list[Outputs]:
    """Pictures are all of one size: a batch is their stack."""
    del manifest
    outputs = runner.predict({PIXELS: np.stack([item.values for item in items])})
    return [{name: array[row] for name, array in outputs.items()} for row in range(len(items))]


def probes(values: FloatArray) -> FloatArray:
    """Values spread over a preprocessed picture: of every channel, row by row, at a step that comes to all columns."""
    step = max(1, values.size // PROBES)
    while math.gcd(step, values.shape[-1]) > 1:
        step += 1
    kept: FloatArray = values.reshape(-1)[::step]
    return kept


TEXT = Modality("tokens", (TOKENIZER,), Tokenizer.load, collate.predict, lambda _: {}, raw="", inline=True)
VISION = Modality(
    "patches", (), _preprocessor, _stacked, lambda item: {PIXELS: probes(item.values)}, raw="image/*", inline=False
)
