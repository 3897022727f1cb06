import os
from pathlib import Path

import pytest

from images import digests
from tests.checkpoints import write


def aged(file: Path, seconds: int) -> None:
    stamp = file.stat().st_mtime_ns - seconds * 10**9
    os.utime(file, ns=(stamp, stamp))


def test_a_digest_is_remembered_while_the_file_stays(tmp_path: Path) -> None:
    file = write(tmp_path, {"a.txt": "one"}) / "a.txt"
    aged(file, 60)
    first = digests.remembered(file, tmp_path)
    (memory,) = (tmp_path / "digests").iterdir()
    memory.write_text("0" * 64)
    assert (first, digests.remembered(file, tmp_path)) == (digests.sha256(file), "0" * 64)


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_digest_is_recomputed_when_the_file_changes(tmp_path: Path, change: str) -> None:
    file = write(tmp_path, {"a.txt": "one"}) / "a.txt"
    aged(file, 60)
    before = file.stat().st_mtime_ns
    digests.remembered(file, tmp_path)
    if change == "inode":
        write(tmp_path, {"b.txt": "two"})
        (tmp_path / "b.txt").replace(file)
    file.write_text("three" if change == "size" else "two")
    os.utime(file, ns=(before, before + (change == "time")))
    assert digests.remembered(file, tmp_path) == digests.sha256(file)


def test_the_digest_of_a_file_that_just_changed_is_not_remembered(tmp_path: Path) -> None:
    file = write(tmp_path, {"a.txt": "one"}) / "a.txt"
    digests.remembered(file, tmp_path)
    assert not (tmp_path / "digests").exists()
