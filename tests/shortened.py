"""A GGUF file with fewer layers: real weights and the real tokenizer, for tests that have minutes."""

import io
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY, COUNT = 8, 9, 4
ALIGNMENT = 32
"""Bytes that tensors are aligned to where a file says nothing else, which the shortened one does not."""


class Tensor(NamedTuple):
    """One tensor: its description up to where it lies, and its bytes."""

    name: str
    about: bytes
    data: bytes


def shorten(source: Path, out: Path, layers: int) -> None:
    """Write the file without the layers behind the first ones."""
    with source.open("rb") as file:
        magic, version, tensors, fields = struct.unpack("<4sIQQ", file.read(24))
        kept = [_field(file, layers) for _ in range(fields)]
        infos = [_info(file) for _ in range(tensors)]
        start = -(-file.tell() // ALIGNMENT) * ALIGNMENT
        ends = [offset for _, _, offset in infos[1:]] + [source.stat().st_size - start]
        found = [
            Tensor(name, about, _read(file, start + offset, end - offset))
            for (name, about, offset), end in zip(infos, ends, strict=True)
        ]
    chosen = [tensor for tensor in found if not _is_behind(tensor.name, layers)]
    with out.open("wb") as file:
        file.write(struct.pack("<4sIQQ", magic, version, len(chosen), len(kept)) + b"".join(kept))
        at = 0
        for tensor in chosen:
            file.write(tensor.about + struct.pack("<Q", at))
            at += len(tensor.data)
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        for tensor in chosen:
            file.write(tensor.data)


def _is_behind(name: str, layers: int) -> bool:
    kind, _, rest = name.partition(".")
    return kind == "blk" and int(rest.partition(".")[0]) >= layers


def _field(file: BinaryIO, layers: int) -> bytes:
    """A key and its value as they stand; the count of layers as it will be."""
    start = file.tell()
    key = _string(file)
    (kind,) = struct.unpack("<I", file.read(4))
    at = file.tell()
    _skip(file, kind)
    end = file.tell()
    if key.endswith(".block_count"):
        assert kind == COUNT
        return _read(file, start, at - start, end) + struct.pack("<I", layers)
    return _read(file, start, end - start, end)


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == STRING:
        _string(file)
    elif kind == ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        for _ in range(count):
            _skip(file, inner)
    else:
        file.seek(struct.calcsize(SCALARS[kind]), io.SEEK_CUR)


def _info(file: BinaryIO) -> tuple[str, bytes, int]:
    start = file.tell()
    name = _string(file)
    (rank,) = struct.unpack("<I", file.read(4))
    file.seek(8 * rank + 4, io.SEEK_CUR)
    end = file.tell()
    about = _read(file, start, end - start, end)
    (offset,) = struct.unpack("<Q", file.read(8))
    return name, about, offset


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(length).decode()


def _read(file: BinaryIO, start: int, length: int, then: int | None = None) -> bytes:
    file.seek(start)
    data = file.read(length)
    file.seek(start + length if then is None else then)
    return data
