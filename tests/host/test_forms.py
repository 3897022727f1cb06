"""Forms in which models come: what sentence-transformers and other libraries save."""

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import MODULES, refused, resolve, write

ST = "sentence_transformers.base.modules.transformer.Transformer"


def modules(*kinds: str) -> list[dict[str, str]]:
    return [{"path": "" if not index else f"{index}_{kind}", "type": kind} for index, kind in enumerate(kinds)]


def saved(folder: Path, kind: str, *kinds: str) -> Path:
    """A model that one of sentence-transformers' classes saved."""
    content = {"modules.json": modules(*kinds), "config_sentence_transformers.json": {"model_type": kind}}
    return write(folder, content)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model_index.json": {"_class_name": "StableDiffusionPipeline"}, "unet/config.json": {}}, "diffusers (Stable"),
        ({"open_clip_config.json": {}}, "one of open_clip"),
        ({"params.json": {}, "consolidated.safetensors": 1}, "Mistral's own form"),
        ({"modules.json": MODULES, "0_Transformer/config.json": {}}, "0_Transformer/config.json, as old"),
        ({"README.md": ""}, "no config.json"),
    ],
)
def test_a_form_without_config_json_is_refused_by_name(
    files: dict[str, Any], said: str, tmp_path: Path, cache: Path
) -> None:
    assert said in refused(write(tmp_path / "model", files), cache)


def test_a_reranker_with_modules_is_no_embedding_model(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": {"architectures": ["BertForSequenceClassification"]}})
    assert resolve(saved(folder, "CrossEncoder", ST), cache).task == "text-classification"


def test_a_model_with_modules_embeds_whatever_its_architecture_says(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": {"architectures": ["MPNetForMaskedLM"]}})
    assert resolve(saved(folder, "SentenceTransformer", ST), cache).task == "feature-extraction"


@pytest.mark.parametrize(
    ("kind", "kinds", "said"),
    [
        ("SparseEncoder", [ST, "sentence_transformers.models.SpladePooling"], "a SparseEncoder of sentence-"),
        ("MultiVectorEncoder", [ST], "a MultiVectorEncoder of sentence-"),
        ("SentenceTransformer", ["sentence_transformers.models.StaticEmbedding"], "begins with StaticEmbedding"),
        ("SentenceTransformer", ["sentence_transformers.models.CLIPModel"], "begins with CLIPModel"),
        ("CrossEncoder", [ST, "sentence_transformers.models.LogitScore"], "ranks by LogitScore"),
    ],
)
def test_what_makes_no_vector_by_a_network_is_refused_by_name(
    kind: str, kinds: list[str], said: str, folder: Path, cache: Path
) -> None:
    assert said in refused(saved(folder, kind, *kinds), cache)


def test_a_static_model_without_config_is_refused_by_its_module(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "static", {"modules.json": modules("sentence_transformers.models.StaticEmbedding")})
    assert "begins with StaticEmbedding" in refused(folder, cache)


@pytest.mark.parametrize(
    ("prompt", "included", "taken"), [("query", False, False), ("query", True, True), (None, False, True)]
)
def test_a_default_prompt_that_is_not_pooled_is_refused(
    prompt: str | None, included: bool, taken: bool, folder: Path, cache: Path
) -> None:
    write(folder, {"modules.json": MODULES[:2], "1_Pooling/config.json": {"include_prompt": included}})
    write(folder, {"config_sentence_transformers.json": {"default_prompt_name": prompt}})
    if taken:
        assert resolve(folder, cache).task == "feature-extraction"
    else:
        assert "leaves out the tokens of its default prompt 'query'" in refused(folder, cache)
