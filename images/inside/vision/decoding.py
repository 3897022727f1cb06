"""A picture from a request to RGB pixels, with a bound on everything that its sender may make large.

Decoders are code that reads what strangers wrote: only the formats that are asked for are ever opened, sizes are read
before pixels are, and nothing is fetched.
"""

import base64
import binascii
import io
import re
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

from images.inside.errors import InputError, TooLargeError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 1 << 25
"""Of one picture, before and after it is resized: 33 million, 100 MB as RGB; a photograph has 12 to 24 million."""
MEMORY = 2 * 4 * MAX_PIXELS
"""Bytes that the largest picture takes while it is decoded: Pillow has four a pixel, and turns it into a copy."""
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?,")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class TooManyPixelsError(TooLargeError):
    """A picture has more pixels than are decoded."""

    code = "image_too_large"

    def __init__(self, size: str) -> None:
        super().__init__(f"the image has {size} pixels; at most {MAX_PIXELS} are taken - at `$.inputs`")


def from_text(text: str) -> bytes:
    """The bytes of a picture that was sent as base64 or as a data URL. Raises `InputError`; other URLs are refused."""
    if _ELSEWHERE.match(text):
        raise InputError("this server fetches nothing: send the image itself, as base64 - at `$.inputs`")
    if text[:5].lower() == "data:":
        text = _data(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the image is not base64: {error} - at `$.inputs`") from error


def _data(url: str) -> str:
    head = _DATA_URL.match("data:" + url[5:])
    if not head or not head["base64"]:
        raise InputError("a data URL looks like data:image/jpeg;base64,... - at `$.inputs`")
    return url[head.end() :]


def decode(content: bytes) -> "Image":
    """A picture as its viewer sees it, without its transparency: turned as its EXIF data says, in mode RGB.

    This is what a transformers pipeline does with an image before anything else.

    Raises:
        InputError: it is damaged, cut off, or of another format.
        TooLargeError: it has too many pixels.

    """
    from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin

    del WebPImagePlugin  # it registers itself; the others are Pillow's own first choice
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, for nobody to read; sizes are checked here
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                check_pixels(picture.width, picture.height)
                picture.load()
                ImageOps.exif_transpose(picture, in_place=True)
                return picture if picture.mode == "RGB" else picture.convert("RGB")
    except TooLargeError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"the image is none of {', '.join(FORMATS)}, or damaged - at `$.inputs`") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError("far too many") from error
    except _DAMAGE as error:
        raise InputError(f"the image is damaged: {error} - at `$.inputs`") from error


_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, ArithmeticError,
           AttributeError, NotImplementedError, struct.error, zlib.error, MemoryError)  # fmt: skip
"""What Pillow's decoders were seen to raise, or may, for bytes that are no whole picture."""


def check_pixels(width: int, height: int) -> None:
    """Raise `TooLargeError` for more pixels than are decoded."""
    if width * height > MAX_PIXELS:
        raise TooManyPixelsError(f"{width} x {height}")
