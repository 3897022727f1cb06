"""Which of a model's files a build needs, and which it must not load: decided by names and small JSON files alone."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from images import architectures, forms, remote_code
from images.errors import ModelError

KEPT = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.codes", "*.bpe", "*.tiktoken")
"""Configuration and tokenizers; weights and code have rules of their own."""
CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.spm", "*.codes", "*.tiktoken")
SETTINGS = "tokenizer_config.json"
LIMITS = {SETTINGS: "model_max_length", "sentence_bert_config.json": "max_seq_length"}
"""Files beside the configuration that say how many tokens a model takes, and the field that does."""
TEKKEN = "tekken.json"
IN_PYTHON = frozenset(
    f"{name}Tokenizer"
    for name in (
        *("Bartpho", "BertGeneration", "BertJapanese", "Bertweet", "BioGpt", "BlenderbotSmall", "ByT5", "CTRL"),
        *("Canine", "CpmAnt", "Esm", "Flaubert", "GPTNeoXJapanese", "GPTSw3", "Perceiver", "Phobert", "ProphetNet"),
        *("RoCBert", "Tapas", "XLM"),
    )
)
"""Classes of tokenizers that transformers 4 and 5 make no file of."""
PREPROCESSOR = "preprocessor_config.json"
TEMPLATES = "additional_chat_templates"
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""The names that transformers loads: one file, or the index of a sharded one. Safetensors, then pickle."""
OTHER_WEIGHTS = {
    "pickle": (".bin", ".pt", ".pth", ".ckpt", ".pkl"),
    "GGUF": (".gguf",),
    "TensorFlow": (".h5", ".tflite"),
    "Flax": (".msgpack",),
    "ONNX": (".onnx",),
    "safetensors of another form (an adapter, or a single-file checkpoint)": (".safetensors",),
}

PACKED = frozenset(
    (
        *("aqlm", "auto-round", "awq", "bitnet", "bitsandbytes", "compressed-tensors", "eetq", "fbgemm_fp8", "fp8"),
        *("fouroversix", "fp_quant", "gptq", "higgs", "hqq", "metal", "modelopt", "mxfp8", "nvfp4", "quanto", "quark"),
        *("sinq", "spqr", "torchao", "vptq"),
    )
)
"""What `quant_method` of config.json calls weights that transformers reads with other packages, or on a GPU only."""
GGUF_TASK = "text-generation"
"""What a model is for that comes as one GGUF file."""

Read = Callable[[str], Any]
"""Reads a JSON file of the model by its path in it."""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a build asks of a model.

    Attributes:
        tasks: the target's tasks; empty for whatever a model is for.
        task: one of them; inferred from the model when empty.
        refused: tasks that the target does not have, each with the reason.
        elsewhere: the targets that have a task, by task; None where they are not known.
        allow_pickle: accept pickle weights where there are no safetensors.
        trust_remote_code: accept a model that brings its own Python code.

    """

    tasks: Sequence[str] = ()
    task: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, Sequence[str]] | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False


class Selection(NamedTuple):
    """What the model is built for, the paths of the files for that, sorted, and the bytes of its weights among them."""

    task: str
    paths: Sequence[str]
    weights: int = 0


Select = Callable[[Mapping[str, int], Read], Selection]
"""`select` with its criteria: what a source of models calls with the names and bytes of all files that it has."""


def glance(names: Mapping[str, int], read: Read, *, criteria: Criteria) -> Selection:
    """What `select` chooses, less all but configuration and limits, enough to know the model by. Raises as it does."""
    chosen = select(names, read, criteria=criteria)
    return chosen._replace(paths=[path for path in (CONFIG, *LIMITS) if path in chosen.paths])


def select(names: Mapping[str, int], read: Read, *, criteria: Criteria) -> Selection:
    """Choose the task and the files that the build needs, of all that a model's source has.

    Raises:
        ModelError: they are not all there, or must not be loaded.
        UsageError: the task is none of the target's, or cannot be inferred.

    """
    if CONFIG not in names and (single := gguf(names)):
        task = _required(criteria.task or GGUF_TASK, "a GGUF file is for", criteria)
        return Selection(task, [single], names[single])
    modules = forms.modules(names, read)
    embeds = forms.embeds(names, read, modules)
    if CONFIG not in names:
        raise forms.without_config(names, read)
    config = read(CONFIG)
    _require_loadable(config)
    task = _task(config, embeds, criteria)
    _require_labels(config, task)
    folders = {"", *(str(module.get("path", "")).strip("/") for module in modules)}
    weights = [path for folder in sorted(folders) for path in _weights(folder, names, read, criteria.allow_pickle)]
    small = [name for name in names if _parent(name) in {*folders, TEMPLATES} and _is_small(name)]
    settings = read(SETTINGS) if SETTINGS in names else {}
    code = remote_code.needed(names, config, settings, modules, task, trusted=criteria.trust_remote_code)
    _require_preparation(small, task, settings)
    return Selection(task, sorted({*weights, *small, *code}), sum(names[path] for path in weights))


def _require_loadable(config: Mapping[str, Any]) -> None:
    """Raise `ModelError` for weights that only another package reads, which no builder has."""
    quantised = config.get("quantization_config")
    method = str(quantised.get("quant_method", "")).lower() if isinstance(quantised, dict) else ""
    if method in PACKED:
        raise ModelError(
            f"the model's weights are quantised already, by {method}: targets quantise weights themselves",
            "name the model that it was made from, and choose with --quantize",
        )


def _require_labels(config: Mapping[str, Any], task: str) -> None:
    """Raise `ModelError` for names of classes that are not numbered as a network's outputs are."""
    names = config.get("id2label")
    if "classification" not in task or not isinstance(names, dict):
        return
    if {str(index) for index in range(len(names))} == names.keys():
        return
    raise ModelError(
        f"config.json numbers its labels {', '.join(list(names)[:4])} in id2label: expected 0 to {len(names) - 1}",
        "number them as the network gives them, from 0 on, and label2id likewise",
    )


def gguf(names: Iterable[str]) -> str:
    """The only GGUF file of a model that is nothing else, which the builder makes a folder of; else empty."""
    found = [name for name in names if name.endswith(".gguf") and not _parent(name)]
    return found[0] if len(found) == 1 else ""


def _task(config: Mapping[str, Any], embeds: bool, criteria: Criteria) -> str:
    if criteria.task:
        if criteria.task != architectures.ANSWERS:
            architectures.require_given(config, criteria.task, criteria.tasks)
        return _required(criteria.task, "--task asks for", criteria)
    return architectures.infer(config, embeds, criteria.tasks, criteria.refused, criteria.elsewhere)


def _required(task: str, asked: str, criteria: Criteria) -> str:
    return architectures.require(task, criteria.tasks, asked, criteria.refused, criteria.elsewhere)


def _require_preparation(paths: Iterable[str], task: str, settings: Mapping[str, Any]) -> None:
    """What makes the model's inputs must be there: without it, they would be made in some other way."""
    on_text = not task.startswith(("image-", "audio-", "object-", "video-"))
    names = [path.rpartition("/")[2] for path in paths]
    if task.startswith("image-") and PREPROCESSOR not in names:
        raise ModelError(
            f"the model has no {PREPROCESSOR}, which says how images are preprocessed",
            "save its image processor beside it",
        )
    kind = str(settings.get("tokenizer_class") or "")
    if on_text and kind in IN_PYTHON and TOKENIZERS[0] not in names:
        raise ModelError(
            f"the model has a {kind}, which exists in Python only: targets serve tokenizers that are a file",
            "add the tokenizer.json of an equal one, if there is such",
        )
    if on_text and not any(fnmatchcase(name, pattern) for name in names for pattern in TOKENIZERS):
        raise _no_tokenizer(TEKKEN in names)


def _no_tokenizer(tekken: bool) -> ModelError:
    if tekken:
        return ModelError(
            f"the model's tokenizer is {TEKKEN}, of Mistral's own form",
            "add the tokenizer.json that transformers makes of it: AutoTokenizer, then save_pretrained()",
        )
    return ModelError(
        "the model has no tokenizer: expected tokenizer.json or a vocabulary", "save its tokenizer beside it"
    )


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _is_small(name: str) -> bool:
    base = name.rpartition("/")[2]
    return any(fnmatchcase(base, pattern) for pattern in KEPT) and not base.endswith((".index.json", "README.txt"))


def _weights(folder: str, names: Collection[str], read: Read, allow_pickle: bool) -> list[str]:
    prefix = f"{folder}/" if folder else ""
    for single, index in WEIGHTS if allow_pickle else WEIGHTS[:1]:
        if prefix + single in names:
            return [prefix + single]
        if prefix + index in names:
            return [prefix + index, *_shards(prefix, prefix + index, names, read)]
    others = _other_weights(name for name in names if _parent(name) == folder)
    if folder and "pickle" not in others:
        return []  # a module without weights, such as pooling
    raise _no_safetensors(folder, others)


def _shards(prefix: str, index: str, names: Collection[str], read: Read) -> list[str]:
    content = read(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index} has no weight_map", "restore the file from the model's source")
    shards = sorted({f"{prefix}{shard}" for shard in weight_map.values()})
    if missing := [shard for shard in shards if shard not in names]:
        raise ModelError(f"{index} names files that are missing: {', '.join(missing[:4])}", "download the model again")
    return shards


def _other_weights(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        for kind, endings in OTHER_WEIGHTS.items():
            if name.endswith(endings) and "training_args" not in name:
                found.setdefault(kind, []).append(name)
    return found


def _no_safetensors(folder: str, others: Mapping[str, Sequence[str]]) -> ModelError:
    where = f"the model's folder {folder}" if folder else "the model"
    if "pickle" in others:
        return ModelError(
            f"{where} has pickled weights ({others['pickle'][0]}) and no safetensors; a pickle runs code when loaded",
            "convert it, name a revision that has safetensors, or accept the risk with --allow-pickle",
        )
    if others:
        kinds = "; ".join(f"{kind}: {names[0]}" for kind, names in others.items())
        return ModelError(
            f"{where} has no model.safetensors; it has {kinds}", "convert it with save_pretrained() first"
        )
    return ModelError(f"{where} has no weights: expected model.safetensors", "download the model again")
