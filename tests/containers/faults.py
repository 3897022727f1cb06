"""Ways to spoil an artifact. Files and manifest still agree afterwards, unless the fault is that they do not."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from images import modes, spec
from images.inside.export import digests
from images.inside.records import MANIFEST, Bounds, Manifest, read_manifest, write_json

GRAPH = "model.onnx"
EMBEDDING = "sentence_embedding"
INT8 = Bounds(cosine=0.985)
"""What a quantised embedding model is held to."""


def seal(artifact: Path, **changes: Any) -> None:
    """Make the manifest true to the files, so that only the gate can see what is wrong."""
    manifest: Manifest = msgspec.structs.replace(read_manifest(artifact), **changes)
    write_json(artifact / MANIFEST, msgspec.structs.replace(manifest, files=digests(artifact)))


def _graph(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """A fault in the graph."""

    def spoil(artifact: Path) -> None:
        import onnx  # noqa: PLC0415 - only some of the faults need it

        model = onnx.load(artifact / GRAPH)
        change(model.graph)
        onnx.save(model, artifact / GRAPH)
        seal(artifact)

    return spoil


def _producer(graph: Any, tensor: str) -> Any:
    return next(node for node in graph.node if tensor in node.output)


def _last(graph: Any, kind: str) -> Any:
    return [node for node in graph.node if node.op_type == kind][-1]


def _drop_normalisation(graph: Any) -> None:
    division = _producer(graph, EMBEDDING)
    division.op_type = "Identity"
    del division.input[1:]


def _drop_mask(graph: Any) -> None:
    """Every use of the mask reads ones of its shape."""
    import numpy as np  # noqa: PLC0415
    import onnx  # noqa: PLC0415

    for node in graph.node:
        node.input[:] = ["all_ones" if name == "attention_mask" else name for name in node.input]
    one = onnx.numpy_helper.from_array(np.ones(1, np.int64))
    shape = onnx.helper.make_node("Shape", ["attention_mask"], ["mask_shape"])
    graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["mask_shape"], ["all_ones"], value=one))
    graph.node.insert(0, shape)


def _pool_first_token(graph: Any) -> None:
    """The mean's place is taken by the first token's vector."""
    import onnx  # noqa: PLC0415

    tokens = _last(graph, "LayerNormalization").output[0]
    first = onnx.helper.make_tensor("first", onnx.TensorProto.INT64, [], [0])
    graph.initializer.append(first)
    # The mean is a sum divided by the number of tokens; the last division is the normalisation.
    mean = [node for node in graph.node if node.op_type == "Div"][-2]
    mean.op_type = "Gather"
    mean.input[:] = [tokens, "first"]
    mean.attribute.append(onnx.helper.make_attribute("axis", 1))


def _late_positions(graph: Any) -> None:
    """Behind the prompt every position is one too far."""
    import numpy as np  # noqa: PLC0415
    import onnx  # noqa: PLC0415

    for node in graph.node:
        node.input[:] = ["late_positions" if name == "position_ids" else name for name in node.input]
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.int64), "one_token"))
    past = onnx.helper.make_node("Shape", ["past_key_values.0.key"], ["past_tokens"], start=2, end=3)
    late = onnx.helper.make_node("Min", ["past_tokens", "one_token"], ["late"])
    moved = onnx.helper.make_node("Add", ["position_ids", "late"], ["late_positions"])
    for node in (moved, late, past):
        graph.node.insert(0, node)


def per_tensor_int8(artifact: Path) -> None:
    """One scale a matrix, as the quantiser does it when it is not told otherwise; held to the bounds of int8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

        exact = (artifact / GRAPH).rename(artifact.parent / "exact.onnx")
        quantize_dynamic(exact, artifact / GRAPH, weight_type=QuantType.QInt8)
    exact.unlink()
    seal(artifact, mode="int8", bounds=modes.choose(spec.load("onnx-cpu"), "feature-extraction", "int8").bounds)


def swap_labels(artifact: Path) -> None:
    """Every class has its neighbour's name."""
    labels = read_manifest(artifact).labels
    seal(artifact, labels=[*labels[1:], labels[0]])


def swap_padding(artifact: Path) -> None:
    """Sequences are filled up on the wrong side."""
    seal(artifact, padding_side="left")


def keep_case(artifact: Path) -> None:
    """The tokenizer no longer makes text lower case."""
    file = artifact / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(tokenizer))
    seal(artifact)


def flip_a_byte(artifact: Path) -> None:
    """In the middle of the weights."""
    with (artifact / GRAPH).open("r+b") as file:
        file.seek((artifact / GRAPH).stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def remove_a_file(artifact: Path) -> None:
    """The tokenizer is gone."""
    (artifact / "tokenizer.json").unlink()


def add_a_file(artifact: Path) -> None:
    """A file lies there that the manifest does not know."""
    (artifact / "model.onnx_data").write_bytes(b"more weights")


def other_machine(artifact: Path) -> None:
    """The artifact was made for a mainframe."""
    seal(artifact, architecture="s390x")


drop_normalisation = _graph(_drop_normalisation)
drop_mask = _graph(_drop_mask)
pool_first_token = _graph(_pool_first_token)
late_positions = _graph(_late_positions)
