"""Image classification: labels with scores, best first.

A lone picture gets a list of labels, several get a list of such lists: the form in which transformers' pipeline and the
hub's inference API answer.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from images.inside.contract import Outputs, Prepared
from images.inside.records import Manifest, Struct
from images.inside.tasks import classes
from images.inside.tasks.classes import Function
from images.inside.tasks.common import AtLeastOne, each_input, like, parse
from images.inside.vision import decoding, pictures
from images.inside.vision.preprocessing import Preprocessor

TOP_K = 5
"""Labels of an answer that names no number: transformers' own default."""


class ImageClassificationParameters(Struct, kw_only=True):
    """How labels are scored.

    Attributes:
        top_k: how many labels to return; 5 by default.
        function_to_apply: logits to scores; by default what the model's problem type asks for.

    """

    top_k: AtLeastOne | None = None
    function_to_apply: Function | None = None


class ImageClassificationPayload(Struct, kw_only=True):
    """One picture or several.

    Attributes:
        inputs: a JPEG, PNG or WebP file as base64 or as a data URL, or a list of these. URLs are not fetched.

    """

    inputs: str | Annotated[list[str], msgspec.Meta(min_length=1)]
    parameters: ImageClassificationParameters | None = None


class ImageClassification:
    """See `images.inside.contract.Task`."""

    name = "image-classification"
    payload_type = ImageClassificationPayload

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate."""
        del mask_token
        return [(name, {"inputs": inputs}) for name, inputs in pictures.suite().items()]

    def prepare(self, payload: Mapping[str, Any], processor: Preprocessor, manifest: Manifest) -> Prepared:
        """Validate and preprocess one request."""
        del manifest
        request = parse(payload, ImageClassificationPayload)
        items = each_input(request.inputs, lambda text: processor.pixels(decoding.from_text(text)))
        return Prepared(items, request)

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """One ranking of labels a picture."""
        request: ImageClassificationPayload = prepared.state
        parameters = request.parameters or ImageClassificationParameters()
        function = parameters.function_to_apply or _default(manifest)
        top = parameters.top_k or TOP_K
        return like(
            request.inputs, [classes.ranking(output["logits"], function, manifest.labels)[:top] for output in outputs]
        )

    agreement = staticmethod(classes.agreement)
    score_difference = staticmethod(classes.score_difference)


def _default(manifest: Manifest) -> Function:
    multiple = manifest.problem_type == "multi_label_classification" or len(manifest.labels) == 1
    return "sigmoid" if multiple else "softmax"


TASK = ImageClassification()
