"""The model to a TorchScript archive or an AOTInductor package, tried at shapes that it was not made from."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from images.inside import export as sealing
from images.inside import modality, original
from images.inside.contract import Batch, Exported, Exporting
from images.inside.records import Bounds, Manifest
from targets.torchscript import aoti, run, shapes, trace, wrapped
from targets.torchscript.shapes import Found, Inputs, Pictures, Shape, Texts
from targets.torchscript.signature import Signature

EAGER = "eager"
"""transformers' plainest attention: some models are made right by it only."""
RIGHT = "right_shapes"
"""The measure that a mode's `least` holds: the share of shapes at which the module is the original."""
FIXED = "fixed-shape"
ADVICE = (
    "try --exporter aoti, or --fixed-shape (inputs are padded to --max-length), or another target, such as onnx-cpu"
)


class Maker(NamedTuple):
    """A way to make a module.

    Attributes:
        make: writes it, given the original, an example of its inputs and the artifact's folder.
        load: reads it again, as PyTorch does, from the artifact's folder.
        entry: what it is called there.
        cpu: features of a processor that it needs.
        advice: what to try when it is not the original.

    """

    make: Callable[[Any, tuple[Any, ...], Path], None]
    load: Callable[[Path], Callable[..., Any]]
    entry: str
    cpu: tuple[str, ...] = ()
    advice: str = "try another target, such as onnx-cpu"


MAKERS: Mapping[str, Maker] = {
    "trace": Maker(trace.make, trace.load, trace.ENTRY, advice=ADVICE),
    "aoti": Maker(aoti.make, aoti.load, aoti.ENTRY, aoti.CPU),
}


class Made(NamedTuple):
    """A module with what was measured of it."""

    attention: str
    found: list[Found]
    bounds: Bounds

    @property
    def wrong(self) -> list[Found]:
        """The shapes at which it is not the original."""
        return [found for found in self.found if found.difference > (self.bounds.max_abs_diff or 0)]

    @property
    def right(self) -> float:
        """The share of shapes at which it is."""
        return 1 - len(self.wrong) / len(self.found)


def export(given: Exporting) -> Exported:
    """Write the module and `signature.json`. Ends the step when it is another model at too many shapes."""
    making = _Making.of(given)
    made = making.best(given.job.least[RIGHT])
    if made.right < given.job.least[RIGHT]:
        _refuse(given, made)
    measures = {
        RIGHT: made.right,
        "shapes": len(made.found),
        "difference": max(found.difference for found in made.found),
    }
    size = sum(file.stat().st_size for file in given.out.rglob("*") if file.is_file())
    return Exported(making.maker.entry, f"{made.attention} attention", measures, memory=size)


class _Making(NamedTuple):
    """What a module is made of and tried with."""

    maker: Maker
    module: wrapped.Wrapped
    signature: Signature
    manifest: Manifest
    inputs: Inputs
    artifact: Path

    @classmethod
    def of(cls, given: Exporting) -> "_Making":
        maker, module = MAKERS[given.job.exporter], wrapped.load(given)
        manifest = sealing.manifest_of(given, Exported(maker.entry))
        signature = msgspec.structs.replace(module.signature, fixed=_fixed(given, manifest), cpu=maker.cpu)
        signature.save(given.out)
        return cls(maker, module, signature, manifest, _inputs(given, manifest), given.out)

    def best(self, least: float) -> Made:
        """The first attention's module that is right; the last one's if none is."""
        attentions = list(dict.fromkeys((self.module.attention, EAGER)))
        for attention in attentions[:-1]:
            try:
                made = self._made(attention)
            except (RuntimeError, ValueError, TypeError, NotImplementedError):
                continue
            if made.right >= least:
                return made
        return self._made(attentions[-1])

    def _made(self, attention: str) -> Made:
        self.module.attend(attention)
        self.maker.make(self.module, wrapped.tensors(self.signature, self._example()), self.artifact)
        own = run.runner(wrapped.call(self.maker.load(self.artifact)), self.signature, self.manifest, threads=0)
        original_ = run.ModuleRunner(wrapped.call(self.module), self.signature, threads=0)
        return Made(attention, shapes.measure(original_, own, self.inputs, self.manifest), self.manifest.bounds)

    def _example(self) -> Batch:
        """Two rows, the second padded so that the mask counts; of a fixed shape that one alone."""
        tokens = self.signature.fixed or min(shapes.EXAMPLE_TOKENS, self.manifest.max_length)
        batch = self.inputs.batch(self.inputs.rows(Shape(2, tokens, self.manifest.padding)))
        return {name: array[1:] for name, array in batch.items()} if self.signature.fixed else batch


def _inputs(given: Exporting, manifest: Manifest) -> Inputs:
    if manifest.image:
        return Pictures(manifest.image)
    return Texts(modality.of(manifest).processor(given.work, manifest), manifest)


def _fixed(given: Exporting, manifest: Manifest) -> int:
    """The tokens of the fixed shape, 0 for none. Ends the step where there cannot be one."""
    if not given.job.options[FIXED]:
        return 0
    if given.job.exporter != "trace":
        original.refuse(
            f"{given.job.exporter} makes no module of a fixed shape: it would end the server at any other",
            "leave --fixed-shape out, or add --exporter trace",
        )
    if manifest.image:
        original.refuse(
            f"{given.source.model.id} takes pictures, which have one shape already",
            "leave --fixed-shape out: only the number of pictures varies",
        )
    if not manifest.padding:
        original.refuse(
            f"{given.source.model.id} mixes padding into its answers, so its inputs cannot be padded to a fixed shape",
            "leave --fixed-shape out, or take another target, such as onnx-cpu",
        )
    return manifest.max_length


def _refuse(given: Exporting, made: Made) -> NoReturn:
    first = made.wrong[0]
    how = "it fails" if first.difference == float("inf") else f"max abs diff {first.difference:.3g}"
    where = f"{len(made.wrong)} of {len(made.found)} shapes (with {first.shape}: {how})"
    original.refuse(
        f"{given.source.model.id} by {given.job.exporter} is another model at {where}",
        f"nothing was tagged: {MAKERS[given.job.exporter].advice}",
    )
