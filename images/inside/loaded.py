"""An artifact and everything that answers with it, joined: manifest, processor, task or prompts, runner."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from images.inside import modality, tasks
from images.inside.contract import LoadRunner, Outputs, Prepared, Runner, Task
from images.inside.engine.contract import Prepare, Wish
from images.inside.engine.process import Process
from images.inside.errors import ArtifactError, CannotRunError
from images.inside.generation.contract import Generator
from images.inside.prompts import Prompts
from images.inside.records import GenerationFacts, Manifest, read_manifest

CPU = "cpu"


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


@dataclass(frozen=True, kw_only=True)
class LoadedEngine:
    """One artifact in an engine of its own, which has answered: ready to be asked."""

    artifact: Path
    manifest: Manifest
    prompts: Prompts
    process: Process


Model = Loaded | LoadedGenerator | LoadedEngine


class LoadGenerator(Protocol):
    """`targets.<name>.generate.load`."""

    def __call__(self, artifact: Path, manifest: Manifest, threads: int, slots: int) -> Generator:
        """Load the artifact with room for so many sequences. Raises `ArtifactError` as `LoadRunner` does."""
        ...


def load(artifact: Path, wish: Wish) -> Model:
    """Load an artifact folder, by the module that its target answers with.

    Raises:
        ArtifactError: a part of it is missing or damaged.
        CannotRunError: its engine does not start here, or another device is asked for than a runner's only one.

    """
    manifest = read_manifest(artifact)
    if manifest.generation and importlib.util.find_spec(_name(manifest, "engine")):
        return engine(artifact, manifest, wish)
    if wish.device not in {"", CPU}:
        raise CannotRunError(f"this image's runtime is for {CPU} only, not for {wish.device}")
    if not manifest.generation:
        return of(artifact, manifest, wish.threads)
    return generator(artifact, manifest, wish.threads, wish.slots)


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
    known = facts(manifest)
    load_generator: LoadGenerator = _module(manifest, "generate").load
    return LoadedGenerator(
        artifact=artifact,
        manifest=manifest,
        prompts=Prompts.load(artifact, known),
        runner=load_generator(artifact, manifest, threads, slots),
    )


def engine(artifact: Path, manifest: Manifest, wish: Wish) -> LoadedEngine:
    """Start the engine of a model that generates. Raises `ArtifactError` and `CannotRunError`."""
    prompts = Prompts.load(artifact, facts(manifest))
    prepare: Prepare = _module(manifest, "engine").prepare
    return LoadedEngine(
        artifact=artifact, manifest=manifest, prompts=prompts, process=Process(prepare(artifact, manifest, wish))
    )


def facts(manifest: Manifest) -> GenerationFacts:
    """How the model generates. Raises `ArtifactError` when the manifest does not say it."""
    if manifest.generation is None:
        raise ArtifactError(f"the manifest does not say how a model for {manifest.task} generates")
    return manifest.generation


def describe(model: Model) -> dict[str, str]:
    """What the runtime says of itself."""
    return dict(model.process.launch.facts) if isinstance(model, LoadedEngine) else model.runner.describe()


def _module(manifest: Manifest, name: str) -> Any:
    return importlib.import_module(_name(manifest, name))


def _name(manifest: Manifest, module: str) -> str:
    return f"targets.{manifest.target.replace('-', '_')}.{module}"
