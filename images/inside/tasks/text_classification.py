"""Text classification: labels with scores, best first.

The answer is a list with one ranking an input, for a lone text too: the form in which the hub's inference API answers
and its client reads. Without `top_k` a ranking holds all labels.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from images.inside import suite
from images.inside.contract import Item, Outputs, Prepared
from images.inside.records import Manifest, Struct
from images.inside.tasks import classes
from images.inside.tasks.classes import Function
from images.inside.tasks.common import AtLeastOne, as_list, each, parse
from images.inside.text import Tokenizer


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

        def item(entry: str | TextPair) -> Item:
            return _item(entry, tokenizer, parameters)

        # Pairs and texts in one list: their common type is not found otherwise.
        inputs: list[str | TextPair] = as_list(request.inputs)
        return Prepared(each(inputs, item, lone=not isinstance(request.inputs, list)), parameters)

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """One ranking of labels an input."""
        parameters: TextClassificationParameters = prepared.state
        function = parameters.function_to_apply or _default(manifest)
        return [classes.ranking(output["logits"], function, manifest.labels)[: parameters.top_k] for output in outputs]

    agreement = staticmethod(classes.agreement)
    score_difference = staticmethod(classes.score_difference)


def _item(entry: str | TextPair, tokenizer: Tokenizer, parameters: TextClassificationParameters) -> Item:
    if isinstance(entry, str):
        return tokenizer.item(entry, truncate=parameters.truncate)
    return tokenizer.item(entry.text, entry.text_pair, truncate=parameters.truncate)


def _default(manifest: Manifest) -> Function:
    if manifest.problem_type == "regression":
        return "none"
    single = len(manifest.labels) == 1
    return "sigmoid" if single or manifest.problem_type == "multi_label_classification" else "softmax"


TASK = TextClassification()
