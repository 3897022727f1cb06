"""The model builder of onnxruntime-genai as a program, given rotary positions where it looks for them.

It reads Gemma 3 as transformers 4 wrote it; transformers 5 has a set of rotary positions for each kind of layer.
"""

import runpy
from collections.abc import Callable
from typing import Any

BUILDER = "onnxruntime_genai.models.builder"
READ_AS_4 = ("gemma3_text",)
"""The types of models of which it does so; of others it reads sets by kind of layer itself."""
FULL, SLIDING = "full_attention", "sliding_attention"


def main() -> None:
    """Run the builder with this program's arguments; by its name, for its parts import each other without a package."""
    from transformers import AutoConfig

    AutoConfig.from_pretrained = _first(AutoConfig)
    runpy.run_module(BUILDER, run_name="__main__", alter_sys=True)


def _first(factory: Any) -> Callable[..., Any]:
    """The factory's `from_pretrained`, whose first answer is the builder's and flat; later ones are transformers'."""
    own = factory.from_pretrained

    def answer(*args: Any, **kwargs: Any) -> Any:
        factory.from_pretrained = own
        return flat(own(*args, **kwargs))

    return answer


def flat(config: Any) -> Any:
    """A configuration with one set of rotary positions, and the base frequency of layers with a window beside it."""
    rotary = getattr(config, "rope_parameters", None) or {}
    if config.model_type in READ_AS_4 and rotary.keys() == {FULL, SLIDING}:
        config.rope_local_base_freq = rotary[SLIDING]["rope_theta"]
        config.rope_parameters = rotary[FULL]
    return config


if __name__ == "__main__":
    main()
