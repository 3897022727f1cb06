"""Token classification: a label for each token, or for each group of tokens that make one entity.

A text is answered by a list of entities, a list of texts by a list of these. Tokens are grouped by default
(`aggregation_strategy` is `simple`), as the hub's inference API does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from images.inside import suite
from images.inside.contract import FloatArray, Outputs, Prepared
from images.inside.errors import InputError
from images.inside.records import Manifest, Struct
from images.inside.tasks.common import Texts, as_list, each_input, largest_difference, like, parse, share, softmax
from images.inside.text import Encoded, Tokenizer

Part = TypeVar("Part")
Strategy = Literal["none", "simple", "first", "average", "max"]


class TokenClassificationParameters(Struct, kw_only=True):
    """How tokens become entities.

    Attributes:
        aggregation_strategy: `none` for single tokens; `simple` joins neighbours of one label; `first`, `average` and
            `max` give all tokens of a word one label before that: the first token's, that of the averaged scores, or
            that of the token with the highest score.
        ignore_labels: labels that are left out of the answer.
        stride: process a text that is too long in windows that share this many tokens.
        truncate: cut a text that is too long at its end instead of refusing it.

    """

    aggregation_strategy: Strategy = "simple"
    ignore_labels: tuple[str, ...] = ("O",)
    stride: Annotated[int, msgspec.Meta(ge=0)] | None = None
    truncate: bool = False


class TokenClassificationPayload(Struct, kw_only=True):
    """One text or several."""

    inputs: Texts
    parameters: TokenClassificationParameters | None = None


class _State(NamedTuple):
    inputs: str | list[str]
    parameters: TokenClassificationParameters
    windows: list[list[Encoded]]
    tokenizer: Tokenizer


class _Piece(NamedTuple):
    """One token with its scores."""

    position: int
    word: str
    start: int
    end: int
    continues: bool
    scores: FloatArray


class _Tagged(NamedTuple):
    """A token or word with its label."""

    label: str
    score: np.floating[Any]
    word: str
    start: int
    end: int
    position: int


class TokenClassification:
    """See `images.inside.contract.Task`."""

    name = "token-classification"
    payload_type = TokenClassificationPayload

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate: every token shows, `O` too, so that each one counts."""
        del mask_token
        parameters = {"aggregation_strategy": "none", "ignore_labels": [], "truncate": True}
        return [(name, {"inputs": texts, "parameters": parameters}) for name, texts in suite.FILLED_TEXTS.items()]

    def prepare(self, payload: Mapping[str, Any], tokenizer: Tokenizer, manifest: Manifest) -> Prepared:
        """Validate and tokenise one request."""
        del manifest
        request = parse(payload, TokenClassificationPayload)
        parameters = request.parameters or TokenClassificationParameters()
        if parameters.stride is not None and parameters.aggregation_strategy == "none":
            raise InputError("stride needs another aggregation_strategy than none - at `$.parameters.stride`")
        windows = each_input(request.inputs, lambda text: _windows(text, parameters, tokenizer))
        items = [window.item for of_text in windows for window in of_text]
        return Prepared(items, _State(request.inputs, parameters, windows, tokenizer))

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """The entities of each text."""
        state: _State = prepared.state
        logits = (output["logits"] for output in outputs)
        texts = zip(as_list(state.inputs), state.windows, strict=True)
        return like(state.inputs, [_entities(text, windows, logits, state, manifest) for text, windows in texts])

    def agreement(self, ours: Any, original: Any) -> float:
        """Share of entities, found by either, that both found with the same label at the same place."""
        mine, theirs = _by_place(ours), _by_place(original)
        places = mine.keys() | theirs.keys()
        return share([place in mine and place in theirs and _same(mine[place], theirs[place]) for place in places])

    def score_difference(self, ours: Any, original: Any) -> float:
        """The largest difference of an entity's scores where the labels agree."""
        mine, theirs = _by_place(ours), _by_place(original)
        agreeing = [place for place in mine if place in theirs and _same(mine[place], theirs[place])]
        return largest_difference((mine[place]["score"], theirs[place]["score"]) for place in agreeing)


def _windows(text: str, parameters: TokenClassificationParameters, tokenizer: Tokenizer) -> list[Encoded]:
    if parameters.stride is None:
        return [tokenizer.encode(text, truncate=parameters.truncate)]
    return tokenizer.windows(text, cut=0, length=tokenizer.max_length, stride=parameters.stride)


def _entities(
    text: str, windows: list[Encoded], logits: Iterator[FloatArray], state: _State, manifest: Manifest
) -> list[dict[str, Any]]:
    found = [
        entity
        for window, rows in zip(windows, logits, strict=False)
        for entity in _aggregate(_pieces(text, window, rows, state.tokenizer, manifest), state, manifest)
        if entity.get("entity", entity.get("entity_group")) not in state.parameters.ignore_labels
    ]
    return found if len(windows) == 1 else _without_overlaps(found)


def _pieces(text: str, window: Encoded, logits: FloatArray, tokenizer: Tokenizer, manifest: Manifest) -> list[_Piece]:
    unknown = tokenizer.id_of(manifest.unk_token) if manifest.unk_token else None
    words, scores = tokenizer.tokens(window.ids), softmax(logits)
    pieces = []
    for index, (start, end) in enumerate(window.offsets):
        if window.sequences[index] is None:
            continue
        if window.ids[index] == unknown:
            word, continues = text[start:end], False
        else:
            word, continues = words[index], _continues(text, start, end, words[index], tokenizer)
        pieces.append(_Piece(index, word, start, end, continues, scores[index]))
    return pieces


def _continues(text: str, start: int, end: int, word: str, tokenizer: Tokenizer) -> bool:
    if tokenizer.prefixes_subwords:
        return len(word) != end - start
    # Such a tokenizer does not tell words apart: what follows no space is taken for the rest of one.
    return start > 0 and " " not in text[start - 1 : start + 1]


def _aggregate(pieces: list[_Piece], state: _State, manifest: Manifest) -> list[dict[str, Any]]:
    strategy, join = state.parameters.aggregation_strategy, state.tokenizer.join
    if strategy in {"none", "simple"}:
        tagged = [_tagged(piece.scores, [piece], piece.word, manifest) for piece in pieces]
    else:
        words = _runs(pieces, lambda _, piece: piece.continues)
        tagged = [
            _tagged(_word_scores(word, strategy), word, join([piece.word for piece in word]), manifest)
            for word in words
        ]
    if strategy == "none":
        return [_token_answer(token) for token in tagged]
    return [_group_answer(group, join) for group in _runs(tagged, _same_entity)]


def _word_scores(word: list[_Piece], strategy: Strategy) -> FloatArray:
    if strategy == "first":
        return word[0].scores
    if strategy == "max":
        return max(word, key=lambda piece: float(piece.scores.max())).scores
    average: FloatArray = np.mean([piece.scores for piece in word], axis=0)
    return average


def _tagged(scores: FloatArray, pieces: list[_Piece], word: str, manifest: Manifest) -> _Tagged:
    best = int(scores.argmax())
    first, last = pieces[0], pieces[-1]
    return _Tagged(manifest.labels[best], scores[best], word, first.start, last.end, first.position)


def _runs(parts: Iterable[Part], belongs: Callable[[Part, Part], bool]) -> list[list[Part]]:
    """Neighbours together for as long as the next belongs to the one before."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and belongs(runs[-1][-1], part):
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _same_entity(previous: _Tagged, current: _Tagged) -> bool:
    return not current.label.startswith("B-") and _tag(current.label) == _tag(previous.label)


def _tag(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _token_answer(token: _Tagged) -> dict[str, Any]:
    return {
        "entity": token.label,
        "score": float(token.score),
        "index": token.position,
        "word": token.word,
        "start": token.start,
        "end": token.end,
    }


def _group_answer(group: list[_Tagged], join: Callable[[list[str]], str]) -> dict[str, Any]:
    return {
        "entity_group": group[0].label.split("-", 1)[-1],
        "score": float(np.mean([part.score for part in group])),
        "word": join([part.word for part in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }


def _without_overlaps(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that overlap, found in two windows, the longer; of equally long ones the likelier."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if not kept or entity["start"] >= kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _by_place(answer: list[Any]) -> dict[tuple[int, ...], dict[str, Any]]:
    texts = answer if answer and isinstance(answer[0], list) else [answer]
    return {
        (text, entity["start"], entity["end"], entity.get("index", 0)): entity
        for text, entities in enumerate(texts)
        for entity in entities
    }


def _same(ours: dict[str, Any], original: dict[str, Any]) -> bool:
    return all(ours.get(key) == original.get(key) for key in ("entity", "entity_group"))


TASK = TokenClassification()
