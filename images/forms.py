"""Forms in which models come, told by their small files; those that no target takes are refused with the way on."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from images.errors import ModelError

ADAPTER = "adapter_config.json"
PIPELINE = "model_index.json"
MODULES = "modules.json"
SENTENCES = "config_sentence_transformers.json"
"""Where sentence-transformers says which of its classes saved a model."""
EMBEDS, RANKS = "SentenceTransformer", "CrossEncoder"
NETWORK = "Transformer"
"""The only module of sentence-transformers that is a network of transformers."""
OTHERS: Mapping[str, tuple[str, str]] = {
    ADAPTER: (
        f"the model is an adapter ({ADAPTER}) to another model's weights, which it does not hold",
        "merge it into that model with peft's merge_and_unload(), and build what save_pretrained() writes of it",
    ),
    "open_clip_config.json": (
        "the model is one of open_clip, which is given pictures and texts: no target has such",
        "take a model of transformers for texts or for pictures, in the form that save_pretrained() writes",
    ),
    "params.json": (
        "the model is in Mistral's own form (params.json)",
        "take the files of transformers' form, config.json and model.safetensors, from its repository",
    ),
}
"""A file that names a form without config.json: what that is, and what to do."""

Read = Callable[[str], Any]
Modules = Sequence[Mapping[str, Any]]


def without_config(names: Collection[str], read: Read) -> ModelError:
    """The error for files of which none is config.json."""
    for name, (what, hint) in OTHERS.items():
        if name in names:
            return ModelError(what, hint)
    if PIPELINE in names:
        index = read(PIPELINE)
        kind = str(index.get("_class_name", "")) if isinstance(index, dict) else ""
        return ModelError(
            f"the model is a pipeline of diffusers ({kind or PIPELINE}), of several networks: no target has such",
            "take a model of transformers, in the form that save_pretrained() writes",
        )
    if inside := sorted(name for name in names if name.endswith("/config.json") and MODULES in names):
        return ModelError(
            f"the model has no config.json beside {MODULES}; it has {inside[0]}, as old sentence-transformers wrote it",
            "load it with sentence-transformers and save() it again",
        )
    return ModelError(
        "the model has no config.json", "name a folder or repository in the form that save_pretrained() writes"
    )


def modules(names: Collection[str], read: Read) -> Modules:
    """The modules that sentence-transformers makes a model of. Raises `ModelError` for a damaged list."""
    found = read(MODULES) if MODULES in names else []
    if not isinstance(found, list) or not all(
        isinstance(module, dict) and isinstance(module.get("path", ""), str) for module in found
    ):
        raise ModelError(
            f"{MODULES} is no list of modules with a path each", "restore the file from the model's source"
        )
    return found


def embeds(names: Collection[str], read: Read, listed: Modules) -> bool:
    """Whether sentence-transformers makes one vector a text of the model: a reranker has modules as well.

    Raises:
        ModelError: it makes something else of a text, or does so without a network.

    """
    if not listed:
        return False
    told = read(SENTENCES) if SENTENCES in names else {}
    kind = str(told.get("model_type", EMBEDS)) if isinstance(told, dict) else EMBEDS
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in listed]
    if kind not in {EMBEDS, RANKS}:
        raise ModelError(
            f"the model is a {kind} of sentence-transformers: targets serve one dense vector a text",
            f"take a {EMBEDS}, or a {RANKS} to rank texts",
        )
    if kinds[0] != NETWORK and _is_own(listed[0]):
        raise ModelError(
            f"the model begins with {kinds[0]} of sentence-transformers, where a network of transformers is expected",
            f"take a model whose first module is a {NETWORK}",
        )
    if kind == RANKS and len(kinds) > 1:
        raise ModelError(
            f"the model ranks by {kinds[-1]} of sentence-transformers behind its network: no target does that",
            "take a reranker that is a network for text-classification",
        )
    if prompt := told.get("default_prompt_name") if isinstance(told, dict) else None:
        _require_pooled(str(prompt), names, read, listed)
    return kind == EMBEDS


def _require_pooled(prompt: str, names: Collection[str], read: Read, listed: Modules) -> None:
    """Raise `ModelError` for a default prompt whose tokens pooling leaves out: artifacts pool whole texts."""
    pools = [f"{module['path']}/config.json" for module in listed if str(module.get("type")).endswith(".Pooling")]
    if any(read(path).get("include_prompt") is False for path in pools if path in names):
        raise ModelError(
            f"the model's pooling leaves out the tokens of its default prompt {prompt!r}, as no target does",
            f"remove default_prompt_name from {SENTENCES}, and send texts without that prompt",
        )


def _is_own(module: Mapping[str, Any]) -> bool:
    """Whether the module is one of sentence-transformers' and none that the model brings."""
    return str(module.get("type", "")).startswith("sentence_transformers.")
