"""What a mode makes of the weights."""

from collections.abc import Mapping
from typing import NamedTuple


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
