"""The sha256 of files, remembered for as long as they stay as they are."""

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from images.inside.records import FileDigest

RACY = 2_000_000_000
"""Nanoseconds: a file changed that recently may change again without its time stamp showing it."""
HEX = re.compile(r"[0-9a-f]{64}")


def sha256(file: Path) -> str:
    """The file's digest in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remembered(file: Path, cache: Path) -> str:
    """The file's digest in hex, kept in `digests/` of the cache for as long as path, size, mtime and inode stay.

    A file changed within the last two seconds is not remembered: it could change again within one tick of the clock.
    """
    file = file.resolve()
    memory = _memory(file, cache)
    if memory.is_file() and HEX.fullmatch(known := memory.read_text()):
        return known
    result = sha256(file)
    if _memory(file, cache) == memory and time.time_ns() - file.stat().st_mtime_ns > RACY:
        _remember(memory, result)
    return result


def combined(files: Iterable[FileDigest]) -> str:
    """One digest for all files: of the sorted lines `sha256  path`, as `sha256sum` prints them."""
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _memory(file: Path, cache: Path) -> Path:
    state = file.stat()
    key = json.dumps([str(file), state.st_size, state.st_mtime_ns, state.st_dev, state.st_ino])
    return cache / "digests" / hashlib.sha256(key.encode()).hexdigest()


def _remember(memory: Path, result: str) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=memory.parent, prefix=".new-", delete=False) as fresh:
        fresh.write(result)
    Path(fresh.name).rename(memory)
