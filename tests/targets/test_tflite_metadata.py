"""What the file says of itself: the parts that need neither the support library nor a model."""

from pathlib import Path

import msgspec
import pytest

from images.inside import export
from images.inside.contract import Exporting
from images.inside.records import Source
from targets.tflite import metadata
from tests.inside import artifacts


def source(given: Exporting, *labels: str) -> Source:
    return msgspec.structs.replace(export.read_source(given), labels=[*labels])


def card(folder: Path, text: str) -> Path:
    (folder / "README.md").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("---\ntags: [a]\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: 'mit' \n---\n", "mit"),
        ("# Model\n\nlicense: mit\n", ""),
        ("---\nlanguage: en\n---\nlicense: mit\n", ""),
        ("", ""),
    ],
)
def test_the_license_is_what_the_models_card_states(text: str, name: str, tmp_path: Path) -> None:
    assert metadata.license_of(card(tmp_path, text)) == name


def test_a_model_without_a_card_states_no_license(tmp_path: Path) -> None:
    assert metadata.license_of(tmp_path) == ""


def test_an_app_gets_the_tokenizer_and_the_class_names(tmp_path: Path) -> None:
    given = artifacts.exporting(tmp_path)
    files = metadata._files(given, source(given, "no", "yes"))
    assert files["labels.txt"] == b"no\nyes\n"
    assert files["tokenizer.json"] == (given.work / "tokenizer.json").read_bytes()


def test_a_model_of_pictures_without_classes_gets_nothing(tmp_path: Path) -> None:
    given = artifacts.exporting(tmp_path)
    (given.work / "tokenizer.json").unlink()
    assert metadata._files(given, source(given)) == {}
