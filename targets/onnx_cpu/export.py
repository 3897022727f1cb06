"""The model to ONNX by Optimum's exporter, and to int8 by ONNX Runtime's quantisers."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from images.inside import compare, gate, loaded, original
from images.inside import export as sealing
from images.inside.contract import Exported, Exporting
from images.inside.records import REFERENCE
from targets.onnx_cpu import export_generation

EXPORTERS: Mapping[str, Callable[[Exporting], Exported]] = {"text-generation": export_generation.export}
"""By task; all others have an encoder."""
ENTRY = "model.onnx"
EMBEDDING = "sentence_embedding"
FED = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "pixel_values")
"""A graph's inputs in the image."""
OTHERS = "try another target, such as torchscript, which takes the model as it is"
"""What to do about a model that Optimum does not write as the image needs it."""
NO_TOKEN = -1
"""Padding for a decoder that states none and classifies by its last token: then no token of a text counts as such."""
BLOCK = 128
"""Weights that share one scale in a block-wise quantised matrix."""
EXACT_ACTIVATIONS = 4
"""MatMulNBits' accuracy level: activations are int8, with a scale a block."""


def export(given: Exporting) -> Exported:
    """Write `model.onnx` and what belongs to it."""
    return EXPORTERS.get(given.source.task, _encoder)(given)


def _encoder(given: Exporting) -> Exported:
    """`model.onnx` (and `model.onnx_data` past ONNX's 2 GiB), dynamic in batch and sequence.

    Inputs are int64 [batch, sequence]; outputs are float32. An embedding model's pooling and normalisation are part of
    the graph: Optimum traces them through sentence-transformers.
    """
    with tempfile.TemporaryDirectory() as folder:
        exact = _optimum(given, Path(folder))
        if given.job.mode == "int8":
            return _quantize(exact, given)
        for file in exact.parent.glob(f"{ENTRY}*"):
            shutil.move(file, given.out / file.name)
    return Exported(ENTRY)


def _optimum(given: Exporting, work: Path) -> Path:
    from optimum.exporters.onnx import main_export

    embeds = original.embeds(given.model, given.source)
    if not embeds:
        export_generation.describes(given, given.source.task, OTHERS)
    main_export(
        str(original.sentence_folder(given.model, given.source, work / "sentence") if embeds else given.model),
        output=work / "onnx",
        task=given.source.task,
        library_name="sentence_transformers" if embeds else "transformers",
        device="cpu",
        dtype="fp32",
        do_validation=False,  # Optimum only warns; the gate is ours
        no_post_process=True,
        trust_remote_code=given.source.trust_remote_code,
        pad_token_id=NO_TOKEN,
    )
    _require_inputs(work / "onnx" / ENTRY, given)
    if embeds:
        _keep_output(work / "onnx" / ENTRY, EMBEDDING)
    return work / "onnx" / ENTRY


def _require_inputs(file: Path, given: Exporting) -> None:
    """End the step when the graph takes what the image does not feed."""
    graph = export_generation.read_graph(file)
    if others := [tensor.name for tensor in graph.graph.input if tensor.name not in FED]:
        export_generation.refuse_graph(
            given,
            f"its graph takes {', '.join(others[:4])}",
            OTHERS,
        )


def _keep_output(file: Path, name: str) -> None:
    """Make one tensor the graph's only output: a token-wise output nobody reads would cost a copy a request."""
    import onnx

    graph: Any = onnx.load(file, load_external_data=False)
    kept = [output for output in graph.graph.output if output.name == name]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    onnx.save(graph, file)


def _quantize(exact: Path, given: Exporting) -> Exported:
    """The fastest recipe that the gate lets pass; the last one if none does, for the gate to refuse."""
    made = Exported(ENTRY)
    for recipe, quantize in RECIPES.items():
        quantize(exact, given.out / ENTRY)
        made = Exported(ENTRY, recipe)
        if _passes(given, made):
            break
    return made


def _passes(given: Exporting, made: Exported) -> bool:
    """Whether the artifact as it stands keeps the bounds, by the image's own runner and comparison."""
    sealing.carry(given)
    model = loaded.of(given.out, sealing.manifest_of(given, made), threads=1)
    return not compare.misses(gate.measure(model, compare.load(given.work / REFERENCE)), given.job.bounds)


def _by_channel(exact: Path, out: Path) -> None:
    """Weights with a scale a channel, activations with one a tensor, measured at run time.

    One scale a tensor for the weights too would be the quantiser's default; it loses too much on small encoders.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(exact, out, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])


def _by_block(exact: Path, out: Path, keep: Callable[[Any], bool] = lambda _: False) -> None:
    """Weights and activations with a scale a block: an outlier spoils its block only. `keep` says what stays exact."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(exact)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and keep(weights[node.input[1]])
    ]
    quantizer = MatMulNBitsQuantizer(
        model, bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=EXACT_ACTIVATIONS, nodes_to_exclude=kept
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


def _feed_forward_by_block(exact: Path, out: Path) -> None:
    """Blocks in the layers that widen and narrow, for around their activation the outliers are; channels elsewhere."""
    mixed = out.with_suffix(".mixed")
    _by_block(exact, mixed, keep=lambda weight: weight.dims[0] == weight.dims[1])
    _by_channel(mixed, out)
    mixed.unlink()


RECIPES: Mapping[str, Callable[[Path, Path], None]] = {
    "per-channel": _by_channel,
    "per-channel, feed-forward block-wise": _feed_forward_by_block,
    "block-wise": _by_block,
}
"""Ways to int8, fastest first."""
