"""Smaller numbers in the file, by ai-edge-quantizer: the same recipes for what either exporter wrote."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Write = Callable[[Path, Path], None]
"""Reads the exact file, writes the mode's."""


def _exact(exact: Path, out: Path) -> None:
    shutil.copyfile(exact, out)


def _half(exact: Path, out: Path) -> None:
    """Every weight in 16 bits; XNNPACK widens them when it loads the file."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    _write(exact, out, lambda quantizer: _update(quantizer, "ALL_SUPPORTED", config, AlgorithmName.FLOAT_CASTING))


def _dynamic(exact: Path, out: Path) -> None:
    """Weights with a scale a channel, activations with one a token, measured at run time."""
    from ai_edge_quantizer import recipe

    _write(exact, out, lambda quantizer: quantizer.load_quantization_recipe(recipe.dynamic_wi8_afp32()))


def _rotated(exact: Path, out: Path) -> None:
    """The same with activations and weights rotated first, so that no outlier takes a token's whole range.

    The rotations are operators of LiteRT's own, outside XNNPACK.
    """
    from ai_edge_quantizer import qtyping, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    weights = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.INTEGER
    )

    def recipes(quantizer: Any) -> None:
        quantizer.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        _update(quantizer, "FULLY_CONNECTED", config, AlgorithmName.HADAMARD_ROTATION)

    _write(exact, out, recipes)


def _weights(exact: Path, out: Path) -> None:
    """Weights with a scale a channel; what is computed with them is not quantised."""
    from ai_edge_quantizer import recipe

    _write(exact, out, lambda quantizer: quantizer.load_quantization_recipe(recipe.weight_only_wi8_afp32()))


def _update(quantizer: Any, operation: str, config: Any, algorithm: Any) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName

    quantizer.update_quantization_recipe(".*", TFLOperationName[operation], config, algorithm)


def _write(exact: Path, out: Path, recipes: Callable[[Any], None]) -> None:
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(exact)
    recipes(quantizer)
    made = quantizer.quantize(enable_progress_bar=False, enable_progress_report=False)
    made.export_model(out, overwrite=True)


RECIPES: Mapping[str, Mapping[str, Write]] = {
    "none": {"": _exact},
    "fp16": {"": _half},
    "int8": {"per-channel": _dynamic, "per-channel, rotated": _rotated},
    "int8-weight-only": {"": _weights},
}
"""By mode, the ways to it, fastest first; the empty name where there is only one."""
