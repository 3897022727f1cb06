"""Text classification: labels with scores, best first.

The answer is a list with one ranking an input, for a lone text too: the form in which the hub's inference API answers
and its client reads. Without `top_k` a ranking holds all labels.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from images.inside import suite
from images.inside.contract import FloatArray, Manifest, Outputs, Prepared, Struct
from images.inside.tasks.common import (
    AtLeastOne,
    Ranking,
    as_list,
    largest_difference,
    parse,
    rankings,
    same_best,
    share,
    softmax,
)
from images.inside.text import Encoded, Tokenizer

SCORE_TOLERANCE = 0.05
"""How far a single-label model's score may be from the original's; relative beyond 1."""
Function = Literal["sigmoid", "softmax", "none"]


class TextPair(Struct, kw_only=True):
    """Two texts that are classified together."""

    text: str
    text_pair: str = ""


class TextClassificationParameters(Struct, kw_only=True):
    """How labels are scored.

    Attributes:
        top_k: how many labels to return; all of them by default.
        function_to_apply: logits to scores; by default what the model's problem type asks for.
        truncate: cut a text that is too long at its end instead of refusing it.

    """

    top_k: AtLeastOne | None = None
    function_to_apply: Function | None = None
    truncate: bool = False


class TextClassificationPayload(Struct, kw_only=True):
    """One text or pair of texts, or several."""

    inputs: str | TextPair | Annotated[list[str | TextPair], msgspec.Meta(min_length=1)]
    parameters: TextClassificationParameters | None = None


class TextClassification:
    """See `images.inside.contract.Task`."""

    name = "text-classification"
    payload_type = TextClassificationPayload

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate."""
        del mask_token
        return [(name, {"inputs": texts, "parameters": {"truncate": True}}) for name, texts in suite.TEXTS.items()]

    def prepare(self, payload: Mapping[str, Any], tokenizer: Tokenizer, manifest: Manifest) -> Prepared:
        """Validate and tokenise one request."""
        del manifest
        request = parse(payload, TextClassificationPayload)
        parameters = request.parameters or TextClassificationParameters()
        inputs: list[str | TextPair] = as_list(request.inputs)
        return Prepared([_encode(entry, tokenizer, parameters).item for entry in inputs], parameters)

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """One ranking of labels an input."""
        parameters: TextClassificationParameters = prepared.state
        function = parameters.function_to_apply or _default(manifest)
        return [_ranking(_scores(output["logits"], function), manifest)[: parameters.top_k] for output in outputs]

    def agreement(self, ours: Any, original: Any) -> float:
        """Share of inputs whose best label is the same, by its name; of a single-label model, whose score is."""
        return share([same_best(*pair, "label") and _same_score(*pair) for pair in rankings(ours, original)])

    def score_difference(self, ours: Any, original: Any) -> float:
        """The largest difference of a label's scores where the best labels agree."""
        agreeing = [pair for pair in rankings(ours, original) if same_best(*pair, "label")]
        return largest_difference(pair for both in agreeing for pair in _score_pairs(*both))


def _encode(entry: str | TextPair, tokenizer: Tokenizer, parameters: TextClassificationParameters) -> Encoded:
    if isinstance(entry, str):
        return tokenizer.encode(entry, truncate=parameters.truncate)
    return tokenizer.encode(entry.text, entry.text_pair, truncate=parameters.truncate)


def _default(manifest: Manifest) -> Function:
    if manifest.problem_type == "regression":
        return "none"
    single = len(manifest.labels) == 1
    return "sigmoid" if single or manifest.problem_type == "multi_label_classification" else "softmax"


def _scores(logits: FloatArray, function: Function) -> FloatArray:
    if function == "softmax":
        return softmax(logits)
    return _sigmoid(logits) if function == "sigmoid" else logits


def _sigmoid(logits: FloatArray) -> FloatArray:
    # By halves of the axis, so that no exponent overflows.
    small = np.exp(-np.abs(logits))
    shares: FloatArray = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return shares


def _ranking(scores: FloatArray, manifest: Manifest) -> list[dict[str, Any]]:
    pairs = zip(manifest.labels, scores.tolist(), strict=True)
    return [{"label": label, "score": score} for label, score in sorted(pairs, key=lambda pair: -pair[1])]


def _same_score(ours: Ranking, original: Ranking) -> bool:
    """A model with a single label (a regression, a reranker) always names it: what it says is the score."""
    one, other = ours[0]["score"], original[0]["score"]
    return len(original) > 1 or abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(other))


def _score_pairs(ours: Ranking, original: Ranking) -> list[tuple[float, float]]:
    scores = {entry["label"]: entry["score"] for entry in original}
    return [(entry["score"], scores[entry["label"]]) for entry in ours if entry["label"] in scores]


TASK = TextClassification()
