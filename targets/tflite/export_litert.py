"""The model to LiteRT by litert-torch: PyTorch traced at every length, one file."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images.inside import original
from images.inside.compare import PIXELS
from images.inside.contract import Exporting
from images.inside.records import ImageFacts, Source
from targets.tflite import shapes

VECTOR = "sentence_embedding"


def convert(given: Exporting, source: Source, lengths: Sequence[int], out: Path) -> None:
    """Write the exact file: a signature for each length, inputs int32 [1, length], outputs float32 by name.

    A model for pictures has one signature, whose input is float32 [1, 3, height, width]. An embedding model's pooling
    and normalisation are part of the graph: they are traced through sentence-transformers.
    """
    import litert_torch

    network = _network(given, source)
    converter = litert_torch.Converter()
    for name, sample in _samples(lengths, source):
        converter.add_signature(name, network, sample_kwargs=sample)
    # The converter's progress is drawn on standard output, thousands of lines of it.
    with contextlib.redirect_stdout(sys.stderr):
        converter.convert().export(str(out))


def _samples(lengths: Sequence[int], source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Signatures by name, each with an example of its inputs."""
    if source.image:
        yield shapes.PICTURE, _picture(source.image)
    else:
        yield from ((shapes.name(length), _tokens(length, source)) for length in lengths)


def _picture(facts: ImageFacts) -> dict[str, Any]:
    import torch

    return {PIXELS: torch.zeros(1, 3, facts.height, facts.width)}


def _tokens(length: int, source: Source) -> dict[str, Any]:
    import torch

    names = ("input_ids", "attention_mask", *(["token_type_ids"] if source.token_types else []))
    return {name: torch.ones(1, length, dtype=torch.int32) for name in names}


def _network(given: Exporting, source: Source) -> Any:
    if source.embedding:
        sentence = original.sentence_model(given.model, given.source)
        _prepare(sentence[0].auto_model)
        return _named(sentence, _vector)
    network = original.transformer(given.model, given.source)
    _prepare(network)
    return _named(network, _outputs)


def _prepare(network: Any) -> None:
    """Write the network in a form that the converter and its runtime get right."""
    if getattr(network.config, "sliding_window", None):
        # A place of padding may see nothing through its window: of that, the fused operator makes no number.
        network.set_attn_implementation("eager")
    for module in network.modules():
        heads, keys = getattr(module, "num_key_value_groups", 1), getattr(module, "k_proj", None)
        if heads > 1 and keys is not None and keys.out_features == module.head_dim:
            _separate(module, heads)


def _separate(attention: Any, heads: int) -> None:
    """Give each head of queries its own copy of the only head of keys and values.

    The converter loses a transposition along an axis of length 1, and attention would be another one.
    """
    for projection in (attention.k_proj, attention.v_proj):
        _repeat(projection, heads)
    attention.num_key_value_groups = 1


def _repeat(projection: Any, times: int) -> None:
    import torch

    for name, values in projection.named_parameters():
        repeated = torch.cat([values.detach()] * times)
        setattr(projection, name, torch.nn.Parameter(repeated, requires_grad=False))
    projection.out_features *= times


def _vector(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {VECTOR: model(dict(inputs))[VECTOR]}


def _outputs(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    found = model(**inputs)
    return {name: found[name] for name in original.OUTPUTS if name in found}


def _named(model: Any, call: Callable[[Any, Mapping[str, Any]], dict[str, Any]]) -> Any:
    """The model as a module whose outputs have names."""
    import torch

    class Named(torch.nn.Module):  # type: ignore[misc]  # torch is not on the host
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Any) -> dict[str, Any]:
            return call(self.model, inputs)

    return Named().eval()
