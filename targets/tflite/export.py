"""The model to one `.tflite` with a signature for each length, by one of two exporters; then to smaller numbers."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from images.inside import compare, gate, loaded, original
from images.inside import export as sealing
from images.inside.contract import Exported, Exporting
from images.inside.records import REFERENCE, Source, write_json
from targets.tflite import (
    calibration,
    export_generation,
    export_litert,
    export_optimum_tf,
    metadata,
    quantize,
    shapes,
    static,
)

ENTRY = "model.tflite"
LENGTHS = "seq-len"
"""The target's own flag."""
Convert = Callable[[Exporting, Source, Sequence[int], Path], None]
EXPORTERS: Mapping[str, Convert] = {"litert": export_litert.convert, "optimum-tf": export_optimum_tf.convert}


def export(given: Exporting) -> Exported:
    """Write `model.tflite`."""
    source = sealing.read_source(given)
    _require(given, source)
    lengths = [] if source.image else shapes.wanted(str(given.job.options[LENGTHS]), source.max_length)
    asked = _calibration(given, lengths)
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / ENTRY
        convert = export_generation.convert if source.generation else EXPORTERS[given.job.exporter]
        convert(given, source, lengths, exact)
        made = _as_asked(exact, given, static.recipes(exact, asked) if asked else quantize.RECIPES[given.job.mode])
    return _measured(given, made)


def _require(given: Exporting, source: Source) -> None:
    if not (source.padding or source.generation):
        original.refuse(
            f"{given.source.model.id} answers differently beside padding, which a fixed shape always has",
            "build it for a target with dynamic shapes",
        )


def _calibration(given: Exporting, lengths: Sequence[int]) -> calibration.Inputs:
    """What the scales of activations are measured with, where the mode fixes them; empty where it does not."""
    if given.job.mode != static.MODE:
        return {}
    return calibration.inputs(given, sealing.manifest_of(given, Exported(ENTRY)), lengths)


def _as_asked(exact: Path, given: Exporting, recipes: Mapping[str, quantize.Write]) -> Exported:
    """The fastest recipe of the mode that the gate lets pass; the last one if none does, for the gate to refuse."""
    made = Exported(ENTRY)
    for recipe, write in recipes.items():
        write(exact, given.out / ENTRY)
        metadata.write(given.out / ENTRY, given, sealing.read_source(given))
        made = Exported(ENTRY, recipe)
        if not recipe or _passes(given, made):
            break
    return made


def _passes(given: Exporting, made: Exported) -> bool:
    """Whether the artifact as it stands keeps the bounds, by the image's own runner and comparison."""
    sealing.carry(given)
    manifest = sealing.manifest_of(given, made)
    load = partial(loaded.generator, slots=1) if manifest.generation else loaded.of
    model = load(given.out, manifest, threads=1)
    return not compare.misses(gate.measure(model, compare.load(given.work / REFERENCE)), given.job.bounds)


def _measured(given: Exporting, made: Exported) -> Exported:
    """With the shares of operators in XNNPACK and of static products, the files packed, the memory of all lengths."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.json"
        write_json(manifest, sealing.manifest_of(given, made))
        argv = [sys.executable, "-m", "targets.tflite.measure", f"--artifact={given.out}", f"--manifest={manifest}"]
        seen = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    file = given.out / ENTRY
    measures = {"xnnpack": seen["xnnpack"], "metadata_files": metadata.files_in(file)}
    if given.job.mode == static.MODE:
        measures["static"] = static.share(file)
    return made._replace(measures=measures, memory=seen["memory"])
