import subprocess
from pathlib import Path

import pytest

from images import revision

# Read before it is replaced for all other tests.
CURRENT = revision.current
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("a")
    for argv in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*GIT, *argv], check=True, cwd=tmp_path)
    return tmp_path


@pytest.mark.starts_programs
def test_a_clone_is_at_a_commit(clone: Path) -> None:
    assert len(CURRENT(clone)) == 40


@pytest.mark.starts_programs
def test_changes_show(clone: Path) -> None:
    (clone / "file").write_text("b")
    assert CURRENT(clone).endswith("-dirty")


@pytest.mark.starts_programs
def test_what_is_no_clone_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert CURRENT(tmp_path) == ""


@pytest.mark.starts_programs
def test_without_git_there_is_none(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert CURRENT(clone) == ""
