"""An encoder as a program for one text, of any length, without padding.

A batch would cost memory for its largest shape at all times, and this runtime gains nothing from one. So there is no
attention mask either, and attention is written out: in XNNPACK that takes half the time of PyTorch's own operator.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from images.inside import export as sealing
from images.inside import original
from images.inside.contract import Exporting
from images.inside.text import TOKENIZER
from targets.executorch_xnnpack import activations, quantize

SHORTEST = (2, 3, 8, 16)
"""Tokens from which torch.export may find a network the same for every length: it takes an axis of one for a constant,
and slices of a text have shorter ones. The program itself runs shorter texts too; the suite has them."""
CLOSE = 1e-4
"""Outputs this close are the same for the question whether a mask is needed."""


def exportable(given: Exporting) -> Any:
    """The network in the mode's numbers: int64 [1, tokens] to float32; the program says the names."""
    source = sealing.read_source(given)
    network, behind = _load(given)
    network.set_attn_implementation("eager")
    activations.write_out(network)
    masked = _reads_padding(network, given, source.max_length)
    quantize.convert(network, quantize.RECIPES[given.job.mode])
    names = ("input_ids", "token_type_ids") if source.token_types else ("input_ids",)
    return _module(_masked(network) if masked else network, behind, names, source.max_length)


def _reads_padding(network: Any, given: Exporting, longest: int) -> bool:
    """Whether the network, without a mask, takes some of the tokenizer's own tokens for padding."""
    import torch

    added = json.loads((given.work / TOKENIZER).read_text()).get("added_tokens") or []
    ids = torch.tensor([[*(token["id"] for token in added), *range(SHORTEST[0])][:longest]])
    with torch.no_grad():
        alone, beside = network(input_ids=ids), network(input_ids=ids, attention_mask=torch.ones_like(ids))
    names = [name for name in original.OUTPUTS if name in alone]
    return not all(torch.allclose(alone[name], beside[name], atol=CLOSE, rtol=CLOSE) for name in names)


def _masked(network: Any) -> Any:
    """The network as one that is told that no token is padding."""
    import torch

    class Masked(torch.nn.Module):  # type: ignore[misc]  # torch is in the builder only
        def __init__(self) -> None:
            super().__init__()
            self.network, self.config = network, network.config

        def forward(self, input_ids: Any, **more: Any) -> Any:
            return self.network(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **more)

    return Masked().eval()


def _load(given: Exporting) -> tuple[Any, Sequence[Any]]:
    """The network, and what makes one vector of its tokens."""
    if not original.embeds(given.model, given.source):
        return original.transformer(given.model, given.source), []
    sentence = original.sentence_model(given.model, given.source)
    return sentence[0].auto_model, list(sentence)[1:]


def _module(network: Any, behind: Sequence[Any], inputs: Sequence[str], longest: int) -> Any:
    import torch

    class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch is in the builder only
        """What `torch.export` traces, with what the recipe reads of it."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.behind = network, torch.nn.ModuleList(behind)
            self.config = network.config
            outputs = _outputs(self, torch.ones(1, SHORTEST[0], dtype=torch.long))
            self.metadata = {"input_names": ",".join(inputs), "output_names": ",".join(outputs)}

        def forward(self, input_ids: Any, token_type_ids: Any = None) -> tuple[Any, ...]:
            more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            return tuple(_outputs(self, input_ids, **more).values())

        def export(self) -> dict[str, Any]:
            return {"model": first([shortest for shortest in SHORTEST if shortest < longest], self._exported)}

        def _exported(self, shortest: int) -> Any:
            example = {name: torch.zeros(1, 64, dtype=torch.long) for name in inputs}
            tokens = {1: torch.export.Dim("tokens", min=shortest, max=longest)}
            with torch.no_grad():
                return torch.export.export(
                    self, (), example, dynamic_shapes=dict.fromkeys(inputs, tokens), strict=False
                )

    return Encoder().eval()


def first(lengths: Sequence[int], make: Callable[[int], Any]) -> Any:
    """What can be made for texts from the fewest tokens on. Raises what `make` does for the last of the lengths."""
    for length in lengths[:-1]:
        try:
            return make(length)
        except (ValueError, RuntimeError):  # torch.export's own, where it is not the same from so few tokens on
            continue
    return make(lengths[-1])


def _outputs(encoder: Any, input_ids: Any, **more: Any) -> dict[str, Any]:
    """By name, float32."""
    import torch

    found = encoder.network(input_ids=input_ids, **more)
    outputs = {name: found[name].float() for name in original.OUTPUTS if name in found}
    if not len(encoder.behind):
        return outputs
    features = {"token_embeddings": outputs["last_hidden_state"], "attention_mask": torch.ones_like(input_ids)}
    for module in encoder.behind:
        features = module(features)
    return {"sentence_embedding": features["sentence_embedding"]}
