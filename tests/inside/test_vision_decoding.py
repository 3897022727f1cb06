import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from images.inside.errors import InputError, TooLargeError
from images.inside.vision import decoding, pictures
from tests.inside import seeing


def test_base64_may_be_broken_into_lines() -> None:
    text = seeing.text()
    assert decoding.from_text(f"{text[:20]}\r\n {text[20:]}\n") == seeing.file()


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:image/png;base64,", "data:image/png;a=b;base64,", "data:;base64,"]
)
def test_a_data_url_is_the_file_in_it(head: str) -> None:
    assert decoding.from_text(head + seeing.text()) == seeing.file()


@pytest.mark.parametrize(
    "url", ["http://a.example/b.jpg", "HTTPS://a.example/b.jpg", "file:///etc/passwd", "ftp://a/b"]
)
def test_nothing_is_fetched(url: str) -> None:
    with pytest.raises(InputError, match="fetches nothing"):
        decoding.from_text(url)


@pytest.mark.parametrize("text", ["not base64!", "abc", "data:image/png,abc", "data:image/png;base64", "é"])
def test_what_is_no_base64_is_told(text: str) -> None:
    with pytest.raises(InputError, match=r"base64.*\$\.inputs"):
        decoding.from_text(text)


@pytest.mark.parametrize(
    ("mode", "colour", "form"),
    [
        ("RGB", (255, 0, 0), "PNG"),
        ("RGB", (255, 0, 0), "JPEG"),
        ("RGB", (255, 0, 0), "WEBP"),
        ("RGBA", (255, 0, 0, 10), "PNG"),
        ("P", 1, "PNG"),
        ("1", 1, "PNG"),
        ("L", 200, "JPEG"),
        ("LA", (200, 0), "PNG"),
        ("CMYK", (0, 200, 200, 0), "JPEG"),
        ("I;16", 40000, "PNG"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: object, form: str) -> None:
    picture = decoding.decode(seeing.file(colour, form, mode=mode))
    assert (picture.mode, picture.size) == ("RGB", (12, 16))


def test_transparency_is_dropped_and_not_painted() -> None:
    assert decoding.decode(seeing.file((250, 3, 7, 0), mode="RGBA")).getpixel((0, 0)) == (250, 3, 7)


def test_a_picture_is_turned_as_its_exif_data_says() -> None:
    out, exif = io.BytesIO(), Image.Exif()
    exif[pictures.ORIENTATION] = pictures.QUARTER
    Image.new("RGB", (12, 16)).save(out, "JPEG", exif=exif)
    assert decoding.decode(out.getvalue()).size == (16, 12)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "PPM", "ICO", "JPEG2000", "TGA"])
def test_other_formats_are_not_opened(form: str) -> None:
    with pytest.raises(InputError, match="none of JPEG, PNG, WEBP"):
        decoding.decode(seeing.file(form=form))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8 ", bytes(1000)]
)
def test_what_is_no_picture_is_told(content: bytes) -> None:
    with pytest.raises(InputError):
        decoding.decode(content)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_was_cut_off_is_damaged_wherever_it_ends(form: str) -> None:
    whole = io.BytesIO()
    pictures._rings(64, 64).save(whole, form)
    content = whole.getvalue()
    for end in range(20, len(content) - 20, max(1, len(content) // 25)):
        with pytest.raises(InputError):
            decoding.decode(content[:end])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_are_a_picture_or_an_error_of_their_sender(form: str, seed: int) -> None:
    out = io.BytesIO()
    pictures._rings(48, 48).save(out, form)
    content, random = bytearray(out.getvalue()), np.random.default_rng(seed)
    for place in random.integers(0, len(content), 6):
        content[place] = random.integers(0, 256)
    with contextlib.suppress(InputError):
        assert decoding.decode(bytes(content)).mode == "RGB"


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says that it is large."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("size", [(8192, 4097), (10_000, 10_000), (60_000, 60_000)])
def test_a_picture_with_too_many_pixels_is_not_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(TooLargeError):
        decoding.decode(bomb(*size))
