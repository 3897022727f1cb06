"""What a mode makes of the weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """Optimum's names for how weights are kept.

    Attributes:
        dtype: of what is not quantised.
        linear: of linear layers; None for exact ones.
        embedding: of tables of embeddings, likewise.

    """

    dtype: str = "float32"
    linear: str | None = None
    embedding: str | None = None


RECIPES: Mapping[str, Recipe] = {
    "none": Recipe(),
    "float16": Recipe(dtype="float16"),
    "8da8w": Recipe(linear="8da8w", embedding="8w"),
    "8da4w": Recipe(linear="8da4w", embedding="8w"),
    "8w": Recipe(linear="8w"),
    "4w": Recipe(linear="4w"),
    "bfloat16": Recipe(dtype="bfloat16"),
}
"""By mode; the last three are refused before a build, and here for the test that sees the gate catch them."""


def convert(network: Any, recipe: Recipe) -> None:
    """Give a network the recipe's numbers, in place."""
    import torch
    from optimum.exporters.executorch.quantization import quantize_model_

    network.to(getattr(torch, recipe.dtype))
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)):
        _keep_exact(norm)
    quantize_model_(network, qlinear_config=recipe.linear, qembedding_config=recipe.embedding)


def _keep_exact(norm: Any) -> None:
    """Let a normalisation compute in float32: ExecuTorch's own in float16 gives no numbers for small variances."""
    norm.register_forward_pre_hook(lambda module, given: (given[0].to(module.weight.dtype),))
    norm.register_forward_hook(lambda _, __, made, dtype=norm.weight.dtype: made.to(dtype))
    norm.float()
