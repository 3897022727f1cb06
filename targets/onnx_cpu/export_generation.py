"""A decoder to ONNX: exact by Optimum's exporter, quantised by the model builder of onnxruntime-genai.

The builder's graphs run in plain ONNX Runtime. Each exporter has an environment of its own, for they need different
versions of transformers.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from images.inside.contract import Exported, Exporting

ENTRY = "model.onnx"
CACHE = "modelyard.cache"
"""As `targets.onnx_cpu.generate` reads it."""
BUILDER = "onnxruntime_genai.models.builder"
PRECISION = {"none": "fp32", "int8": "int8", "int4": "int4"}
"""The builder's names of our modes."""
LAST_ONLY = "prune_lm_head=true"
"""A prompt's logits are computed behind its last token only: a fifth of a small model's prefill."""
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "none": (LAST_ONLY,),
    # A zero point a block: as fast as symmetric blocks and closer to the original.
    "int8": (LAST_ONLY, "is_symmetric=false"),
    # The head and the most sensitive layers stay at 8 bits.
    "int4": (LAST_ONLY, "algo_config=k_quant_mixed"),
}
"""Extra options of the builder, by mode: chosen by measured speed and fidelity."""


def export(given: Exporting) -> Exported:
    """Write `model.onnx` and its weights; the graph says how it holds its cache."""
    if given.job.exporter == "optimum":
        return _optimum(given)
    return _genai(given)


def _optimum(given: Exporting) -> Exported:
    from optimum.exporters.onnx import main_export

    with tempfile.TemporaryDirectory() as work:
        main_export(
            str(given.model),
            output=work,
            task="text-generation-with-past",
            library_name="transformers",
            device="cpu",
            dtype="fp32",
            do_validation=False,  # Optimum only warns; the gate is ours
            no_post_process=False,  # without it tied weights are stored twice
            trust_remote_code=given.source.trust_remote_code,
        )
        for file in Path(work).glob(f"{ENTRY}*"):
            shutil.move(file, given.out / file.name)
    _seal(given.out / ENTRY, "concatenated", 0)
    return Exported(ENTRY)


def _genai(given: Exporting) -> Exported:
    """The builder as a program: as a module it imports its parts by names without a package."""
    mode = given.job.mode
    with tempfile.TemporaryDirectory() as work:
        made, cache = Path(work, "made"), Path(work, "cache")
        _run(
            "-i",
            given.model,
            "-o",
            made,
            "-p",
            PRECISION[mode],
            "-e",
            "cpu",
            "-c",
            cache,
            "--extra_options",
            *OPTIONS[mode],
        )
        for file in made.glob(f"{ENTRY}*"):
            shutil.move(file, given.out / file.name)
        config = json.loads((made / "genai_config.json").read_text())
    _seal(given.out / ENTRY, "shared", int(config["model"]["decoder"]["head_size"]))
    return Exported(ENTRY, ", ".join(OPTIONS[mode]))


def _run(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", BUILDER, *arguments], check=False, capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "the model builder failed").splitlines()[-1])


def _seal(file: Path, cache: str, head_size: int) -> None:
    """Write into the graph how it holds its cache, and the size of a head where the builder left it open."""
    import onnx

    graph: Any = onnx.load(file, load_external_data=False)
    for tensor in (*graph.graph.input, *graph.graph.output):
        shape = tensor.type.tensor_type.shape.dim
        if head_size and len(shape) == 4:  # noqa: PLR2004 - only the cache has four
            shape[3].dim_value = head_size
    onnx.helper.set_model_props(graph, {CACHE: cache})
    onnx.save(graph, file)
