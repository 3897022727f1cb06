"""Feature extraction: one vector a text from a sentence encoder, one vector a token from any other model.

The answer is a list with one entry an input, for a lone text too, as text-embeddings-inference answers: vectors of a
sentence encoder are `[inputs, dimension]`, token vectors are `[inputs, tokens, dimension]`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from images.inside import suite
from images.inside.contract import FloatArray, Outputs, Prepared
from images.inside.errors import InputError
from images.inside.records import Manifest, Struct
from images.inside.tasks.common import Texts, each_input, parse
from images.inside.text import Tokenizer


class FeatureExtractionParameters(Struct, kw_only=True):
    """How texts become vectors.

    Attributes:
        truncate: cut a text that is too long at its end instead of refusing it.
        truncation_direction: the side that is cut.
        normalize: scale vectors to length 1; by default they are as the model gives them.

    """

    truncate: bool | None = None
    truncation_direction: Literal["right"] | None = None
    normalize: bool | None = None


class FeatureExtractionPayload(FeatureExtractionParameters, kw_only=True):
    """One text or several; parameters stand beside `inputs` (as clients send them) or under `parameters`."""

    inputs: Texts
    parameters: FeatureExtractionParameters | None = None


class FeatureExtraction:
    """See `images.inside.contract.Task`."""

    name = "feature-extraction"
    payload_type = FeatureExtractionPayload

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate."""
        del mask_token
        return [(name, {"inputs": texts, "truncate": True}) for name, texts in suite.TEXTS.items()]

    def prepare(self, payload: Mapping[str, Any], tokenizer: Tokenizer, manifest: Manifest) -> Prepared:
        """Validate and tokenise one request."""
        request = parse(payload, FeatureExtractionPayload)
        under = request.parameters or FeatureExtractionParameters()
        truncate = bool(request.truncate or under.truncate)
        prompt = manifest.embedding.prompt if manifest.embedding else ""
        items = each_input(request.inputs, lambda text: tokenizer.item(prompt + text, truncate=truncate))
        normalize = under.normalize if request.normalize is None else request.normalize
        return Prepared(items, _normalization(normalize, manifest))

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """The vectors."""
        name = "sentence_embedding" if manifest.embedding else "last_hidden_state"
        vectors = [output[name] for output in outputs]
        return [(_unit(vector) if prepared.state else vector).tolist() for vector in vectors]

    def agreement(self, ours: Any, original: Any) -> float:
        """Vectors are compared by cosine and difference, not by agreement: always 1."""
        del ours, original
        return 1.0

    def score_difference(self, ours: Any, original: Any) -> float:
        """Vectors have no scores: always 0."""
        del ours, original
        return 0.0


def _normalization(wanted: bool | None, manifest: Manifest) -> bool:
    if wanted and manifest.embedding is None:
        raise InputError("this model gives one vector a token, which is not normalized - at `$.normalize`")
    if wanted is False and manifest.embedding and manifest.embedding.normalized:
        raise InputError("this model's vectors always have length 1 - at `$.normalize`")
    return bool(wanted)


def _unit(vector: FloatArray) -> FloatArray:
    scaled: FloatArray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled


TASK = FeatureExtraction()
