"""The references in `processors.json` are what transformers 4.57.6's own processors made of the same picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from images.inside.errors import TooLargeError
from images.inside.vision import pictures, processors
from images.inside.vision.preprocessing import Preprocessor
from images.inside.vision.processors import UnsupportedProcessorError
from tests.inside import seeing

ORIGINALS: dict[str, Any] = json.loads(Path(__file__).with_name("processors.json").read_text())
VIT: dict[str, Any] = ORIGINALS["vit"]["settings"]
CONVNEXT: dict[str, Any] = ORIGINALS["convnext"]["settings"]


@pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS)
def test_pixels_are_the_original_processors(original: dict[str, Any]) -> None:
    facts = processors.facts(original["settings"])
    pixels = Preprocessor(facts).of(pictures._rings(90, 61)).values
    places = np.linspace(0, pixels.size - 1, 12).astype(int)
    assert (list(pixels.shape), str(pixels.dtype)) == (original["shape"], "float32")
    assert pixels.shape[1:] == (facts.height, facts.width)
    assert pixels.reshape(-1)[places].tolist() == pytest.approx(original["values"], abs=2e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_processor_type": "DonutImageProcessor"}, "DonutImageProcessor"),
        ({"image_processor_type": None}, "None"),
        ({"do_pad": True}, "do_pad=True"),
        ({"size_divisor": 32}, "size_divisor=32"),
        ({"size": {"longest_edge": 40}}, "longest_edge"),
        ({"size": {"shortest_edge": 32, "longest_edge": 40}}, "longest_edge"),
        ({"size": {"height": 0, "width": 4}}, "size="),
        ({"size": {"shortest_edge": 32}}, "different sizes"),
        ({"do_resize": False}, "different sizes"),
        ({"resample": 9}, "resample=9"),
        ({"resample": None}, "resample=None"),
        ({"do_center_crop": True, "crop_size": {"shortest_edge": 3}}, "crop_size="),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": None}, "image_std"),
        ({"do_normalize": False, "include_top": True}, "include_top"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedProcessorError, match=named):
        processors.facts({**VIT, **changes})


@pytest.mark.parametrize("changes", [{"crop_pct": None}, {"crop_pct": 2}, {"size": {"height": 4, "width": 4}}])
def test_of_convnexts_too(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedProcessorError, match=next(iter(changes))):
        processors.facts({**CONVNEXT, **changes})


@pytest.mark.parametrize(
    "changes", [{"do_pad": False}, {"size_divisor": None}, {"do_convert_rgb": True}, {"default_to_square": True}]
)
def test_a_setting_that_does_nothing_is_no_obstacle(changes: dict[str, Any]) -> None:
    assert processors.facts({**VIT, **changes}) == processors.facts(VIT)


def test_one_number_for_all_channels_is_a_mean() -> None:
    assert processors.facts({**VIT, "image_mean": 0.5}).mean == [0.5, 0.5, 0.5]


def test_channels_come_first_and_in_the_order_red_green_blue() -> None:
    pixels = Preprocessor(seeing.FACTS).of(Image.new("RGB", (3, 3), (255, 51, 0))).values
    assert pixels[:, 0, 0].tolist() == pytest.approx([1.0, 0.2, 0.0])


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1)])
def test_a_picture_of_one_pixel_is_a_picture(size: tuple[int, int]) -> None:
    assert Preprocessor(seeing.FACTS).of(Image.new("RGB", size)).values.shape == (3, 8, 6)


def test_a_line_of_pixels_does_not_become_a_huge_picture() -> None:
    facts = processors.facts(ORIGINALS["bit"]["settings"])
    with pytest.raises(TooLargeError):
        Preprocessor(facts).of(Image.new("RGB", (40_000, 1)))
