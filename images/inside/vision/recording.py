"""What the original makes of pictures, recorded before anything is exported: its pixels, outputs and answers.

Its own image processor is the one that needs Pillow and numpy only ("slow"). The "fast" one is torchvision's, resizes
tensors with other rounding, is not in the exporters' locks, and is not what these models were trained with.
Runs in the builder.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from images.inside import modality, original
from images.inside.compare import PIXELS, Reference
from images.inside.contract import FloatArray, Outputs, Runner, Task
from images.inside.errors import InputError
from images.inside.records import Case, ImageFacts, Manifest, Source
from images.inside.tasks.common import as_list
from images.inside.vision import decoding, processors
from images.inside.vision.preprocessing import Preprocessor

CLOSE = 1e-5
"""How far our pixels may be from the original processor's, anywhere in a picture."""


def source(processor: Any, network: Any, name: str) -> Source:
    """What the manifest says of a model for pictures. Ends the step when its preprocessing is not known."""
    try:
        facts = processors.facts(processor.to_dict())
    except processors.UnsupportedProcessorError as error:
        original.refuse(
            f"{name} preprocesses pictures in a way that is not supported: {error}",
            f"supported are {', '.join(processors.GEOMETRIES)}, with a fixed size",
        )
    return Source(
        max_length=0,
        pad_token_id=0,
        padding_side="right",
        token_types=False,
        labels=original.labels(network.config),
        mask_token="",
        problem_type=str(network.config.problem_type or ""),
        image=facts,
    )


class Recorder(NamedTuple):
    """Asks the original one payload after the other.

    Attributes:
        task: whose payloads they are.
        manifest: a draft, with what is known before the export.
        facts: how pictures are preprocessed, as we understood it.
        processor: the original's image processor.
        network: the original as a runner.
        pipeline: answers a list of files in base64, as transformers does.

    """

    task: Task
    manifest: Manifest
    facts: ImageFacts
    processor: Any
    network: Runner
    pipeline: Any

    def record(self, payloads: Sequence[tuple[str, Mapping[str, Any]]]) -> Reference:
        """The original's results for some inputs. Ends the step when our pixels are not the original's."""
        cases, outputs = [], {}
        for name, payload in payloads:
            pixels = self._pixels(name, payload)
            outputs[name] = [self._outputs(values) for values in pixels]
            cases.append(Case(name=name, payload=dict(payload), answer=self._answer(payload)))
        return Reference(cases=tuple(cases), outputs=outputs)

    def _outputs(self, pixels: FloatArray) -> dict[str, Any]:
        found: Outputs = self.network.predict({PIXELS: pixels[None]})
        return {PIXELS: modality.probes(pixels), **{name: array[0] for name, array in found.items()}}

    def _pixels(self, name: str, payload: Mapping[str, Any]) -> list[FloatArray]:
        """The original processor's own, which ours must equal."""
        ours = Preprocessor(self.facts)
        try:
            self.task.prepare(payload, ours, self.manifest)
            files = {text: decoding.from_text(text) for text in as_list(payload["inputs"])}
        except InputError as error:
            original.refuse(
                f"the suite's input {name!r} is refused by {self.task.name}: {error}", "correct the suite file"
            )
        theirs = [self._original(name, text) for text in as_list(payload["inputs"])]
        for text, pixels in zip(as_list(payload["inputs"]), theirs, strict=True):
            self._require_close(name, ours.pixels(files[text]).values, pixels)
        return theirs

    def _original(self, name: str, text: str) -> FloatArray:
        from transformers.image_utils import load_image

        try:
            batch = self.processor(load_image(text), return_tensors="np")[PIXELS]
        except (ValueError, OSError) as error:
            original.refuse(f"the original fails on the suite's input {name!r}: {error}", "correct the suite file")
        values: FloatArray = np.asarray(batch[0], np.float32)
        return values

    def _require_close(self, name: str, ours: FloatArray, theirs: FloatArray) -> None:
        difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
        if not difference <= CLOSE:
            original.refuse(
                f"the preprocessing of {self.facts.processor} is not reproduced: input {name!r} differs by "
                f"{difference:.3g} (shapes {list(ours.shape)} and {list(theirs.shape)})",
                "its settings may be new to this version; nothing was built",
            )

    def _answer(self, payload: Mapping[str, Any]) -> Any:
        options = {key: value for key, value in (payload.get("parameters") or {}).items() if value is not None}
        inputs = payload["inputs"]
        return self.pipeline(inputs, **options)
