"""The model to LiteRT by litert-torch: PyTorch traced at every length, one file."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images.inside import original
from images.inside.compare import PIXELS
from images.inside.contract import Exporting, ImageFacts, Source
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
        return _named(original.sentence_model(given.model, given.source), _vector)
    return _named(original.transformer(given.model, given.source), _outputs)


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
