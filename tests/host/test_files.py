import os
from pathlib import Path

import pytest

from tests.checkpoints import refused

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize("content", ["{", "[]", "\x80"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, cache: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json" in refused(folder, cache)


@pytest.mark.parametrize("size", [0, 7, 100])
def test_truncated_safetensors_are_refused_by_name(folder: Path, cache: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)
    assert "model.safetensors is damaged" in refused(folder, cache)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_recognised(folder: Path, cache: Path, file: str) -> None:
    (folder / file).write_text(POINTER)
    assert f"{file} is a Git LFS pointer" in refused(folder, cache)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_link_to_what_was_not_copied_along_is_recognised(folder: Path, cache: Path, file: str) -> None:
    """As in a snapshot of a hub's cache without the blobs beside it."""
    (folder / file).unlink()
    (folder / file).symlink_to("../../blobs/0")
    assert f"{file} cannot be read: No such file" in refused(folder, cache)
