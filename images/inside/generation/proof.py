"""The proof of a model that generates: led along the original's answers, and asked over HTTP for its own.

It is led as the server leads it: prompts in parts, several sequences in one step, slots used again. The original's
tokens are what it is fed, so that one early difference does not make all that follows another text. Up to its first
difference that is also what it would answer by itself.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from images.inside.compare import Figures, Reference
from images.inside.contract import FloatArray
from images.inside.errors import ArtifactError, OutputsDifferError
from images.inside.generation import fidelity, inputs
from images.inside.generation.contract import Generator
from images.inside.generation.fidelity import Record
from images.inside.loaded import LoadedEngine, LoadedGenerator, facts
from images.inside.records import Case, GenerationFacts

STOP, LENGTH = "stop", "length"
PROMPT = "prompt"
"""Array beside a record: the prompt's tokens."""
TOGETHER = 3
"""Sequences in one step: one between two others, if there are slots."""
PART = 256
"""Tokens of a prompt that are read at once."""
SUITE = "all inputs"
"""Case of the figures over all positions: of few positions a share says little."""
GREEDY: Mapping[str, Any] = {"temperature": 0, "repetition_penalty": 1}
"""What makes an answer the most likely tokens, whatever the model's own defaults are."""

Generates = LoadedGenerator | LoadedEngine
Post = Callable[[str, Mapping[str, Any]], Any]


class Led(NamedTuple):
    """A prompt, and the tokens that are fed behind it."""

    prompt: Sequence[int]
    tokens: Sequence[int]


def measure(model: LoadedGenerator, reference: Reference) -> list[Figures]:
    """How far every input's result is from the original's, and all together.

    Raises:
        OutputsDifferError: an input's tokens are not the original's, or an answer would end elsewhere: template,
            tokenizer or end tokens of another model.
        ArtifactError: the reference is of another form.

    """
    originals = {case.name: kept(case, reference) for case in reference.cases}
    for case in reference.cases:
        check_prompt(model, case, originals[case.name][0])
        check_end(facts(model.manifest), case, originals[case.name][1])
    led = [Led(prompt, [int(token) for token in record.tokens]) for prompt, record in originals.values()]
    scores = lead(model.runner, led)
    records = [record for _, record in originals.values()]
    found = [fidelity.compare(record, logits) for record, logits in zip(records, scores, strict=True)]
    cases = [
        Figures(case=name, max_abs_diff=one.max_abs_diff, greedy=_greedy(record, logits))
        for name, one, record, logits in zip(originals, found, records, scores, strict=True)
    ]
    whole = fidelity.together(found)
    return [
        *cases,
        Figures(case=SUITE, agreement=whole.agreement, kl=whole.divergence, perplexity=whole.perplexity),
    ]


def lead(generator: Generator, given: Sequence[Led]) -> list[FloatArray]:
    """The logits behind each prompt and behind each of its tokens but the last, [tokens, vocabulary] by prompt.

    A sequence a step joins those under way, so that each ends, and leaves its slot, beside others.
    """
    waiting, running = deque(range(len(given))), dict[int, int]()
    scores: list[list[FloatArray]] = [[] for _ in given]
    try:
        while waiting or running:
            _advance(generator, given, running, scores)
            free = [slot for slot in range(min(TOGETHER, generator.slots)) if slot not in running]
            if free and waiting:
                running[free[0]] = at = waiting.popleft()
                scores[at].append(_read(generator, free[0], given[at].prompt))
    finally:
        for slot in running:
            generator.release(slot)
    return [np.stack(rows) for rows in scores]


def answers(model: LoadedGenerator, reference: Reference) -> dict[str, list[int]]:
    """What the artifact answers by itself, alone and without chance, as long as the original's answers."""
    return {case.name: list(_answer(model, *kept(case, reference))) for case in reference.cases}


def check_http(model: Generates, reference: Reference, own: Mapping[str, Sequence[int]], post: Post) -> str:
    """Ask the served API what was asked in process. Raises `OutputsDifferError` when it says something else.

    Args:
        model: the artifact.
        reference: the inputs.
        own: what `answers` says.
        post: a path and a body to the answer's JSON.

    """
    for case in reference.cases:
        ids, record = kept(case, reference)
        expected = _expected(model, ids, own[case.name])
        got = _asked(model, case, ids, len(record.tokens), post)
        if got != expected:
            raise OutputsDifferError(f"input {case.name!r}: the served API answers {got}; in process it is {expected}")
    return f"{len(reference.cases)} answers are those in process"


def prompt(reference: Reference) -> list[int]:
    """The first input's tokens."""
    return kept(reference.cases[0], reference)[0]


def _advance(
    generator: Generator, given: Sequence[Led], running: dict[int, int], scores: Sequence[list[FloatArray]]
) -> None:
    """End the sequences that have all their logits, and feed each of the others its next token."""
    for slot, at in list(running.items()):
        if len(scores[at]) == len(given[at].tokens):
            generator.release(slot)
            del running[slot]
    if not running:
        return
    tokens = [given[at].tokens[len(scores[at]) - 1] for at in running.values()]
    for at, row in zip(running.values(), generator.decode(list(running), tokens), strict=True):
        scores[at].append(row.copy())


def _read(generator: Generator, slot: int, prompt: Sequence[int]) -> FloatArray:
    """Read a prompt in parts."""
    for start in range(0, len(prompt), PART):
        logits = generator.prefill(slot, prompt[start : start + PART])
    return logits.copy()


def _answer(model: LoadedGenerator, ids: Sequence[int], record: Record) -> Iterator[int]:
    eos, generator = facts(model.manifest).eos, model.runner
    try:
        logits = _read(generator, 0, ids)
        for left in reversed(range(len(record.tokens))):
            token = int(logits.argmax())
            yield token
            if token in eos or not left:
                return
            logits = generator.decode([0], [token])[0]
    finally:
        generator.release(0)


def kept(case: Case, reference: Reference) -> tuple[list[int], Record]:
    """The prompt's tokens and what the original said. Raises `ArtifactError` for a reference of another form."""
    try:
        (item,) = reference.outputs[case.name]
        return [int(token) for token in item[PROMPT]], Record.of(item)
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"reference: {case.name}: {error}") from error


def check_prompt(model: Generates, case: Case, original: Sequence[int]) -> None:
    """Raise `OutputsDifferError` when the image makes other tokens of an input than the original did."""
    ours = list(inputs.prompt(case.payload, model.prompts))
    if ours != list(original):
        at = next((i for i, (one, other) in enumerate(zip(ours, original, strict=False)) if one != other), "the end")
        raise OutputsDifferError(
            f"input {case.name!r}: its {len(ours)} tokens are not the original's {len(original)}, from {at} on: "
            "the tokenizer or the chat template is another"
        )


def check_end(facts: GenerationFacts, case: Case, record: Record) -> None:
    """Raise `OutputsDifferError` when an answer of the original would not end where it ended."""
    ends = [int(token) in facts.eos for token in record.tokens]
    if ends != [False] * (len(ends) - 1) + [case.answer["finish_reason"] == STOP]:
        raise OutputsDifferError(
            f"input {case.name!r}: the original's answer {record.tokens.tolist()} does not end at {facts.eos}"
        )


def _greedy(record: Record, logits: FloatArray) -> float:
    tokens = [int(token) for token in record.tokens]
    return fidelity.matched(tokens, _until_other(tokens, [int(token) for token in logits.argmax(axis=-1)]))


def _until_other(original: Sequence[int], ours: Sequence[int]) -> list[int]:
    """Ours up to its first other token: behind it, it was not led by itself."""
    same = next((i for i, (one, other) in enumerate(zip(original, ours, strict=True)) if one != other), len(ours))
    return list(ours[: same + 1])


def _asked(model: Generates, case: Case, ids: Sequence[int], most: int, post: Post) -> dict[str, Any]:
    """By messages where these make the same prompt today: a template may write the date."""
    body = {"model": model.manifest.model.id, "max_tokens": most, **GREEDY}
    chat = "messages" in case.payload and list(inputs.prompt(case.payload, model.prompts, {})) == list(ids)
    if chat:
        answer = post("/v1/chat/completions", {**body, "messages": case.payload["messages"]})
    else:
        answer = post("/v1/completions", {**body, "prompt": list(ids)})
    (choice,) = answer["choices"]
    text = choice["message"]["content"] if chat else choice["text"]
    usage = {name: answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
    return {"text": text, "finish_reason": choice["finish_reason"], **usage}


def _expected(model: Generates, ids: Sequence[int], own: Sequence[int]) -> dict[str, Any]:
    stopped = own[-1] in facts(model.manifest).eos
    stream = model.prompts.detokenizer.stream(ids)
    text = "".join(stream.push(token) for token in (own[:-1] if stopped else own)) + stream.flush()
    reason = STOP if stopped else LENGTH
    return {"text": text, "finish_reason": reason, "prompt_tokens": len(ids), "completion_tokens": len(own)}
