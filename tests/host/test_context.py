import os
from pathlib import Path
from typing import NoReturn

import pytest

from images import context
from images.plan import Plan
from tests.host import samples


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    return file


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = tmp_path / "a-1-py3-none-any.whl"
    file.write_bytes(b"wheel")
    return file


JOB: Plan = samples.plan()


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_all_that_the_build_reads(cache: Path, weights: Path, wheel: Path) -> None:
    with context.write(JOB, model={"sub/model.safetensors": weights}, wheels={"run": [wheel]}, cache=cache) as folder:
        assert tree(folder) == {
            *JOB.texts,
            "model/sub/model.safetensors",
            "wheels/run/a-1-py3-none-any.whl",
        }


def test_texts_are_written_as_planned(cache: Path) -> None:
    with context.write(JOB, model={}, wheels={}, cache=cache) as folder:
        assert {path: (folder / path).read_bytes() for path in JOB.texts} == JOB.texts


def test_weights_are_linked_and_not_copied(cache: Path, weights: Path) -> None:
    with context.write(JOB, model={"w": weights}, wheels={}, cache=cache) as folder:
        assert (folder / "model/w").samefile(weights)


def test_a_link_of_the_hubs_cache_is_followed(cache: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").symlink_to(weights)
    with context.write(JOB, model={"w": tmp_path / "snapshot"}, wheels={}, cache=cache) as folder:
        assert not (folder / "model/w").is_symlink()
        assert (folder / "model/w").read_bytes() == b"weights"


def test_weights_on_another_file_system_are_copied(cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _refuse)
    with context.write(JOB, model={"w": weights}, wheels={}, cache=cache) as folder:
        assert (folder / "model/w").read_bytes() == b"weights"


def _refuse(*_: object) -> NoReturn:
    raise OSError(18, "Invalid cross-device link")


def test_nothing_stays_behind(cache: Path, weights: Path) -> None:
    with context.write(JOB, model={"w": weights}, wheels={}, cache=cache) as folder:
        pass
    assert not folder.exists()
    assert weights.read_bytes() == b"weights"


def test_nothing_stays_behind_a_failed_build(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), context.write(JOB, model={}, wheels={}, cache=cache) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_a_killed_build_left_is_not_in_the_next(cache: Path) -> None:
    with context.write(JOB, model={}, wheels={}, cache=cache) as folder:
        pass
    folder.mkdir()
    (folder / "left").touch()
    with context.write(JOB, model={}, wheels={}, cache=cache) as again:
        assert "left" not in tree(again)


def test_the_folder_is_the_same_from_build_to_build(cache: Path) -> None:
    folders = []
    for _ in range(2):
        with context.write(JOB, model={}, wheels={}, cache=cache) as folder:
            folders.append(folder)
    assert folders[0] == folders[1]


def test_builds_at_the_same_time_have_folders_of_their_own(cache: Path) -> None:
    with (
        context.write(JOB, model={}, wheels={}, cache=cache) as one,
        context.write(JOB, model={}, wheels={}, cache=cache) as other,
    ):
        assert one != other
        assert tree(one) == tree(other)


def test_files_have_the_same_mode_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0o077)
    try:
        with context.write(JOB, model={}, wheels={}, cache=cache) as folder:
            assert {(folder / path).stat().st_mode & 0o777 for path in JOB.texts} == {0o644}
    finally:
        os.umask(before)


def test_the_code_is_that_of_the_image_and_of_this_target_alone(tmp_path: Path) -> None:
    for path in (
        *("images/__init__.py", "images/plan.py", "images/inside/a.py", "images/inside/tasks/b.py"),
        *("images/inside/page.html", "targets/one/run.py", "targets/one/target.toml", "targets/two/run.py"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    found = context.code("one", tmp_path)
    assert sorted(found) == [
        *("images/__init__.py", "images/inside/a.py", "images/inside/page.html"),
        *("images/inside/tasks/b.py", "targets/one/run.py"),
    ]
    assert found["targets/one/run.py"] == b"targets/one/run.py"
