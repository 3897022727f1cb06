"""An artifact and everything that answers with it, joined: manifest, tokenizer, task, runner."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.inside import collate, tasks
from images.inside.contract import LoadRunner, Manifest, Outputs, Runner, Task, read_manifest
from images.inside.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One artifact, ready to answer."""

    artifact: Path
    manifest: Manifest
    tokenizer: Tokenizer
    task: Task
    runner: Runner

    def ask(self, payload: Mapping[str, Any]) -> tuple[list[Outputs], Any]:
        """The raw outputs, one mapping an item, and the answer to one payload; without the queue or HTTP."""
        prepared = self.task.prepare(payload, self.tokenizer, self.manifest)
        outputs = collate.predict(self.runner, prepared.items, self.manifest)
        return outputs, self.task.answer(prepared, outputs, self.manifest)


def load(artifact: Path, threads: int) -> Loaded:
    """Load an artifact folder. Raises `ArtifactError` when a part of it is missing or damaged."""
    return of(artifact, read_manifest(artifact), threads)


def of(artifact: Path, manifest: Manifest, threads: int) -> Loaded:
    """Load an artifact folder by a manifest that may not be written yet. Raises `ArtifactError`."""
    runner: LoadRunner = importlib.import_module(f"targets.{manifest.target.replace('-', '_')}.run").load
    return Loaded(
        artifact=artifact,
        manifest=manifest,
        tokenizer=Tokenizer.load(artifact, manifest),
        task=tasks.load(manifest.task),
        runner=runner(artifact, manifest, threads),
    )
