"""The original as a module that takes and gives tensors only: what both exporters read. Runs in the builder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from images.inside import export as sealing
from images.inside import original
from images.inside.compare import PIXELS
from images.inside.contract import Exporting, FloatArray
from targets.torchscript.signature import Signature

EMBEDDING, LOGITS = "sentence_embedding", "logits"
IDS = ("input_ids", "attention_mask", "token_type_ids")
NO_TOKEN = -1
"""Padding for a decoder that states none and classifies by its last token: it would refuse rows of any number."""
Forward = Callable[[dict[str, Any]], Mapping[str, Any]]


class Wrapped(torch.nn.Module):  # type: ignore[misc]
    """A network with its inputs and outputs as tuples, in the order of a signature.

    Attributes:
        network: the model by itself, whose attention can be set.

    """

    def __init__(self, whole: Any, network: Any, forward: Forward, signature: Signature) -> None:
        super().__init__()
        self.whole, self.signature = whole, signature
        self._network, self._forward = [network], forward  # in a list: not a submodule a second time

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The outputs, float32."""
        result = self._forward(dict(zip(self.signature.inputs, inputs, strict=True)))
        return tuple(result[name].float() for name in self.signature.outputs)

    @property
    def attention(self) -> str:
        """How attention is computed, in transformers' words."""
        return str(self._network[0].config._attn_implementation)  # noqa: SLF001

    def attend(self, attention: str) -> None:
        """Compute attention in another of transformers' ways."""
        self._network[0].set_attn_implementation(attention)


def load(given: Exporting) -> Wrapped:
    """The original for its task; an embedding model with its pooling and normalisation."""
    if original.embeds(given.model, given.source):
        sentence = original.sentence_model(given.model, given.source)
        return Wrapped(
            sentence,
            sentence[0].auto_model,
            sentence,
            Signature(inputs=_ids(given), outputs=(EMBEDDING,)),
        )
    network = original.transformer(given.model, given.source)
    if getattr(network.config, "pad_token_id", NO_TOKEN) is None:
        network.config.pad_token_id = NO_TOKEN
    if given.source.task == "image-classification":
        signature = Signature(inputs=(PIXELS,), outputs=(LOGITS,))
    else:
        signature = Signature(inputs=_ids(given), outputs=sealing.output_names(given))
    return Wrapped(network, network, lambda batch: network(**batch), signature)


def tensors(signature: Signature, batch: Mapping[str, Any]) -> tuple[Any, ...]:
    """A batch as the module takes it."""
    return tuple(torch.from_numpy(batch[name]) for name in signature.inputs)


def call(module: Callable[..., Any]) -> Callable[[Sequence[Any]], list[FloatArray]]:
    """A module of PyTorch's that is called as `libtorch.Module` is."""

    def called(arrays: Sequence[Any]) -> list[FloatArray]:
        with torch.inference_mode():
            return [output.numpy() for output in module(*map(torch.from_numpy, arrays))]

    return called


def _ids(given: Exporting) -> tuple[str, ...]:
    return IDS if sealing.read_source(given).token_types else IDS[:2]
