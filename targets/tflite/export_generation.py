"""A decoder to LiteRT by litert-torch: one signature that reads a part of a prompt, one that goes on by a token.

Both take the key-value cache and return it, so that the image's own loop drives them. What litert-torch bundles them
for, the engine of LiteRT-LM, answers texts with texts: no logits come out of it that a gate could look at.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images.inside import original
from images.inside.contract import Exporting
from images.inside.records import Source
from targets.tflite import cached, tensorflow_stand_in

LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers that keep keys and values."""


def convert(given: Exporting, source: Source, lengths: Sequence[int], out: Path) -> None:
    """Write the exact file, whose cache has room for the longest of the lengths."""
    # The packages that the exporter looks for are looked for before there is a stand-in of one.
    import litert_torch
    import transformers.pipelines

    config = transformers.AutoConfig.from_pretrained(given.model, trust_remote_code=given.source.trust_remote_code)
    _require_attention(transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None), given)
    _require_layers(config, given)
    _require_positions(config, given)
    _count_heads(type(config))
    del litert_torch
    tensorflow_stand_in.install()
    from litert_torch.generative.export_hf.export import export

    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(sys.stderr):
        export(
            str(given.model),
            work,
            trust_remote_code=given.source.trust_remote_code,
            prefill_lengths=[min(cached.PART, source.max_length)],
            cache_length=lengths[-1],
            prefill_logits=True,
            quantization_recipe="none",
            bundle_litert_lm=False,
        )
        shutil.move(next(Path(work).rglob("model.tflite")), out)


def _require_attention(network: Any, given: Exporting) -> None:
    """End the step for a network whose attention the exporter cannot replace by its own; None is one that it may."""
    if not getattr(network, "_supports_attention_backend", True):
        original.refuse(
            f"{given.job.exporter} cannot export {given.source.model.id}: the attention of {network.__name__} "
            "is its own and takes no cache that goes in and out of a file",
            "take another target, such as onnx-cpu",
        )


def _require_layers(config: Any, given: Exporting) -> None:
    """End the step for layers that keep something else than keys and values: there is no room for it in the cache."""
    if others := sorted({*(getattr(config, "layer_types", None) or ())} - LAYERS):
        original.refuse(
            f"{given.job.exporter} cannot export {given.source.model.id} with layers of {', '.join(others)}: "
            "they keep a state of their own",
            "take another target, such as cpu-server",
        )


def _require_positions(config: Any, given: Exporting) -> None:
    """End the step for rotary positions that the network chooses by the length of its input: the exporter cannot."""
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") in {"longrope", "dynamic"}:
        original.refuse(
            f"{given.job.exporter} cannot export {given.source.model.id}: its rotary positions ({rotary['rope_type']}) "
            "change with the length of a sequence",
            "take another target, such as onnx-cpu or executorch-xnnpack",
        )


def _count_heads(config: Any) -> None:
    """Let a kind of configuration say how many heads of keys and values there are: one for each of queries, by default.

    The exporter asks it of all, and those that have no other number do not say it.
    """
    if not hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = property(lambda of: of.num_attention_heads)
