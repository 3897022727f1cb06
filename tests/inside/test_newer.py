"""A model that transformers 5 saved, for an exporter that has transformers 4."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from images.inside import newer

PLAIN = {"rope_type": "default", "rope_theta": 1e6}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}


def model(folder: Path, **files: Any) -> Path:
    made = folder / "model"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    for name, content in files.items():
        (made / f"{name}.json").write_text(json.dumps(content))
    return made


def _install(monkeypatch: pytest.MonkeyPatch, transformers: str) -> None:
    """Stand in for a transformers, and for the sentence-transformers that there is with it."""
    versions = {"transformers": transformers, "sentence-transformers": "5.7.0" if transformers < "5.2" else "6.2.0"}
    monkeypatch.setattr(newer, "installed", lambda library="transformers": versions[library])


@pytest.fixture(autouse=True)
def parameters(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What every type's configuration takes in the transformers that is stood in for."""
    known = {
        "rope_scaling",
        *newer.BY_LAYER["gemma3_text"].values(),
        *newer.OWN_NAMES["gpt_neox"].values(),
        *newer.BESIDE.values(),
    }
    monkeypatch.setattr(newer, "parameters", lambda _: known)
    _install(monkeypatch, "4.57.6")
    return known


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def _linked(version: str, **files: Any) -> Path:
        _install(monkeypatch, version)
        newer.link(model(tmp_path, **files), tmp_path / "original")
        return tmp_path / "original"

    return _linked


def read(folder: Path, name: str) -> Any:
    found: Any = json.loads((folder / f"{name}.json").read_text())
    return found


def test_the_class_of_all_fast_tokenizers_gets_transformers_4s_name(linked: Any) -> None:
    made = linked("4.57.6", tokenizer_config={"tokenizer_class": "TokenizersBackend", "pad_token": "[PAD]"})
    assert read(made, "tokenizer_config") == {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}


def test_special_tokens_without_names_move_to_transformers_4s_field() -> None:
    told = {"extra_special_tokens": ["<a>", {"content": "<b>", "special": True}], "additional_special_tokens": ["<a>"]}
    assert newer.tokenizer(told) == {"additional_special_tokens": ["<a>", "<b>"]}


def test_special_tokens_with_names_stay() -> None:
    assert newer.tokenizer({"extra_special_tokens": {"image": "<i>"}}) == {"extra_special_tokens": {"image": "<i>"}}


def test_the_base_frequency_of_rotary_positions_is_not_lost() -> None:
    assert newer.config({"model_type": "qwen3", "rope_parameters": PLAIN}) == {"model_type": "qwen3", "rope_theta": 1e6}


@pytest.mark.parametrize(
    ("known", "named"), [("num_experts", "num_experts"), ("num_local_experts", "num_local_experts")]
)
def test_a_field_has_the_name_that_its_type_reads(known: str, named: str, parameters: set[str]) -> None:
    parameters.add(known)
    assert newer.config({"model_type": "qwen3_moe", "num_local_experts": 4}) == {"model_type": "qwen3_moe", named: 4}


def test_scaled_rotary_positions_keep_their_scaling() -> None:
    assert newer.config({"rope_parameters": YARN}) == {
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }


def test_a_type_with_names_of_its_own_gets_these() -> None:
    told = {"model_type": "gpt_neox", "rope_parameters": {**PLAIN, "partial_rotary_factor": 0.5}}
    assert newer.config(told) == {"model_type": "gpt_neox", "rotary_emb_base": 1e6, "rotary_pct": 0.5}


def test_rotary_positions_by_kind_of_layer_get_the_types_names() -> None:
    told = {
        "model_type": "gemma3_text",
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }
    assert newer.config(told) == {
        "model_type": "gemma3_text",
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }


def test_a_configuration_in_another_is_translated_too() -> None:
    told = {"text_config": {"model_type": "llama", "rope_parameters": PLAIN}}
    assert newer.config(told) == {"text_config": {"model_type": "llama", "rope_theta": 1e6}}


@pytest.mark.parametrize(
    "rotary",
    [
        pytest.param({"full_attention": PLAIN, "other": PLAIN}, id="a kind of layer without a name"),
        pytest.param({"full_attention": PLAIN, "sliding_attention": YARN}, id="scaling where there is no field for it"),
        pytest.param({**PLAIN, "partial_rotary_factor": 0.5}, id="a field that the type does not read"),
    ],
)
def test_rotary_positions_that_transformers_4_cannot_be_told_are_refused(
    rotary: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        newer.config({"model_type": "gemma3_text", "rope_parameters": rotary})
    assert "type gemma3_text with rotary positions" in capsys.readouterr().err


def test_phi_3_gets_its_scaling_in_the_three_fields_that_it_takes() -> None:
    told = {"rope_type": "longrope", "short_factor": [1.0], "original_max_position_embeddings": 64, "rope_theta": 1e4}
    assert newer.config({"model_type": "phi3", "rope_parameters": told}) == {
        "model_type": "phi3",
        "rope_theta": 1e4,
        "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0]},
    }


MODULES = [
    {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
    {"path": "1", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
    {"path": "2", "type": "my_code.Own"},
]


@pytest.mark.parametrize("version", ["4.57.6", "5.0.0rc1"])
def test_modules_get_the_names_that_all_sentence_transformers_read(linked: Any, version: str) -> None:
    read_by_all = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling", "my_code.Own"]
    assert [module["type"] for module in read(linked(version, modules=MODULES), "modules")] == read_by_all


def test_the_newest_sentence_transformers_reads_its_own_names(linked: Any) -> None:
    assert linked("5.23.0", modules=MODULES).is_symlink()


def test_a_library_that_is_not_here_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(newer, "installed", missing)
    assert not newer.TRANSLATIONS["modules.json"].needed


def test_files_that_need_no_translation_are_links(linked: Any) -> None:
    made = linked("4.57.6", config={"rope_parameters": PLAIN}, tokenizer={})
    assert [path.name for path in sorted(made.iterdir()) if path.is_symlink()] == [
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_model_that_transformers_4_reads_is_one_link(linked: Any) -> None:
    assert linked("4.57.6", config={"rope_theta": 1e4}).is_symlink()


def test_transformers_5_reads_its_own_words(linked: Any) -> None:
    assert linked("5.23.0", tokenizer_config={"tokenizer_class": "TokenizersBackend"}).is_symlink()


def test_a_damaged_file_is_left_for_transformers_to_report(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "config.json").write_text("{")
    assert newer.translated(folder) == {}
