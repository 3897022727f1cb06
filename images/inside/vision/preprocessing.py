"""RGB pixels to `pixel_values`, by what the manifest says: what transformers' image processors do, without torch.

An 8-bit value has only 256 results, so that rescaling and normalisation are one look-up table a channel. Its entries
are made by the original's own arithmetic, step by step in its own types, and are equal to it to the last bit.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from images.inside.contract import FloatArray, Pixels
from images.inside.records import ImageFacts
from images.inside.vision import decoding

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = NDArray[np.uint8]


class Preprocessor:
    """Makes what the model is given of pictures. Its methods may be called from several threads."""

    def __init__(self, facts: ImageFacts) -> None:
        self._facts = facts
        self._tables = tables(facts)
        self._order = [facts.channels.index(channel) for channel in "RGB"]

    def pixels(self, content: bytes) -> Pixels:
        """A picture's file, preprocessed. Raises `InputError` and `TooLargeError`."""
        return self.of(decoding.decode(content))

    def of(self, picture: "Image") -> Pixels:
        """An RGB picture, preprocessed. Raises `TooLargeError` when resizing would make too many pixels of it."""
        values = crop(np.asarray(resize(picture, self._facts)), self._facts.crop)
        out = np.empty((3, *values.shape[:2]), np.float32)
        for channel, place in enumerate(self._order):
            np.take(self._tables[channel], values[..., channel], out=out[place])
        return Pixels(out)


def resize(picture: "Image", facts: ImageFacts) -> "Image":
    """The picture in the size that the original's processor makes of it. Raises `TooLargeError`."""
    from PIL import Image

    size = _size(picture.width, picture.height, facts.resize)
    decoding.check_pixels(*size)  # a line of pixels becomes a large picture when its short edge grows
    return picture if not facts.resize else picture.resize(size, Image.Resampling(facts.resample))


def _size(width: int, height: int, wanted: list[int]) -> tuple[int, int]:
    """Width and height after resizing."""
    if not wanted:
        return width, height
    if len(wanted) == 1:
        (edge,) = wanted
        longer = int(edge * max(width, height) / min(width, height))
        return (edge, longer) if width <= height else (longer, edge)
    return wanted[1], wanted[0]


def crop(values: Bytes, size: list[int]) -> Bytes:
    """The middle of a picture, [height, width, 3]; where it is too small, black around it."""
    if not size:
        return values
    for axis, wanted in enumerate(size):
        values = _crop_axis(values, axis, wanted)
    return values


def _crop_axis(values: Bytes, axis: int, wanted: int) -> Bytes:
    length = values.shape[axis]
    if length >= wanted:
        start = (length - wanted) // 2
        return values[(slice(None),) * axis + (slice(start, start + wanted),)]
    before = -(-(wanted - length) // 2)
    around = [(0, 0)] * values.ndim
    around[axis] = (before, wanted - length - before)
    return np.pad(values, around)


def tables(facts: ImageFacts) -> FloatArray:
    """What each 8-bit value becomes, float32 of shape [3, 256] by channel R, G, B."""
    values = (np.arange(256).astype(np.float64) * facts.scale).astype(np.float32) - np.float32(facts.offset)
    mean, std = (np.array(numbers, np.float32)[:, None] for numbers in (facts.mean, facts.std))
    table = (values[None] - mean) / std
    return table / std if facts.twice else table
