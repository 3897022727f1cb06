"""The Python files that a model brings and that a build would run: refused unless they are trusted."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from images.errors import ModelError
from images.inside.original import AUTO

ALWAYS = ("AutoConfig", "AutoTokenizer")
"""Auto classes that a build of any task goes through, besides the task's own."""
SKIPPED = ("onnx", "openvino", "coreml", "gguf")
"""Folders with copies for other runtimes."""


def needed(
    names: Collection[str],
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    modules: Iterable[Mapping[str, Any]],
    task: str,
    *,
    trusted: bool,
) -> list[str]:
    """The model's own Python files, when the build for a task needs any.

    Args:
        names: the paths of all files that the model's source has.
        config: the content of config.json.
        tokenizer: the content of tokenizer_config.json.
        modules: the content of modules.json.
        task: what the model is built for.
        trusted: whether the files may be run.

    Raises:
        ModelError: there are such files and they are not trusted, or are not there.

    """
    mapped = {_source(name): kind for data in (config, tokenizer) for kind, name in _mapped(data, task)}
    files = mapped | {_source(name): "modules.json" for name in _own_modules(modules)}
    if files and not trusted:
        raise _refusal(files, str(config.get("model_type", "")) if mapped else "")
    if missing := sorted(set(files) - set(names)):
        raise ModelError(
            f"the model's own code is missing: {', '.join(missing)}",
            "copy it into the model's folder: a build has no network",
        )
    return [name for name in names if files and name.endswith(".py") and name.split("/")[0] not in SKIPPED]


def _mapped(config: Mapping[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """The auto classes that the build uses with the classes that a configuration puts in their place.

    `auto_map` maps an auto class to a class, or to a slow and a fast one; an old form is AutoTokenizer's value alone.
    """
    auto_map = config.get("auto_map") or {}
    for kind, value in (auto_map if isinstance(auto_map, dict) else {"AutoTokenizer": auto_map}).items():
        if kind in (*ALWAYS, AUTO.get(task, kind)):  # of a task we know no class of, every class counts
            yield from ((kind, str(name)) for name in (value if isinstance(value, list) else [value]) if name)


def _own_modules(modules: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    kinds = (str(module.get("type", "")) for module in modules)
    return (kind for kind in kinds if not kind.startswith("sentence_transformers."))


def _source(name: str) -> str:
    """`module.Class` or `org/repo--module.Class` to the file it lies in."""
    repo, _, local = name.rpartition("--")
    path = local.rpartition(".")[0].replace(".", "/") + ".py"
    return f"{repo}--{path}" if repo else path


def _refusal(files: Mapping[str, str], model_type: str) -> ModelError:
    """Of a known model type, transformers would use its own class; which types it knows, only the builder can tell."""
    named = ", ".join(f"{file} ({files[file]})" for file in sorted(files))
    if not model_type:
        what = f"the model brings its own Python code, and a build would run it: {named}"
        return ModelError(what, "read these files, then accept them with --trust-remote-code")
    return ModelError(
        f"the model brings its own Python code: {named}; whether transformers has the model type {model_type!r}"
        " built in and would do without cannot be known on the host, which has no transformers",
        "read these files, then accept them with --trust-remote-code; or take auto_map out of a copy of the model",
    )
