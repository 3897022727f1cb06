"""An artifact's own runner asked the whole suite: the figures that the bounds are held against."""

from images.inside import compare
from images.inside.compare import Figures, Reference
from images.inside.loaded import Loaded


def measure(model: Loaded, reference: Reference) -> list[Figures]:
    """How far every input's result is from the original's."""
    measured = []
    for case in reference.cases:
        outputs, answer = model.ask(case.payload)
        measured.append(compare.figures(model.task, case, reference.outputs[case.name], outputs, answer))
    return measured
