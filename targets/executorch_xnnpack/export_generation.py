"""A decoder with its key-value cache inside, one sequence at a time, as ExecuTorch's own runners take it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from images.inside import original
from images.inside.contract import Exporting
from images.inside.records import Source
from targets.executorch_xnnpack import activations
from targets.executorch_xnnpack.quantize import RECIPES

TASK = "text-generation"
UNTOLD, PLACES = ("gpt2", "gpt_bigcode"), "places"
"""Types of networks that do not tell their attention where its tokens are; and by what word they tell it here."""
POSITIONS = 5
"""Which argument of Optimum's attention they are: behind the module, queries, keys, values and the mask."""
SLIDING = "sliding_attention"
"""What a configuration calls a layer with a window."""


def export(given: Exporting) -> Any:
    """Write `model.pte` and return what was lowered.

    It takes `input_ids` [1, tokens] and `cache_position` [tokens], both int64, and gives logits [1, 1, vocabulary].
    """
    from optimum.exporters.executorch import main_export
    from optimum.exporters.executorch.task_registry import discover_tasks, register_task, task_registry

    source = msgspec.json.decode((given.work / "source.json").read_bytes(), type=Source)
    recipe = RECIPES[given.job.mode]
    _take_places()
    discover_tasks()
    register_task(TASK)(_last_only(task_registry[TASK]))
    return main_export(
        str(given.model),
        TASK,
        "xnnpack",
        given.out,
        trust_remote_code=given.source.trust_remote_code,
        dtype=recipe.dtype,
        qlinear=recipe.linear,
        qembedding=recipe.embedding,
        max_seq_len=source.max_length,
        use_custom_sdpa=True,
        use_custom_kv_cache=True,
    )["model"]


def _last_only(load: Callable[..., Any]) -> Callable[..., Any]:
    """Optimum's loader, of a network that gives the logits behind its last token only.

    Those behind every token of a prompt would be computed, and kept room for: 400 MB at 2048 tokens of a small model.
    """

    @functools.wraps(load)
    def loaded(*args: Any, **kwargs: Any) -> Any:
        exportable = load(*args, **kwargs)
        network = exportable.model
        _require_window(network.config, exportable.metadata)
        _require_plain_scores(network.config)
        _tell_windows(network)
        _settle_positions(network)
        activations.write_out(network)
        network.__class__ = _of_last(type(network))
        if network.config.model_type in UNTOLD:
            network.base_model.__class__ = _telling(type(network.base_model))
        exportable.metadata |= {
            "input_names": "input_ids,cache_position",
            "output_names": "logits",
            "longest_step": _longest_step(exportable.metadata),
        }
        return exportable

    return loaded


def _of_last(kind: Any) -> Any:
    """A kind of network that gives the logits behind the last token. By a function, torch.export would not find it."""

    def forward(network: Any, *args: Any, **kwargs: Any) -> Any:
        return kind.forward(network, *args, **{**kwargs, "logits_to_keep": 1})

    return type(kind.__name__, (kind,), {"forward": functools.wraps(kind.forward)(forward)})


def _telling(kind: Any) -> Any:
    """A kind of network whose attention is told where its tokens are, beside what it is told."""

    def forward(network: Any, *args: Any, **kwargs: Any) -> Any:
        return kind.forward(network, *args, **kwargs, **{PLACES: kwargs["cache_position"][None]})

    return type(kind.__name__, (kind,), {"forward": functools.wraps(kind.forward)(forward)})


def _take_places() -> None:
    """Let Optimum's attention take places from a network that tells them so, in place of positions."""
    from optimum.executorch.attentions import custom_sdpa

    custom_sdpa.custom_sdpa_with_start_pos_forward = taking(custom_sdpa.custom_sdpa_with_start_pos_forward)


def taking(attend: Callable[..., Any]) -> Callable[..., Any]:
    """Optimum's attention, by places where it is given no positions."""

    def attention(*given: Any, places: Any = None, **kwargs: Any) -> Any:
        before, positions, behind = given[:POSITIONS], given[POSITIONS], given[POSITIONS + 1 :]
        return attend(*before, places if positions is None else positions, *behind, **kwargs)

    return attention


def _tell_windows(network: Any) -> None:
    """Say of each layer's attention whether it looks through a window: Optimum asks it, and not all of them say."""
    kinds = getattr(network.config, "layer_types", None) or ()
    for module in network.modules():
        layer = getattr(module, "layer_idx", None)
        if layer is not None and layer < len(kinds) and not hasattr(module, "is_sliding"):
            module.is_sliding = kinds[layer] == SLIDING


def _settle_positions(network: Any) -> None:
    """Keep the rotary positions of short sequences: the context ends where those of long ones would be put in place."""
    for module in network.modules():
        if getattr(module, "rope_type", "") == "longrope":
            module.rope_type = "default"


def _require_plain_scores(config: Any) -> None:
    """End the step where attention caps its scores: ExecuTorch's operator passes over that."""
    if cap := getattr(config, "attn_logit_softcapping", None):
        original.refuse(
            f"this model ({config.model_type}) caps its attention's scores at {cap:g}: ExecuTorch's attention does not",
            "take another target, such as onnx-cpu",
        )


def _require_window(config: Any, metadata: Mapping[str, Any]) -> None:
    """End the step where every layer looks back less far than a sequence is long: the cache made of that is too short.

    Of a model whose configuration tells kinds of layers apart, those with a window get a cache that goes round.
    """
    window, longest = getattr(config, "sliding_window", None), int(metadata["get_max_seq_len"])
    if window and window < longest and not getattr(config, "layer_types", None):
        original.refuse(
            f"every layer of this model looks back {window} tokens, and its cache would hold no more, of {longest}",
            f"give --max-length {window}, or take another target",
        )


def _longest_step(metadata: Mapping[str, Any]) -> int:
    """The most tokens of one run, as Optimum bounds them: fewer than the cache of any layer has room for."""
    return int(min(metadata["get_max_seq_len"], metadata.get("sliding_window", metadata["get_max_seq_len"]))) - 1
