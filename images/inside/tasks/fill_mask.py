"""Fill mask: the likeliest tokens for each mask, best first.

A text with one mask is answered by one ranking, a text with several by a list of rankings, and a list of texts by a
list of these. Each mask is filled on its own: the scores are no joint probabilities.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from images.inside import suite
from images.inside.contract import FloatArray, Outputs, Prepared
from images.inside.errors import InputError
from images.inside.records import Manifest, Struct
from images.inside.tasks.common import (
    Texts,
    as_list,
    each_input,
    largest_difference,
    like,
    parse,
    rankings,
    same_best,
    share,
    softmax,
)
from images.inside.text import Encoded, Tokenizer


class FillMaskParameters(Struct, kw_only=True):
    """Which tokens to propose.

    Attributes:
        top_k: how many tokens to return.
        targets: the only tokens to choose from; of a word that is no token, its first token.
        truncate: cut a text that is too long at its end instead of refusing it.

    """

    top_k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    targets: str | Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    truncate: bool = False


class FillMaskPayload(Struct, kw_only=True):
    """One text or several, each with at least one mask token."""

    inputs: Texts
    parameters: FillMaskParameters | None = None


class _State(NamedTuple):
    inputs: str | list[str]
    top_k: int
    targets: list[int] | None
    encoded: list[Encoded]
    tokenizer: Tokenizer


class FillMask:
    """See `images.inside.contract.Task`."""

    name = "fill-mask"
    payload_type = FillMaskPayload

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate."""
        return [
            (name, {"inputs": _masked(texts, mask_token), "parameters": {"truncate": True}})
            for name, texts in suite.MASKED.items()
        ]

    def prepare(self, payload: Mapping[str, Any], tokenizer: Tokenizer, manifest: Manifest) -> Prepared:
        """Validate and tokenise one request."""
        request = parse(payload, FillMaskPayload)
        parameters = request.parameters or FillMaskParameters()
        mask = tokenizer.id_of(manifest.mask_token)

        def masked(text: str) -> Encoded:
            entry = tokenizer.encode(text, truncate=parameters.truncate)
            if mask not in entry.ids:
                raise InputError(f"every text needs the mask token {manifest.mask_token} - at `$.inputs`")
            return entry

        encoded = each_input(request.inputs, masked)
        targets = None if parameters.targets is None else _target_ids(as_list(parameters.targets), tokenizer)
        state = _State(request.inputs, parameters.top_k, targets, encoded, tokenizer)
        return Prepared([entry.item for entry in encoded], state)

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """One ranking of tokens a mask."""
        state: _State = prepared.state
        pairs = zip(state.encoded, outputs, strict=True)
        return like(state.inputs, [_fill(entry, output["logits"], state, manifest) for entry, output in pairs])

    def agreement(self, ours: Any, original: Any) -> float:
        """Share of masks whose likeliest token is the same."""
        return share([same_best(*pair, "token") for pair in rankings(ours, original)])

    def score_difference(self, ours: Any, original: Any) -> float:
        """The largest difference of the likeliest token's scores where it agrees."""
        agreeing = [pair for pair in rankings(ours, original) if same_best(*pair, "token")]
        return largest_difference((mine[0]["score"], theirs[0]["score"]) for mine, theirs in agreeing)


def _masked(texts: str | list[str], mask_token: str) -> str | list[str]:
    if isinstance(texts, list):
        return [text.replace(suite.MASK, mask_token) for text in texts]
    return texts.replace(suite.MASK, mask_token)


def _target_ids(targets: list[str], tokenizer: Tokenizer) -> list[int]:
    ids = (_target_id(target, tokenizer) for target in targets)
    found = sorted({i for i in ids if i is not None})
    if not found:
        raise InputError("no target makes a token - at `$.parameters.targets`")
    return found


def _target_id(target: str, tokenizer: Tokenizer) -> int | None:
    known = tokenizer.id_of(target)
    return tokenizer.first_id(target) if known is None else known


def _fill(entry: Encoded, logits: FloatArray, state: _State, manifest: Manifest) -> list[Any]:
    mask = state.tokenizer.id_of(manifest.mask_token)
    masks = [position for position, token in enumerate(entry.ids) if token == mask]
    filled = [
        [
            _proposal(entry, position, token, score, lone=len(masks) == 1, state=state, manifest=manifest)
            for token, score in _best(softmax(logits[position]), state)
        ]
        for position in masks
    ]
    return filled[0] if len(masks) == 1 else filled


def _best(scores: FloatArray, state: _State) -> list[tuple[int, float]]:
    tokens = np.arange(len(scores)) if state.targets is None else np.asarray(state.targets)
    chosen = scores[tokens]
    likeliest = np.argpartition(-chosen, min(state.top_k, len(chosen)) - 1)[: state.top_k]
    order = likeliest[np.argsort(-chosen[likeliest], kind="stable")]
    return list(zip(tokens[order].tolist(), chosen[order].tolist(), strict=True))


def _proposal(
    entry: Encoded, position: int, token: int, score: float, *, lone: bool, state: _State, manifest: Manifest
) -> dict[str, Any]:
    ids = [*entry.ids[:position], token, *entry.ids[position + 1 :]]
    ids = [i for i in ids if i != manifest.pad_token_id]
    # Special tokens are left out, unless that would take out the other masks as well.
    sequence = state.tokenizer.decode(ids, skip_special_tokens=lone)
    return {"score": score, "token": token, "token_str": state.tokenizer.decode([token]), "sequence": sequence}


TASK = FillMask()
