"""The gate's pictures, drawn here: every mode and format that decodes in its own way, and every awkward shape."""

import base64
import functools
import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned."""
QUARTER = 6
"""Its value for a picture that its viewer turns by 90 degrees."""


@functools.cache
def suite() -> dict[str, str | list[str]]:
    """Pictures as base64, by name: eight inputs, one of them a batch."""
    return {
        "gradient": _file(_gradient(96, 64), "PNG", optimize=True),
        "noise": _file(_noise(120, 90), "WEBP", quality=60),
        "grey": _file(_gradient(80, 100).convert("L"), "JPEG"),
        "transparent": _file(_transparent(), "PNG", optimize=True),
        "palette": _file(_rings(150, 150).quantize(16), "PNG", optimize=True),
        "rotated": _file(_rings(160, 90), "JPEG", exif=_turned()),
        "batch": [
            # not 1 x 1: the original takes a picture 1 or 3 pixels high for one whose first axis is its channels
            _file(_gradient(2, 2), "PNG"),
            _file(_rings(320, 20), "JPEG"),
            _file(_rings(20, 320), "WEBP", quality=70),
        ],
        "large": _file(_rings(1600, 1200), "JPEG", quality=20),
    }


def photograph(width: int, height: int) -> bytes:
    """A JPEG that costs about as much as a photograph of its size."""
    from PIL import Image

    rings, noise = _rings(width, height), _noise(width // 4 + 1, height // 4 + 1).resize((width, height))
    return _bytes(Image.blend(rings, noise, 0.3), "JPEG", quality=85)


def _file(picture: "Image", form: str, **options: Any) -> str:
    return base64.b64encode(_bytes(picture, form, **options)).decode()


def _bytes(picture: "Image", form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def _picture(red: Any, green: Any, blue: Any) -> "Image":
    from PIL import Image

    channels = [np.clip(channel, 0, 255).astype(np.uint8) for channel in np.broadcast_arrays(red, green, blue)]
    return Image.fromarray(np.stack(channels, axis=-1))


def _axes(width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows, 0 to 1."""
    return np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]


def _gradient(width: int, height: int) -> "Image":
    """Red grows to the right, green downwards, blue not at all: what is swapped or turned shows."""
    x, y = _axes(width, height)
    return _picture(255 * x, 200 * y, 60)


def _rings(width: int, height: int) -> "Image":
    """Rings around a point off the middle, of other colours on each side."""
    x, y = _axes(width, height)
    distance = np.hypot((x - 0.4) * width, (y - 0.3) * height) * 16 / max(width, height)
    return _picture(128 + 120 * np.sin(distance), 230 * x * np.abs(np.cos(distance)), 220 - 160 * y)


def _noise(width: int, height: int) -> "Image":
    """The same everywhere: random numbers of a library may change with its version, and images do without them."""
    bits = hashlib.shake_256(b"noise").digest(3 * height * width)
    return _picture(*np.frombuffer(bits, np.uint8).reshape(3, height, width))


def _transparent() -> "Image":
    """Colours that nobody sees: a picture without its transparency shows them, as the original's pipeline does."""
    picture = _rings(90, 120)
    picture.putalpha(_gradient(90, 120).getchannel("R"))
    return picture


def _turned() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER
    return exif.tobytes()
