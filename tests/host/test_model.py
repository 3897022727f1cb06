import hashlib
from pathlib import Path

import pytest

from images import digests, model
from images.errors import ModelError
from images.selection import Criteria
from tests.checkpoints import BERT, paths, refused, resolve, write


def test_a_folder_is_served_under_its_name_and_has_no_revision(folder: Path, cache: Path) -> None:
    facts = resolve(folder, cache).facts
    assert (facts.id, facts.source, facts.revision) == ("tiny", "folder", "")


def test_a_relative_folder_is_found(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert resolve("tiny", cache).folder == folder


def test_a_folder_in_the_home_is_found(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve("~/tiny", cache).folder == folder


def test_an_existing_folder_wins_over_a_hub_id(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    assert resolve(f"{folder.parent.name}/tiny", cache).facts.source == "folder"


@pytest.mark.parametrize("text", ["/no/such/folder", "./org/name", "name", "", "a/b/c", "~nobody-here/x"])
def test_what_is_neither_folder_nor_id_is_refused(text: str, cache: Path) -> None:
    assert "there is no folder" in refused(text, cache)


def test_a_sketch_is_the_configuration_and_the_bytes_of_the_weights(folder: Path, cache: Path) -> None:
    found = model.sketch(str(folder), Criteria(), cache=cache)
    assert (found.task, found.config) == ("feature-extraction", BERT)
    assert found.weights == (folder / "model.safetensors").stat().st_size


def test_a_sketch_has_the_limits_that_other_files_state(folder: Path, cache: Path) -> None:
    write(folder, {"tokenizer_config.json": {"model_max_length": 512}})
    write(folder, {"sentence_bert_config.json": {"max_seq_length": 256}})
    assert model.sketch(str(folder), Criteria(), cache=cache).limits == [512, 256]


def test_a_sketch_of_a_gguf_file_has_no_configuration(tmp_path: Path, cache: Path) -> None:
    found = model.sketch(str(write(tmp_path / "chat", {"chat.Q4.gguf": "four"})), Criteria(), cache=cache)
    assert (found.task, found.config, found.weights) == ("text-generation", {}, 4)


def test_what_a_build_would_refuse_of_a_model_a_sketch_refuses(folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        model.sketch(str(folder), Criteria(), cache=cache)


def test_the_digest_is_that_of_sha256sum_over_the_files(folder: Path, cache: Path) -> None:
    found = resolve(folder, cache)
    lines = sorted(f"{digests.sha256(folder / path)}  {path}\n" for path in paths(found))
    assert found.facts.digest == f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
