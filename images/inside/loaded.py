"""An artifact and everything that answers with it, joined: manifest, processor, task or prompts, runner."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from images.inside import modality, tasks
from images.inside.contract import ArtifactError, LoadRunner, Manifest, Outputs, Prepared, Runner, Task, read_manifest
from images.inside.generation.contract import Generator
from images.inside.prompts import Prompts


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One artifact, ready to answer.

    Attributes:
        processor: makes items of requests, as its modality does: a `Tokenizer`, a `Preprocessor`.

    """

    artifact: Path
    manifest: Manifest
    processor: Any
    task: Task
    runner: Runner

    def ask(self, payload: Mapping[str, Any]) -> tuple[list[Outputs], Any]:
        """The raw outputs, one mapping an item, and the answer to one payload; without the queue or HTTP."""
        prepared = self.prepare(payload)
        return self.answer(prepared)

    def prepare(self, payload: Mapping[str, Any]) -> Prepared:
        """A payload's items."""
        return self.task.prepare(payload, self.processor, self.manifest)

    def answer(self, prepared: Prepared) -> tuple[list[Outputs], Any]:
        """The raw outputs of a payload's items, and the answer to it."""
        outputs = modality.of(self.manifest).predict(self.runner, prepared.items, self.manifest)
        return outputs, self.task.answer(prepared, outputs, self.manifest)


@dataclass(frozen=True, kw_only=True)
class LoadedGenerator:
    """One artifact that generates, ready to answer."""

    artifact: Path
    manifest: Manifest
    prompts: Prompts
    runner: Generator


class LoadGenerator(Protocol):
    """`targets.<name>.generate.load`."""

    def __call__(self, artifact: Path, manifest: Manifest, threads: int, slots: int) -> Generator:
        """Load the artifact with room for so many sequences. Raises `ArtifactError` as `LoadRunner` does."""
        ...


def load(artifact: Path, threads: int, slots: int) -> Loaded | LoadedGenerator:
    """Load an artifact folder. Raises `ArtifactError` when a part of it is missing or damaged.

    Args:
        artifact: the folder.
        threads: of the runtime.
        slots: how many sequences a model that generates has room for.

    """
    manifest = read_manifest(artifact)
    return generator(artifact, manifest, threads, slots) if manifest.generation else of(artifact, manifest, threads)


def of(artifact: Path, manifest: Manifest, threads: int) -> Loaded:
    """Load an artifact folder by a manifest that may not be written yet. Raises `ArtifactError`."""
    runner: LoadRunner = _module(manifest, "run").load
    return Loaded(
        artifact=artifact,
        manifest=manifest,
        processor=modality.of(manifest).processor(artifact, manifest),
        task=tasks.load(manifest.task),
        runner=runner(artifact, manifest, threads),
    )


def generator(artifact: Path, manifest: Manifest, threads: int, slots: int) -> LoadedGenerator:
    """Load the artifact folder of a model that generates. Raises `ArtifactError`."""
    if manifest.generation is None:
        raise ArtifactError(f"the manifest does not say how a model for {manifest.task} generates")
    load_generator: LoadGenerator = _module(manifest, "generate").load
    return LoadedGenerator(
        artifact=artifact,
        manifest=manifest,
        prompts=Prompts.load(artifact, manifest.generation),
        runner=load_generator(artifact, manifest, threads, slots),
    )


def _module(manifest: Manifest, name: str) -> Any:
    return importlib.import_module(f"targets.{manifest.target.replace('-', '_')}.{name}")
