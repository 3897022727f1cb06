import json
import platform
from pathlib import Path
from typing import Any

import msgspec
import pytest

from images.inside import info
from images.inside.errors import ArtifactError
from images.inside.records import Bounds, Embedding, ModelFacts, write_json
from tests.inside import serving


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_json(tmp_path / "manifest.json", serving.manifest())
    return tmp_path


def rows(**changes: Any) -> dict[str, str]:
    manifest = msgspec.to_builtins(serving.manifest(**changes))
    facts = {"manifest": manifest, "packages": {"a": "1", "b": "2"}, "python": "3.11.2", "os": "Debian"}
    return dict(line.split(maxsplit=1) for line in info.table(facts).splitlines())


def test_an_image_says_what_is_in_it(artifact: Path) -> None:
    facts = info.collect(artifact)
    assert facts.keys() == {"manifest", "packages", "python", "os"}
    assert facts["manifest"]["model"]["id"] == serving.MODEL
    assert (facts["python"], "numpy" in facts["packages"]) == (platform.python_version(), True)


def test_all_of_it_is_json(artifact: Path) -> None:
    facts = info.collect(artifact)
    assert json.loads(json.dumps(facts)) == facts


def test_an_image_without_an_artifact_says_that(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^manifest\.json: "):
        info.collect(tmp_path)


def test_the_table_names_the_model_its_source_and_revision() -> None:
    assert rows()["model"] == "acme/tiny (folder abc)"


def test_a_model_without_a_revision_leaves_no_gap() -> None:
    model = ModelFacts(id="tiny", source="folder", revision="", digest="sha256:0")
    assert rows(model=model)["model"] == "tiny (folder)"


def test_the_table_says_how_texts_become_vectors() -> None:
    embedding = Embedding(dimension=384, pooling="mean", normalized=True)
    assert rows(embedding=embedding)["embedding"] == "384 dimensions, pooling mean, normalized True"


def test_the_table_has_no_row_for_what_the_model_does_not_have() -> None:
    assert {"embedding", "labels"} & rows(embedding=None, labels=[]).keys() == set()


def test_the_table_says_what_upstream_gives_up() -> None:
    assert rows(deprecated="given up: take b")["deprecated"] == "given up: take b"
    assert "deprecated" not in rows()


def test_of_many_labels_twelve_are_shown() -> None:
    assert rows(labels=[str(label) for label in range(1000)])["labels"] == ", ".join(map(str, range(12)))


def test_the_table_says_what_the_artifact_is_held_to() -> None:
    assert rows(bounds=Bounds(max_abs_diff=1e-4, agreement=1.0))["bounds"] == "max_abs_diff 0.0001, agreement 1"


def test_the_table_names_system_and_packages() -> None:
    assert (rows()["system"], rows()["packages"]) == ("Debian, Python 3.11.2, any", "a 1, b 2")
