"""Question answering: the part of a context that answers a question, with its score.

One question is answered by one answer, or by a list of them if `top_k` asks for several; a list of questions by a list
of these. A context that is too long for the model is read in overlapping windows.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from images.inside import suite
from images.inside.contract import FloatArray, Outputs, Prepared
from images.inside.errors import InputError
from images.inside.records import Manifest, Struct
from images.inside.tasks.common import AtLeastOne, as_list, each_input, largest_difference, like, parse, share
from images.inside.text import Encoded, Tokenizer

CONTEXT = 1
"""Which text of the pair is the context."""
MASKED_LOGIT = np.float32(-10000)
Answer = dict[str, Any]


class Question(Struct, kw_only=True):
    """A question and the text that holds its answer."""

    question: Annotated[str, msgspec.Meta(min_length=1)]
    context: Annotated[str, msgspec.Meta(min_length=1)]


class QuestionAnsweringParameters(Struct, kw_only=True):
    """How answers are looked for.

    Attributes:
        top_k: how many answers to return, if there are as many.
        doc_stride: how many tokens neighbouring windows of a long context share; 128 or half a window by default.
        max_answer_len: the most tokens of an answer.
        max_seq_len: the most tokens of a window, question included; 384 or the model's limit by default.
        max_question_len: cut the question at this many tokens.
        handle_impossible_answer: let the empty answer compete too.
        align_to_words: widen an answer to whole words.

    """

    top_k: AtLeastOne = 1
    doc_stride: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_answer_len: AtLeastOne = 15
    max_seq_len: AtLeastOne | None = None
    max_question_len: AtLeastOne | None = None
    handle_impossible_answer: bool = False
    align_to_words: bool = True


class QuestionAnsweringPayload(Struct, kw_only=True):
    """One question with its context, or several."""

    inputs: Question | Annotated[list[Question], msgspec.Meta(min_length=1)]
    parameters: QuestionAnsweringParameters | None = None


class _State(NamedTuple):
    inputs: Question | list[Question]
    parameters: QuestionAnsweringParameters
    windows: list[list[Encoded]]
    cls_id: int | None


class _Span(NamedTuple):
    """First and last token of a candidate."""

    first: int
    last: int
    score: float


class QuestionAnswering:
    """See `images.inside.contract.Task`."""

    name = "question-answering"
    payload_type = QuestionAnsweringPayload

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate."""
        del mask_token
        return [(name, {"inputs": questions}) for name, questions in suite.QUESTIONS.items()]

    def prepare(self, payload: Mapping[str, Any], tokenizer: Tokenizer, manifest: Manifest) -> Prepared:
        """Validate and tokenise one request."""
        if manifest.padding_side == "left":
            # There the pipeline puts the context first and lets the question answer itself: nothing to be equal to.
            raise InputError("question-answering takes no model that pads on the left")
        request = parse(payload, QuestionAnsweringPayload)
        parameters = request.parameters or QuestionAnsweringParameters()
        windows = each_input(request.inputs, lambda question: _windows(question, parameters, tokenizer, manifest))
        cls_id = tokenizer.id_of(manifest.cls_token) if manifest.cls_token else None
        items = [window.item for of_question in windows for window in of_question]
        return Prepared(items, _State(request.inputs, parameters, windows, cls_id))

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """The best answer, or answers, of each question."""
        del manifest
        state: _State = prepared.state
        rest, answers = iter(outputs), []
        for question, windows in zip(as_list(state.inputs), state.windows, strict=True):
            found = _answers(question.context, windows, rest, state)
            answers.append(found[0] if state.parameters.top_k == 1 else found)
        return like(state.inputs, answers)

    def agreement(self, ours: Any, original: Any) -> float:
        """Share of answers whose text is the same."""
        pairs = list(zip_longest(_flat(ours), _flat(original), fillvalue=None))
        return share([bool(mine and theirs and mine["answer"] == theirs["answer"]) for mine, theirs in pairs])

    def score_difference(self, ours: Any, original: Any) -> float:
        """The largest difference of scores where the answers' texts agree."""
        pairs = zip(_flat(ours), _flat(original), strict=False)
        agreeing = ((mine, theirs) for mine, theirs in pairs if mine["answer"] == theirs["answer"])
        return largest_difference((mine["score"], theirs["score"]) for mine, theirs in agreeing)


def _windows(
    question: Question, parameters: QuestionAnsweringParameters, tokenizer: Tokenizer, manifest: Manifest
) -> list[Encoded]:
    length = parameters.max_seq_len or min(manifest.max_length, 384)
    if length > manifest.max_length:
        raise InputError(f"this model takes at most {manifest.max_length} tokens - at `$.parameters.max_seq_len`")
    stride = min(length // 2, 128) if parameters.doc_stride is None else parameters.doc_stride
    asked = question.question
    if parameters.max_question_len is not None:
        asked = tokenizer.prefix(asked, parameters.max_question_len)
    return tokenizer.windows(asked, question.context, cut=CONTEXT, length=length, stride=stride)


def _answers(context: str, windows: list[Encoded], outputs: Iterator[Outputs], state: _State) -> list[Answer]:
    parameters = state.parameters
    found: dict[str, Answer] = {}
    impossible = []
    for window, output in zip(windows, outputs, strict=False):
        start, end = (_shares(output[name], window, state.cls_id) for name in ("start_logits", "end_logits"))
        impossible.append(float(start[0] * end[0]))
        for span in _spans(start, end, window.positions(CONTEXT), parameters):
            _add(found, context, span.score, _characters(window, span, aligned=parameters.align_to_words))
    answers = list(found.values())
    if parameters.handle_impossible_answer or not answers:
        score = min(impossible) if parameters.handle_impossible_answer else 0.0
        answers.append({"score": score, "start": 0, "end": 0, "answer": ""})
    return sorted(answers, key=lambda answer: -answer["score"])[: parameters.top_k]


def _shares(logits: FloatArray, window: Encoded, cls_id: int | None) -> FloatArray:
    """Probabilities over the context's tokens and the class token, which stands for no answer."""
    open_ = [s == CONTEXT or i == cls_id for s, i in zip(window.sequences, window.ids, strict=True)]
    masked = np.where(open_, logits, MASKED_LOGIT)
    powers = np.exp(masked - masked.max())
    shares: FloatArray = powers / powers.sum()
    return shares


def _spans(
    start: FloatArray, end: FloatArray, context: list[int], parameters: QuestionAnsweringParameters
) -> list[_Span]:
    """The likeliest spans of a window's context, best first."""
    inside = np.zeros(len(start), bool)
    inside[context] = True
    first, last = np.where(inside, start, 0), np.where(inside, end, 0)
    width = min(parameters.max_answer_len, len(start))
    ahead = np.lib.stride_tricks.sliding_window_view(np.pad(last, (0, width - 1)), width)
    scores = first[:, None] * ahead
    return [
        _Span(row, row + offset, score) for row, offset, score in _largest(scores, _candidates(parameters)) if score > 0
    ]


def _candidates(parameters: QuestionAnsweringParameters) -> int:
    # Widening to words makes some candidates equal, so more of them are taken.
    return parameters.top_k * 2 + 10 if parameters.align_to_words else parameters.top_k


def _largest(scores: FloatArray, count: int) -> list[tuple[int, int, float]]:
    flat = scores.ravel()
    places = np.argpartition(-flat, min(count, flat.size) - 1)[:count]
    places = places[np.argsort(-flat[places], kind="stable")]
    rows, columns = np.unravel_index(places, scores.shape)
    return list(zip(rows.tolist(), columns.tolist(), flat[places].tolist(), strict=True))


def _add(found: dict[str, Answer], context: str, score: float, span: tuple[int, int]) -> None:
    """Answers that differ only in case are one: their scores add up."""
    text = context[span[0] : span[1]]
    known = found.setdefault(text.lower(), {"score": 0.0, "start": span[0], "end": span[1], "answer": text})
    known["score"] += score


def _characters(window: Encoded, span: _Span, *, aligned: bool) -> tuple[int, int]:
    first, last = span.first, span.last
    if aligned:
        while _same_word(window, first - 1, first):
            first -= 1
        while _same_word(window, last + 1, last):
            last += 1
    return window.offsets[first][0], window.offsets[last][1]


def _same_word(window: Encoded, neighbour: int, position: int) -> bool:
    if not 0 <= neighbour < len(window):
        return False
    places = ((window.sequences[i], window.words[i]) for i in (neighbour, position))
    return len(set(places)) == 1 and window.words[position] is not None


def _flat(answer: Any) -> Iterator[Answer]:
    """All answers; without those of score 0, by which the pipeline fills up to `top_k`."""
    if isinstance(answer, dict):
        if answer["score"] > 0:
            yield answer
        return
    for entry in answer:
        yield from _flat(entry)


TASK = QuestionAnswering()
