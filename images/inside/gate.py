"""An artifact's own runner asked the whole suite: the figures that the bounds are held against."""

from images.inside import compare, modality
from images.inside.compare import Figures, Reference
from images.inside.engine import proof as of_engines
from images.inside.generation import proof
from images.inside.loaded import Loaded, LoadedEngine, LoadedGenerator, Model


def measure(model: Model, reference: Reference) -> list[Figures]:
    """How far every input's result is from the original's. Raises `OutputsDifferError` when it was another input."""
    match model:
        case LoadedGenerator():
            return proof.measure(model, reference)
        case LoadedEngine():
            return of_engines.measure(model, reference)
    return _measure(model, reference)


def _measure(model: Loaded, reference: Reference) -> list[Figures]:
    measured, inputs = [], modality.of(model.manifest).inputs
    for case in reference.cases:
        prepared = model.prepare(case.payload)
        outputs, answer = model.answer(prepared)
        ours = [{**inputs(item), **found} for item, found in zip(prepared.items, outputs, strict=True)]
        measured.append(compare.figures(model.task, case, reference.outputs[case.name], ours, answer))
    return measured
