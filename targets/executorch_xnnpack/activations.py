"""Activations that XNNPACK would compute as others, written out."""

from typing import Any

TANH = {"approximate": "tanh"}
STEEP, CUBIC = 2 * 0.7978845608028654, 0.044715
"""Of GELU's approximation: twice the root of 2 / pi, for a tanh is a sigmoid of twice as much; and its cubic term."""


def write_out(network: Any) -> None:
    """Write GELU's approximation out where a network uses it, in place.

    XNNPACK takes the operator for the exact GELU, which is up to 5e-4 apart: that of Gemma and SigLIP.
    """
    for module in network.modules():
        if getattr(getattr(module, "act", None), "keywords", None) == TANH:  # transformers' own
            module.act = gelu
        elif getattr(module, "approximate", "") == TANH["approximate"]:  # PyTorch's
            module.forward = gelu


def gelu(values: Any) -> Any:
    """GELU by its approximation: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    return values * (STEEP * (values + CUBIC * values * values * values)).sigmoid()
