"""A decoder to ONNX: exact by Optimum's exporter, quantised by the model builder of onnxruntime-genai.

The builder's graphs run in plain ONNX Runtime. Each exporter has an environment of its own, for they need different
versions of transformers.
"""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from images.inside import original
from images.inside.contract import Exported, Exporting

ENTRY = "model.onnx"
CACHE = "modelyard.cache"
"""As `targets.onnx_cpu.generate` reads it."""
BUILDER = "targets.onnx_cpu.builder"
UNSUPPORTED = "is not currently supported"
"""Of what it says of an architecture that it does not know, by a path in here."""
PRECISION = {"none": "fp32", "int8": "int8", "int4": "int4"}
"""The builder's names of our modes."""
TASK = "text-generation-with-past"
FED = re.compile(r"input_ids|attention_mask|past_key_values\.\d+\.(key|value)")
"""A decoder's inputs in the image, and `position_ids` where the cache is concatenated."""
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

    describe = describes(given, TASK, "try --quantize int8, which another exporter makes, or another target")
    with tempfile.TemporaryDirectory() as work:
        main_export(
            str(given.model),
            output=work,
            task=TASK,
            library_name="transformers",
            device="cpu",
            dtype="fp32",
            do_validation=False,  # Optimum only warns; the gate is ours
            no_post_process=False,  # without it tied weights are stored twice
            trust_remote_code=given.source.trust_remote_code,
            custom_onnx_configs=_with_positions(_config(given), describe) or None,  # an empty one is no none
        )
        for file in Path(work).glob(f"{ENTRY}*"):
            shutil.move(file, given.out / file.name)
    graph = read_graph(given.out / ENTRY)
    _require_inputs(graph, given, "position_ids")
    _save(graph, given.out / ENTRY, "concatenated")
    return Exported(ENTRY)


def describes(given: Exporting, task: str, hint: str) -> Any:
    """Optimum's description of such a model's graph. Ends the step where there is none: it would say how to add one."""
    from optimum.exporters.tasks import TasksManager

    kind = _config(given).model_type
    try:
        return TasksManager.get_exporter_config_constructor(
            "onnx", task=task, model_type=kind, library_name="transformers"
        )
    except (KeyError, ValueError):
        what = f"{given.job.exporter} does not know {kind} for {given.source.task} ({given.source.model.id})"
        original.refuse(what, hint)


def _config(given: Exporting) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(given.model, trust_remote_code=given.source.trust_remote_code)


def _with_positions(config: Any, describe: Any) -> dict[str, Any]:
    """Optimum's own description of the graph and the input `position_ids`, for a network that takes it.

    Without it some graphs count positions by the length of the cache, which rows that are padded on the left share.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    network = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if network is None or "position_ids" not in inspect.signature(network.forward).parameters:
        return {}
    made = describe(config, use_past=True, use_past_in_inputs=True)
    made.__class__ = _placed(type(made))
    return {"model": made}


def _placed(described: Any) -> Any:
    class Placed(described):  # type: ignore[misc]  # a class of Optimum's
        """A description with one more input."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Axes by input."""
            return {**super().inputs, "position_ids": {0: "batch_size", 1: "sequence_length"}}

    return Placed


def _genai(given: Exporting) -> Exported:
    """The builder as a program: as a module it imports its parts by names without a package."""
    mode = given.job.mode
    with tempfile.TemporaryDirectory() as work:
        made, cache = Path(work, "made"), Path(work, "cache")
        told = ("-i", given.model, "-o", made, "-p", PRECISION[mode], "-e", "cpu", "-c", cache)
        _run(given, *told, "--extra_options", *OPTIONS[mode])
        for file in made.glob(f"{ENTRY}*"):
            shutil.move(file, given.out / file.name)
        head_size = json.loads((made / "genai_config.json").read_text())["model"]["decoder"]["head_size"]
    graph = read_graph(given.out / ENTRY)
    _require_inputs(graph, given)
    _size_heads(graph, int(head_size))
    _limit_attention(graph, _config(given))
    _save(graph, given.out / ENTRY, "shared")
    return Exported(ENTRY, ", ".join(OPTIONS[mode]))


def _run(given: Exporting, *arguments: str | Path) -> None:
    """Run the builder. Ends the step when it fails: on what it does not know, it often fails by chance."""
    done = subprocess.run(
        [sys.executable, "-m", BUILDER, *arguments], check=False, capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)  # for the log
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        original.refuse(
            f"onnxruntime-genai's model builder does not take {given.source.model.id} "
            f"({_config(given).model_type})" + ("" if UNSUPPORTED in said else f": it ended with {said}"),
            "give --quantize none, which another exporter makes, or take another target",
        )


def read_graph(file: Path) -> Any:
    """An ONNX model without its weights."""
    import onnx

    return onnx.load(file, load_external_data=False)


def _require_inputs(graph: Any, given: Exporting, *more: str) -> None:
    """End the step when the graph takes what the image does not feed: another kind of cache, or no cache of its own."""
    others = [tensor.name for tensor in graph.graph.input if not FED.fullmatch(tensor.name) and tensor.name not in more]
    cached = any("past_key_values" in tensor.name for tensor in graph.graph.input)
    if others or not cached:
        what = f"its graph takes {', '.join(others[:4])}" if others else "its graph keeps no keys and values"
        refuse_graph(given, what, "try another --quantize mode, which another exporter makes, or another target")


def refuse_graph(given: Exporting, what: str, hint: str) -> NoReturn:
    """End the step for a graph that the image could not run; `what` says why, `hint` what to do."""
    original.refuse(
        f"{given.job.exporter} exports {given.source.model.id} in a form that this target does not run: {what}", hint
    )


def _size_heads(graph: Any, head_size: int) -> None:
    """The builder leaves the size of a head open."""
    for tensor in (*graph.graph.input, *graph.graph.output):
        shape = tensor.type.tensor_type.shape.dim
        if len(shape) == 4:  # noqa: PLR2004 - only the cache has four
            shape[3].dim_value = head_size


def _limit_attention(graph: Any, config: Any) -> None:
    """A window over all layers, which the builder passes over: it reads windows of single layers only."""
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "layer_types", None):
        return
    limits = [
        attribute
        for node in graph.graph.node
        if node.op_type == "GroupQueryAttention"
        for attribute in node.attribute
        if attribute.name == "local_window_size"
    ]
    for limit in limits:
        limit.i = window


def _save(graph: Any, file: Path, cache: str) -> None:
    """Write the graph; it says how it holds its cache."""
    import onnx

    onnx.helper.set_model_props(graph, {CACHE: cache})
    onnx.save(graph, file)
