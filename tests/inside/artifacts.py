"""A whole artifact on disk, sealed as an export seals it, of the table that `serving` serves."""

import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from images.inside import compare, export
from images.inside.compare import Reference
from images.inside.contract import Exported, Exporting
from images.inside.records import (
    MANIFEST,
    REFERENCE,
    Bounds,
    Case,
    ExportJob,
    Manifest,
    Source,
    SourceJob,
    read_manifest,
    write_json,
)
from images.inside.text import TOKENIZER
from tests.inside import serving
from tests.inside.serving import TableRunner

BOUNDS = Bounds(max_abs_diff=1e-5, cosine=0.999)
PAYLOADS: Mapping[str, Any] = {"short": "one two", "batch": ["three", "four five six", "seven"], "empty": ""}


def install(runner: TableRunner, patch: pytest.MonkeyPatch) -> None:
    """Let artifacts of the target `table` be run by this runner."""
    module = types.ModuleType("targets.table.run")
    module.__dict__["load"] = lambda *_: runner
    patch.setitem(sys.modules, "targets.table.run", module)


def exporting(folder: Path, **job: Any) -> Exporting:
    """What an exporter is given, after it has written its file: the reference is what the table says."""
    facts, work, out = serving.manifest(), folder / "work", folder / "artifact"
    for made in (work, out):
        made.mkdir(parents=True)
    known = {name: getattr(facts, name) for name in Source.__struct_fields__}
    write_json(work / "source.json", Source(**known))
    serving.tokenizer(facts)._backend.save(str(work / TOKENIZER))
    compare.save(work / REFERENCE, reference())
    (out / "model.bin").write_bytes(bytes(1000))
    source = SourceJob(model=facts.model, task=facts.task)
    told = ExportJob(**{"target": "table", "exporter": "none", "mode": "none", "bounds": BOUNDS, **job})
    return Exporting(folder / "model", out, work, folder / "told", source, told)


def sealed(folder: Path, **job: Any) -> Path:
    """The artifact's folder."""
    given = exporting(folder, **job)
    export.seal(given, Exported("model.bin", "by hand"))
    return given.out


def per_token(artifact: Path) -> None:
    """Make it a model of token vectors, with the reference that belongs to it."""
    manifest = restate(artifact, embedding=None)
    compare.save(artifact / REFERENCE, reference(manifest, TableRunner(per_token=True)))
    restate(artifact, files=export.digests(artifact))


def reference(manifest: Manifest | None = None, runner: TableRunner | None = None) -> Reference:
    """What the table answers."""
    model = serving.loaded(manifest or serving.manifest(), runner or TableRunner())
    cases = tuple(Case(name=name, payload={"inputs": text}, answer=None) for name, text in PAYLOADS.items())
    outputs = {case.name: [dict(item) for item in model.ask(case.payload)[0]] for case in cases}
    return Reference(cases=cases, outputs=outputs)


def restate(artifact: Path, **changes: Any) -> Manifest:
    """Change the manifest of a sealed artifact."""
    manifest = msgspec.structs.replace(read_manifest(artifact), **changes)
    write_json(artifact / MANIFEST, manifest)
    return manifest


class Shifted(TableRunner):
    """A table whose every number is off by a little."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.table = self.table + np.float32(by)


def install_exporter(exporter: Callable[[Exporting], Exported], patch: pytest.MonkeyPatch) -> None:
    """Let the target `table` be exported by this function."""
    module = types.ModuleType("targets.table.export")
    module.__dict__["export"] = exporter
    patch.setitem(sys.modules, "targets.table.export", module)
