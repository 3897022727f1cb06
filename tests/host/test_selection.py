import json
from pathlib import Path

import pytest

from images.errors import UsageError
from tests.checkpoints import MODULES, paths, refused, resolve, write


def test_only_the_files_that_the_build_needs_are_kept(folder: Path, cache: Path) -> None:
    write(folder, {"vocab.txt": "a", "spiece.model": "b", "chat_template.jinja": "c", "1_Pooling/config.json": {}})
    write(folder, {"modules.json": MODULES, "2_Dense/config.json": {}, "2_Dense/model.safetensors": 2})
    kept = paths(resolve(folder, cache))
    write(
        folder, {"onnx/model.onnx": "", "onnx/config.json": {}, "pytorch_model.bin": "", "code.py": "", "README.md": ""}
    )
    write(
        folder, {"model.fp16.safetensors": 1, "tf_model.h5": "", ".git/config.json": {}, "checkpoint-1/config.json": {}}
    )
    assert paths(resolve(folder, cache)) == kept
    expected = "config.json model.safetensors modules.json spiece.model tokenizer.json vocab.txt chat_template.jinja"
    modules = "1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors"
    assert kept == sorted([*expected.split(), *modules.split()])


def test_a_sharded_model_keeps_its_index_and_shards(folder: Path, cache: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    write(folder, {"model.safetensors.index.json": {"weight_map": {"weight": "model-1.safetensors"}}})
    assert {"model.safetensors.index.json", "model-1.safetensors"} < set(paths(resolve(folder, cache)))


def test_a_missing_config_is_refused(folder: Path, cache: Path) -> None:
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder, cache)


@pytest.mark.parametrize("method", ["gptq", "fp8"])
def test_weights_that_are_quantised_already_are_refused(method: str, folder: Path, cache: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    write(folder, {"config.json": {**config, "quantization_config": {"quant_method": method, "bits": 4}}})
    assert f"quantised already, by {method}" in refused(folder, cache)


def test_an_adapter_is_refused_as_one(folder: Path, cache: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert "merge it into that model" in refused(folder, cache)


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("pytorch_model.bin", "--allow-pickle"),
        ("model.gguf", "GGUF"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("adapter_model.safetensors", "adapter"),
        ("notes.txt", "no weights"),
    ],
)
def test_a_model_without_safetensors_is_refused_with_what_it_has(
    folder: Path, cache: Path, file: str, word: str
) -> None:
    (folder / "model.safetensors").unlink()
    write(folder, {file: "x"})
    assert word in refused(folder, cache)


def test_a_pickle_is_kept_when_it_is_allowed(folder: Path, cache: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in paths(resolve(folder, cache, allow_pickle=True))


def test_safetensors_win_over_an_allowed_pickle(folder: Path, cache: Path) -> None:
    write(folder, {"pytorch_model.bin": "x"})
    assert "pytorch_model.bin" not in paths(resolve(folder, cache, allow_pickle=True))


def test_a_module_with_pickled_weights_is_refused(folder: Path, cache: Path) -> None:
    write(folder, {"modules.json": MODULES, "2_Dense/config.json": {}, "2_Dense/pytorch_model.bin": "x"})
    assert "2_Dense/pytorch_model.bin" in refused(folder, cache)


def test_an_index_that_names_a_missing_shard_is_refused(folder: Path, cache: Path) -> None:
    (folder / "model.safetensors").unlink()
    write(folder, {"model.safetensors.index.json": {"weight_map": {"a": "model-2.safetensors"}}})
    assert "model-2.safetensors" in refused(folder, cache)


@pytest.mark.parametrize("content", [{}, ["x"], [{"path": 1}], 5])
def test_modules_that_are_no_list_of_modules_are_refused(folder: Path, cache: Path, content: object) -> None:
    write(folder, {"modules.json": content})
    assert "modules.json is no list" in refused(folder, cache)


def test_a_model_without_tokenizer_is_refused(folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(folder, cache)


def test_an_image_model_needs_no_tokenizer(folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "preprocessor_config.json").write_text("{}")
    found = resolve(folder, cache, task="image-classification", tasks=("image-classification",))
    assert "preprocessor_config.json" in [file.path for file in found.files]


def test_an_image_model_needs_what_says_how_images_are_preprocessed(folder: Path, cache: Path) -> None:
    error = refused(folder, cache, task="image-classification", tasks=("image-classification",))
    assert "no preprocessor_config.json" in error


def test_a_task_that_the_target_lacks_is_refused_with_what_it_has(folder: Path, cache: Path) -> None:
    assert "it has: fill-mask" in refused(folder, cache, UsageError, tasks=("fill-mask",))


@pytest.mark.parametrize("asked", [{}, {"task": "feature-extraction"}], ids=["inferred", "named"])
def test_a_task_that_the_target_refuses_is_answered_with_the_reason(
    asked: dict[str, str], folder: Path, cache: Path
) -> None:
    why = {"feature-extraction": "no server speaks it yet"}
    said = refused(folder, cache, UsageError, tasks=("fill-mask",), refused=why, **asked)
    assert "feature-extraction, which the target does not have: no server speaks it yet\n" in said
    assert "it has: fill-mask" in said


def test_a_task_on_the_command_line_wins(folder: Path, cache: Path) -> None:
    assert resolve(folder, cache, task="fill-mask").task == "fill-mask"


def test_an_unknown_task_on_the_command_line_is_refused(folder: Path, cache: Path) -> None:
    assert "cooking" in refused(folder, cache, UsageError, task="cooking")


def test_a_lone_gguf_file_is_a_model_that_generates(tmp_path: Path, cache: Path) -> None:
    found = resolve(write(tmp_path / "chat", {"chat.Q4.gguf": "", "README.md": ""}), cache, tasks=["text-generation"])
    assert (found.task, paths(found)) == ("text-generation", ["chat.Q4.gguf"])


def test_a_gguf_file_is_for_no_other_task(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match="text-generation"):
        resolve(write(tmp_path / "chat", {"chat.Q4.gguf": ""}), cache, tasks=["fill-mask"])


def test_of_several_gguf_files_none_is_chosen(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "chat", {"a.Q4.gguf": "", "b.Q8.gguf": ""})
    assert "no config.json" in refused(folder, cache)


def test_a_network_that_is_given_pictures_is_refused_for_a_task_on_texts_that_is_named(
    folder: Path, cache: Path
) -> None:
    write(
        folder, {"config.json": {"architectures": ["CLIPModel"], "vision_config": {"model_type": "clip_vision_model"}}}
    )
    assert "(CLIPModel) is given pictures" in refused(folder, cache, task="feature-extraction")


def test_a_network_that_answers_about_pictures_may_be_asked_with_texts_alone(folder: Path, cache: Path) -> None:
    config = {"architectures": ["LlavaForConditionalGeneration"], "vision_config": {"model_type": "clip_vision_model"}}
    write(folder, {"config.json": config})
    assert "texts alone: --task text-generation" in refused(folder, cache)
    found = resolve(folder, cache, task="text-generation", tasks=("text-generation",))
    assert found.task == "text-generation"


@pytest.mark.parametrize(("kind", "file"), [("CanineTokenizer", ""), ("EsmTokenizer", "vocab.txt")])
def test_a_tokenizer_that_exists_in_python_only_is_refused_by_its_class(
    kind: str, file: str, folder: Path, cache: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    write(folder, {"tokenizer_config.json": {"tokenizer_class": kind}, **({file: "a"} if file else {})})
    assert f"a {kind}, which exists in Python only" in refused(folder, cache)


def test_a_tokenizer_of_such_a_class_that_is_a_file_is_taken(folder: Path, cache: Path) -> None:
    write(folder, {"tokenizer_config.json": {"tokenizer_class": "EsmTokenizer"}})
    assert resolve(folder, cache).task == "feature-extraction"


def test_a_tokenizer_of_mistrals_form_is_refused_by_name(folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tekken.json")
    assert "tekken.json, of Mistral's own form" in refused(folder, cache)


@pytest.mark.parametrize("names", [{"1": "no", "2": "yes"}, {"no": "no", "yes": "yes"}])
def test_labels_that_are_not_numbered_from_0_are_refused(names: dict[str, str], folder: Path, cache: Path) -> None:
    write(folder, {"config.json": {"architectures": ["BertForSequenceClassification"], "id2label": names}})
    assert "id2label: expected 0 to 1" in refused(folder, cache)


def test_labels_count_for_a_classifier_alone(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": {"architectures": ["BertForMaskedLM"], "id2label": {"1": "no"}}})
    assert resolve(folder, cache).task == "fill-mask"


def test_what_a_model_is_given_counts_before_how_its_weights_are_kept(folder: Path, cache: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    write(folder, {"config.json": {"architectures": ["ViTModel"], "num_channels": 3}})
    assert "(ViTModel) is given pictures" in refused(folder, cache)
