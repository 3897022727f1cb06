import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images import extract
from images.engine import ImageFacts
from images.errors import EngineError, GateError, UsageError
from images.inside.records import MANIFEST
from tests.host.samples import FakeEngine
from tests.inside import artifacts


class Shelf(FakeEngine):
    """An engine with one image that holds an artifact."""

    artifact: Path = Path()

    def image(self, reference: str) -> ImageFacts | None:
        return ImageFacts(id="sha256:i", size=1, labels={}, layers=()) if reference == "known" else None

    @contextmanager
    def files(self, image: str) -> Iterator[tarfile.TarFile]:
        del image
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(self.artifact, "artifact")
            tar.add(self.artifact / MANIFEST, "etc/passwd")
        stream.seek(0)
        with tarfile.open(fileobj=stream) as opened:
            yield opened


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    engine = Shelf(answers={})
    engine.artifact = artifacts.sealed(tmp_path / "made")
    return engine


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_artifact_and_nothing_else_is_copied(shelf: Shelf, tmp_path: Path) -> None:
    manifest = extract.run(shelf, "known", tmp_path / "out")
    assert names(tmp_path / "out") == names(shelf.artifact)
    assert manifest.entry == "model.bin"


def test_a_folder_that_holds_something_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        extract.run(shelf, "known", tmp_path / "out")
    assert names(tmp_path / "out") == {"mine"}


def test_an_empty_folder_is_filled(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    extract.run(shelf, "known", tmp_path / "out")
    assert names(tmp_path / "out") == names(shelf.artifact)


def test_an_image_that_is_not_there_is_named(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no image other"):
        extract.run(shelf, "other", tmp_path / "out")


def test_a_damaged_artifact_leaves_nothing_behind(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.artifact / "model.bin").write_bytes(b"other")
    with pytest.raises(GateError, match=r"the artifact is damaged: .*model\.bin"):
        extract.run(shelf, "known", tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]
