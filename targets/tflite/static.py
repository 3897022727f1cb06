"""Integers with one scale a tensor, fixed by a calibration, in the matrix products that bear it; the rest as in `int8`.

A transformer has tensors whose largest number is a hundred times the others: one scale for all leaves the others two or
three bits (Bondarenko, Nagel, Blankevoort: Understanding and Overcoming the Challenges of Efficient Transformer
Quantization, 2021). Which they are is measured: by the noise that rounding to 256 steps puts into what a product reads
and writes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from images.inside import threads
from images.inside.contract import FloatArray
from targets.tflite.calibration import Inputs
from targets.tflite.quantize import Write

MODE = "int8-static"
KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""The shares of products to try, the cleanest of them; the first that the gate lets pass is taken."""
SAMPLE = 16
"""Texts of each length that noise is measured with."""
STEPS = 255
PRODUCT = "FULLY_CONNECTED"
Ranges = Mapping[str, Mapping[str, Any]]
"""By tensor, the least and the largest number of the calibration: `min` and `max`."""


class Product(NamedTuple):
    """One matrix product of one signature.

    Attributes:
        weights: which of the file's buffers it multiplies with; the same product at another length has the same.
        scope: the name that the quantiser knows it by.
        reads: index and name of the tensor that it is given.
        writes: index and name of the tensor that it makes.

    """

    weights: int
    scope: str
    reads: tuple[int, str]
    writes: tuple[int, str]


def recipes(exact: Path, inputs: Inputs) -> dict[str, Write]:
    """The ways to the mode, the one with the most products first."""
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer, asked = Quantizer(exact), _taken(exact, inputs)
    _add(quantizer, ".*")
    ranges = quantizer.calibrate(asked, num_threads=threads.cpu_threads())
    products = _products(exact)
    ranked = cleanest(products, _ratios(exact, products, asked, ranges))
    return {
        f"{kept:.0%} of the products static": partial(_write, ranges=ranges, scopes=chosen(ranked, kept))
        for kept in KEPT
    }


def share(file: Path) -> float:
    """The share, 0 to 1, of a finished file's matrix products whose scales are fixed: they read integers."""
    from ai_edge_litert.schema_py_generated import TensorType

    model = _read(file)
    products = [(graph, operator) for graph in model.subgraphs for operator in graph.operators if _is(model, operator)]
    static = [graph.tensors[operator.inputs[0]].type == TensorType.INT8 for graph, operator in products]
    return float(np.mean(static)) if static else 0.0


def cleanest(products: Mapping[str, Sequence[Product]], ratios: Mapping[str, float]) -> list[list[str]]:
    """The products from the cleanest to the noisiest, each by its scopes at all lengths.

    Args:
        products: by signature.
        ratios: by scope, of signal to noise in dB; the worst of a product's lengths counts.

    """
    scopes: dict[int, list[str]] = {}
    for product in (each for found in products.values() for each in found):
        scopes.setdefault(product.weights, []).append(product.scope)
    return sorted(scopes.values(), key=lambda names: -min(ratios[name] for name in names))


def chosen(ranked: Sequence[Sequence[str]], kept: float) -> list[str]:
    """The scopes of the first products, as many as make at least this share of them all."""
    wanted = kept * sum(map(len, ranked))
    before = accumulate(map(len, ranked), initial=0)
    return [scope for names, sooner in zip(ranked, before, strict=False) if sooner < wanted for scope in names]


def power(values: FloatArray, low: float, high: float) -> tuple[float, float]:
    """The power of numbers, and that of the noise when they are rounded to 256 steps from `low` to `high`."""
    low, high = min(low, 0.0), max(high, 0.0)  # zero is always a step
    step = max(high - low, 1e-12) / STEPS
    rounded = np.round(np.clip(values, low, high) / step) * step
    return float(np.square(values).sum()), float(np.square(rounded - values).sum())


def _taken(exact: Path, inputs: Inputs) -> dict[str, list[dict[str, Any]]]:
    """Of each input what its signature takes, in the numbers that it takes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exact))
    types = {signature: interpreter.get_signature_runner(signature).get_input_details() for signature in inputs}
    return {
        signature: [
            {name: row[name].astype(known["dtype"]) for name, known in types[signature].items()} for row in rows
        ]
        for signature, rows in inputs.items()
    }


def _ratios(exact: Path, products: Mapping[str, Sequence[Product]], inputs: Inputs, ranges: Ranges) -> dict[str, float]:
    """By scope, the ratio of signal to noise in dB of what a product reads or writes, whichever is the worse."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exact), num_threads=threads.cpu_threads(), experimental_preserve_all_tensors=True)
    found: dict[str, float] = {}
    for signature, own in products.items():
        tensors = dict([product.reads for product in own] + [product.writes for product in own])
        powers = {index: np.zeros(2) for index in tensors}
        for values in _run(interpreter, signature, inputs[signature][:SAMPLE], list(tensors)):
            for index, array in values.items():
                powers[index] += power(array, *_range(ranges[tensors[index]]))
        clean = {index: decibels(*sums) for index, sums in powers.items()}
        found |= {product.scope: min(clean[product.reads[0]], clean[product.writes[0]]) for product in own}
    return found


def decibels(signal: float, noise: float) -> float:
    """The ratio of two powers in dB."""
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def _run(interpreter: Any, signature: str, asked: Sequence[Any], tensors: Sequence[int]) -> Iterator[dict[int, Any]]:
    """The tensors' numbers for each input."""
    from ai_edge_quantizer.utils import tfl_interpreter_utils

    runner = interpreter.get_signature_runner(signature)
    graph = tfl_interpreter_utils.get_signature_main_subgraph_index(interpreter, signature)
    for each in asked:
        runner(**each)
        yield {index: interpreter.get_tensor(index, graph) for index in tensors}


def _range(known: Mapping[str, Any]) -> tuple[float, float]:
    return float(np.min(known["min"])), float(np.max(known["max"]))


def _products(file: Path) -> dict[str, list[Product]]:
    """The matrix products of weights with activations, by signature."""
    model = _read(file)
    graphs = {
        signature.signatureKey.decode(): model.subgraphs[signature.subgraphIndex] for signature in model.signatureDefs
    }
    return {
        name: [_product(operator, graph.tensors) for operator in graph.operators if _is(model, operator)]
        for name, graph in graphs.items()
    }


def _product(operator: Any, tensors: Sequence[Any]) -> Product:
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope, get_tensor_name

    reads, writes = operator.inputs[0], operator.outputs[0]
    return Product(
        weights=tensors[operator.inputs[1]].buffer,
        scope=get_op_scope(operator, tensors),
        reads=(reads, get_tensor_name(tensors[reads])),
        writes=(writes, get_tensor_name(tensors[writes])),
    )


def _is(model: Any, operator: Any) -> bool:
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME

    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    return bool(TFL_OP_CODE_TO_NAME.get(code) == PRODUCT)


def _read(file: Path) -> Any:
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import read_model

    return read_model(file)


def _write(exact: Path, out: Path, *, ranges: Ranges, scopes: Sequence[str]) -> None:
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(exact)
    quantizer.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    for scope in scopes:
        _add(quantizer, f"^{re.escape(scope)}$")
    made = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    made.export_model(out, overwrite=True)


def _add(quantizer: Any, scopes: str) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName

    quantizer.add_static_config(scopes, TFLOperationName[PRODUCT], activation_num_bits=8, weight_num_bits=8)
