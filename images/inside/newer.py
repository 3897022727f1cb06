"""A model that newer libraries saved, in the words of older ones. Runs in the builder, before all else.

Some exporters need transformers 4. It does not know the one class that 5 has for all fast tokenizers, and it passes
over the field in which 5 writes rotary positions: reference and artifact would agree, and both be another model.
sentence-transformers 6 names modules by where it keeps them, which 5 does not have.
"""

import importlib.metadata
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from images.inside import original

FAST = "PreTrainedTokenizerFast"
"""What transformers 4 calls a fast tokenizer that its file describes wholly."""
NEW_CLASSES = ("TokenizersBackend",)
ROTARY = "rope_parameters"
"""Where transformers 5 writes rotary positions: one set of parameters, or one by kind of layer."""
ABOVE = ("rope_theta", "partial_rotary_factor")
"""What is a field of the configuration itself in transformers 4; the rest is `rope_scaling`."""
FULL, SLIDING = "full_attention", "sliding_attention"
_GEMMA = {FULL: "rope_theta", SLIDING: "rope_local_base_freq"}
_MODERN = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}
BY_LAYER: Mapping[str, Mapping[str, str]] = {
    "gemma3_text": _GEMMA,
    "gemma3n_text": _GEMMA,
    "modernbert": _MODERN,
    "modernbert-decoder": _MODERN,
}
"""Transformers 4's name of each kind of layer's base frequency, by model type."""
_NEOX = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
OWN_NAMES: Mapping[str, Mapping[str, str]] = {
    "gpt_neox": _NEOX,
    "gpt_neox_japanese": _NEOX,
    "phi3": {"rope_type": "type"},
}
"""Where it has names of its own for one set of parameters, by model type."""
BESIDE: Mapping[str, str] = {"phi3": "original_max_position_embeddings"}
"""A parameter that it takes beside the scaling and not in it, by model type."""

RENAMED: Mapping[str, str] = {"num_local_experts": "num_experts"}
"""Fields that some types call otherwise in transformers 4."""
SENTENCES, OF_ALL = "sentence_transformers.", "sentence_transformers.models."
"""Begins the names of sentence-transformers' own modules; and those that all releases read."""

Json = dict[str, Any]


class Translation(NamedTuple):
    """What makes a file's content of a newer one's, for releases of a library below a number."""

    translate: Callable[[Any], Any]
    library: str
    below: int

    @property
    def needed(self) -> bool:
        """Whether the library is here, and that old."""
        try:
            return int(installed(self.library).partition(".")[0]) < self.below
        except importlib.metadata.PackageNotFoundError:
            return False


def link(model: Path, out: Path) -> None:
    """Make `out` the model's folder: a link to it, or links to its files beside those that are written anew."""
    files = translated(model)
    if not files:
        out.symlink_to(model)
        return
    for path in (path for path in model.rglob("*") if path.is_file()):
        made = out / path.relative_to(model)
        made.parent.mkdir(parents=True, exist_ok=True)
        if path in files:
            made.write_text(json.dumps(files[path], indent=2))
        else:
            made.symlink_to(path)


def translated(model: Path) -> dict[Path, Any]:
    """The files of a model that libraries here would not read, or not as they are meant, as they have them."""
    found = {}
    for name, (translate, *_) in ((name, told) for name, told in TRANSLATIONS.items() if told.needed):
        for path in model.rglob(name):
            told = _read(path)
            if (new := translate(told)) != told:
                found[path] = new
    return found


def modules(told: Any) -> Any:
    """modules.json: each of sentence-transformers' own modules by the name that all releases read."""
    if not isinstance(told, list):
        return told
    return [{**module, "type": _module(module["type"])} if "type" in module else module for module in told]


def _module(kind: str) -> str:
    return f"{OF_ALL}{kind.rpartition('.')[2]}" if kind.startswith(SENTENCES) else kind


def tokenizer(told: Any) -> Any:
    """tokenizer_config.json: the class, and the special tokens that have no names."""
    if not isinstance(told, dict):
        return told
    new = dict(told)
    if told.get("tokenizer_class") in NEW_CLASSES:
        new["tokenizer_class"] = FAST
    if isinstance(extra := told.get("extra_special_tokens"), list):
        del new["extra_special_tokens"]
        new["additional_special_tokens"] = list(
            dict.fromkeys([*map(_text, told.get("additional_special_tokens") or []), *map(_text, extra)])
        )
    return new


def config(told: Any) -> Any:
    """config.json, with those in it. Ends the step for rotary positions that transformers 4 has no words for."""
    if not isinstance(told, dict):
        return told
    new = {name: config(value) if isinstance(value, dict) else value for name, value in _renamed(told).items()}
    if isinstance(rotary := new.pop(ROTARY, None), dict):
        kind = str(told.get("model_type", ""))
        by_layer = any(isinstance(value, dict) for value in rotary.values())
        words = _by_layer(rotary, kind) if by_layer else _of_all(rotary, kind)
        _require_known(words, kind)
        new |= words
    return new


def _renamed(told: Json) -> Json:
    if not told.keys() & RENAMED.keys():
        return told
    known = parameters(str(told.get("model_type", "")))
    names = {name: old for name, old in RENAMED.items() if name not in known and old in known}
    return {names.get(name, name): value for name, value in told.items()}


def _of_all(rotary: Mapping[str, Any], kind: str) -> Json:
    own, above = OWN_NAMES.get(kind, {}), {*ABOVE, BESIDE.get(kind)}
    named = {own.get(name, name): value for name, value in rotary.items() if name in above}
    scaling = {own.get(name, name): value for name, value in rotary.items() if name not in above}
    return named | ({} if _plain(rotary) else {"rope_scaling": scaling})


def _by_layer(rotary: Mapping[str, Any], kind: str) -> Json:
    names = BY_LAYER.get(kind, {})
    if rotary.keys() - names.keys() or not _plain(rotary.get(SLIDING, {})):
        _refuse(kind)
    new = {names[layers]: of["rope_theta"] for layers, of in rotary.items()}
    whole = {name: value for name, value in rotary.get(FULL, {}).items() if name != "rope_theta"}
    return new | ({} if _plain(whole) else {"rope_scaling": whole})


def _require_known(words: Mapping[str, Any], kind: str) -> None:
    """End the step where the type's own configuration does not take these words: it would pass over them."""
    known = parameters(kind)
    if known and words.keys() - known:
        _refuse(kind)


def _refuse(kind: str) -> NoReturn:
    original.refuse(
        f"transformers 5 saved this model of type {kind} with rotary positions of which "
        f"this exporter's transformers {installed()} cannot be told",
        "try another --quantize mode or --exporter, which has another transformers, or another target",
    )


def _plain(rotary: Mapping[str, Any]) -> bool:
    return bool(rotary.get("rope_type", "default") == "default")


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _read(path: Path) -> Any:
    """A file's content; None of a damaged file, which transformers reports better."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def parameters(kind: str) -> set[str]:
    """What the configuration of a model type takes by name in the transformers here; nothing of an unknown type."""
    from transformers import CONFIG_MAPPING

    return set(inspect.signature(CONFIG_MAPPING[kind].__init__).parameters) if kind in CONFIG_MAPPING else set()


def installed(library: str = "transformers") -> str:
    """The version of a library here."""
    return importlib.metadata.version(library)


TRANSLATIONS: Mapping[str, Translation] = {
    "config.json": Translation(config, "transformers", 5),
    "tokenizer_config.json": Translation(tokenizer, "transformers", 5),
    "modules.json": Translation(modules, "sentence-transformers", 6),
}
"""By file name; in sentence-transformers models they lie in folders of their own too."""
