"""A network for pictures as a program for one of them: their size is fixed, and a batch would cost memory only."""

from typing import Any

from images.inside import export as sealing
from images.inside import original
from images.inside.compare import PIXELS
from images.inside.contract import Exporting
from targets.executorch_xnnpack import activations, quantize

LOGITS = "logits"


def exportable(given: Exporting) -> Any:
    """The network in the mode's numbers: float32 [1, 3, height, width] to float32 logits [1, labels]."""
    facts = sealing.read_source(given).image
    assert facts  # noqa: S101 - the reference step says them of every model for pictures
    network = original.transformer(given.model, given.source)
    network.set_attn_implementation("eager")  # as in `export_encoder`
    activations.write_out(network)
    quantize.convert(network, quantize.RECIPES[given.job.mode])
    return _module(network, (1, 3, facts.height, facts.width))


def _module(network: Any, shape: tuple[int, ...]) -> Any:
    import torch

    class Seeing(torch.nn.Module):  # type: ignore[misc]  # torch is in the builder only
        metadata = {"input_names": PIXELS, "output_names": LOGITS}

        def __init__(self) -> None:
            super().__init__()
            self.network, self.config = network, network.config

        def forward(self, pixel_values: Any) -> tuple[Any, ...]:
            return (self.network(pixel_values=pixel_values.to(self.network.dtype)).logits.float(),)

        def export(self) -> dict[str, Any]:
            with torch.no_grad():
                return {"model": torch.export.export(self, (), {PIXELS: torch.zeros(shape)}, strict=False)}

    return Seeing().eval()
