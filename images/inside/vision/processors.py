"""The settings of transformers' image processors as the manifest's facts; what is not known here is refused by name.

A wrong guess would give a model that answers, and answers a little worse. So nothing is ignored but what is listed.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from images.inside.records import ImageFacts

Settings = Mapping[str, Any]
WARPED_FROM = 384
"""ConvNext's processor keeps proportions below this edge, and warps the whole picture from it on."""
LEVIT = 256 / 224
"""What LeViT's processor enlarges the shortest edge by, to crop it away again."""


class UnsupportedProcessorError(ValueError):
    """The original preprocesses in a way that is not known here; the message names the setting."""


class Geometry(NamedTuple):
    """How a picture gets its size: as `ImageFacts` says it."""

    resize: list[int]
    crop: list[int]


def facts(settings: Settings) -> ImageFacts:
    """What a processor does, from all its settings.

    Args:
        settings: `preprocessor_config.json` with the class's defaults filled in, as its `to_dict()` says them.

    Raises:
        UnsupportedProcessorError: it does something that is not known here.

    """
    name = str(settings.get("image_processor_type", ""))
    geometry = GEOMETRIES.get(name)
    if geometry is None:
        raise UnsupportedProcessorError(f"the image processor {name or '(unnamed)'} is not known")
    _require_known(settings)
    resize, crop = geometry(settings)
    height, width = _final(resize, crop, settings)
    return ImageFacts(
        height=height,
        width=width,
        resize=resize,
        resample=_filter(settings) if resize else 0,
        crop=crop,
        **_colours(settings, name),
        processor=name,
    )


def _require_known(settings: Settings) -> None:
    unknown = sorted(key for key, value in settings.items() if key not in KNOWN and value not in (None, False))
    if unknown:
        raise UnsupportedProcessorError(f"the image processor's setting {unknown[0]}={settings[unknown[0]]!r}")


def _final(resize: list[int], crop: list[int], settings: Settings) -> tuple[int, int]:
    """Height and width of every picture, which must be one for all: a batch is a stack of them."""
    size = crop or resize
    if len(size) != 2:  # noqa: PLR2004 - height and width
        raise UnsupportedProcessorError(
            f"pictures of different sizes, which size={settings.get('size')} without a crop gives"
        )
    return size[0], size[1]


def _filter(settings: Settings) -> int:
    resample = settings.get("resample")
    if not isinstance(resample, int) or not 0 <= resample <= 5:  # noqa: PLR2004 - Pillow's filters
        raise UnsupportedProcessorError(f"the image processor's setting resample={resample!r}")
    return int(resample)


def _colours(settings: Settings, name: str) -> dict[str, Any]:
    """Scale, offset, mean, std and the channels' order."""
    normalize, again = bool(settings.get("do_normalize")), bool(settings.get("include_top"))
    if again and not normalize:
        raise UnsupportedProcessorError("the image processor's setting include_top without do_normalize")
    rescale = bool(settings.get("do_rescale"))
    return {
        "scale": float(settings["rescale_factor"]) if rescale else 1.0,
        "offset": 1.0 if rescale and settings.get("rescale_offset") else 0.0,
        "mean": _by_channel(settings, "image_mean") if normalize else [0.0] * 3,
        "std": _by_channel(settings, "image_std") if normalize else [1.0] * 3,
        "twice": again,
        "channels": "BGR" if settings.get("do_flip_channel_order") and name in FLIPPING else "RGB",
    }


def _by_channel(settings: Settings, key: str) -> list[float]:
    given = settings.get(key)
    values: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * 3
    if len(values) != 3 or not all(isinstance(value, int | float) for value in values):  # noqa: PLR2004 - R, G, B
        raise UnsupportedProcessorError(f"the image processor's setting {key}={given!r}")
    return [float(value) for value in values]


def _usual(settings: Settings, enlarge: float = 1.0) -> Geometry:
    """Resize to `size`, crop to `crop_size`; each if the processor says so."""
    resize = _size(settings, "size", enlarge) if settings.get("do_resize") else []
    crop = _size(settings, "crop_size") if settings.get("do_center_crop") else []
    if len(crop) == 1:
        raise UnsupportedProcessorError(f"the image processor's setting crop_size={settings.get('crop_size')!r}")
    return Geometry(resize, crop)


def _size(settings: Settings, key: str, enlarge: float = 1.0) -> list[int]:
    given = settings.get(key)
    match given:
        case {"height": int(height), "width": int(width), **rest} if not rest and height > 0 and width > 0:
            return [height, width]
        case {"shortest_edge": int(edge), **rest} if not rest and edge > 0:
            return [int(enlarge * edge)]
    raise UnsupportedProcessorError(f"the image processor's setting {key}={given!r}")


def _convnext(settings: Settings) -> Geometry:
    """Below 384 the shortest edge becomes `size / crop_pct` and the middle is kept; from there on, nothing is cut."""
    if not settings.get("do_resize"):
        return Geometry([], [])
    (edge, *more) = _size(settings, "size")
    if more:
        raise UnsupportedProcessorError(f"the image processor's setting size={settings.get('size')!r}")
    if edge >= WARPED_FROM:
        return Geometry([edge, edge], [])
    share = settings.get("crop_pct")
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise UnsupportedProcessorError(f"the image processor's setting crop_pct={share!r}")
    return Geometry([int(edge / share)], [edge, edge])


def _levit(settings: Settings) -> Geometry:
    return _usual(settings, LEVIT)


GEOMETRIES: Mapping[str, Callable[[Settings], Geometry]] = {
    "BeitImageProcessor": _usual,
    "BitImageProcessor": _usual,
    "CLIPImageProcessor": _usual,
    "ConvNextImageProcessor": _convnext,
    "DeiTImageProcessor": _usual,
    "EfficientNetImageProcessor": _usual,
    "LevitImageProcessor": _levit,
    "MobileNetV1ImageProcessor": _usual,
    "MobileNetV2ImageProcessor": _usual,
    "MobileViTImageProcessor": _usual,
    "PvtImageProcessor": _usual,
    "SiglipImageProcessor": _usual,
    "ViTImageProcessor": _usual,
}
"""Image processors by the name of their class, and how they give pictures their size."""
FLIPPING = ("MobileViTImageProcessor",)
"""Those that give the channels back in the order blue, green, red."""
KNOWN = frozenset(
    [
        *("do_resize", "size", "resample", "crop_pct", "do_center_crop", "crop_size"),
        *("do_rescale", "rescale_factor", "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top"),
        "do_flip_channel_order",
        # every picture is RGB before a processor sees it
        "do_convert_rgb",
        # about the labels of segmentation only
        *("do_reduce_labels", "reduce_labels"),
        # how a size that is one number is read: the slow processor has read it
        "default_to_square",
        # names, and the form of what is given back
        *("image_processor_type", "feature_extractor_type", "processor_class", "_processor_class"),
        *("_valid_processor_keys", "data_format", "input_data_format", "return_tensors"),
    ]
)
