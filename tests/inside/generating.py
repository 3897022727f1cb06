"""A small real generator for the loop's tests: its next token depends on every token before, in order."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from images.inside.contract import FloatArray
from images.inside.generation.detokenize import Detokenizer
from images.inside.generation.loop import GenerationLoop
from images.inside.generation.request import Request, Sampling
from images.inside.generation.sampling import Sampler
from images.inside.generation.scheduler import Limits
from tests.inside import tiny

EOS = 2
SPECIAL = frozenset(range(5))
BACKEND: Backend = tiny.bytelevel()
VOCABULARY = BACKEND.get_vocab_size()
DETOKENIZER = Detokenizer(BACKEND, SPECIAL)
LIMITS = Limits(kv_tokens=1 << 20, prefill_tokens=8, queue=64)
LETTERS = [tiny.BYTES.index(character) for character in "abcdefghijklmnopqrstuvwxyzĠ.Ã©"]


def ids(text: str) -> list[int]:
    """The tokens of a text, no special ones added: one a byte."""
    found: list[int] = BACKEND.encode(text, add_special_tokens=False).ids
    return found


class ChainGenerator:
    """Each token turns a slot's state into the next, which seeds the logits. "!" breaks it, before it changes a slot.

    Attributes:
        calls: what ran: "prefill" or "decode", the slots, the tokens.
        holds: the number of the call at which it closes `open`; 0 for none.
        open: cleared, it holds calls up.
        held: set when a call is held up.

    """

    def __init__(self, slots: int = 4, context: int = 256) -> None:
        self.slots, self.context = slots, context
        self.calls: list[tuple[str, list[int], list[int]]] = []
        self.holds = 0
        self.open, self.held = threading.Event(), threading.Event()
        self.open.set()
        self._states: list[list[int]] = [[0] for _ in range(slots)]

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        self._begin("prefill", [slot], ids)
        for token in ids:
            self._feed(slot, token)
        return self._logits(slot)

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        self._begin("decode", slots, ids)
        for slot, token in zip(slots, ids, strict=True):
            self._feed(slot, token)
        return np.stack([self._logits(slot) for slot in slots])

    def length(self, slot: int) -> int:
        return len(self._states[slot]) - 1

    def release(self, slot: int) -> None:
        self._states[slot] = [0]

    def describe(self) -> dict[str, str]:
        return {"runtime": "chain"}

    def _begin(self, kind: str, slots: Sequence[int], ids: Sequence[int]) -> None:
        self.calls.append((kind, list(slots), list(ids)))
        if len(self.calls) == self.holds:
            self.open.clear()
        if not self.open.is_set():
            self.held.set()
        self.open.wait()
        if BREAKS in ids:
            raise RuntimeError("the generator broke")

    def _feed(self, slot: int, token: int) -> None:
        states = self._states[slot]
        assert len(states) <= self.context
        states.append((states[-1] * 6364136223846793005 + token + 1442695040888963407) % (1 << 64))

    def _logits(self, slot: int) -> FloatArray:
        chance = np.random.Generator(np.random.Philox(self._states[slot][-1]))
        logits = chance.normal(size=VOCABULARY).astype(np.float32)
        logits[LETTERS] += 4
        logits[BREAKS] = -50
        return logits


BREAKS = ids("!")[0]


def alone(request: Request, context: int = 256) -> str:
    """The answer to a request, worked out without loop, slots, parts or batches. Stop strings are not its business."""
    generator, taken = ChainGenerator(slots=1, context=context), list[int]()
    capacity = request.answer_tokens(context)
    sampler = Sampler(request.sampling, request.prompt, capacity)
    logits = generator.prefill(0, request.prompt)
    while len(taken) < capacity:
        token = sampler.pick(logits).token
        if token == EOS and not request.ignore_eos:
            break
        taken.append(token)
        logits = generator.decode([0], [token])[0]
    return BACKEND.decode(taken)


def asked(
    text: str, max_tokens: int = 12, stop: tuple[str, ...] = (), *, json_object: bool = False, **sampling: Any
) -> Request:
    """A request, greedy unless it says otherwise."""
    how = Sampling(**{"temperature": 0.0, **sampling})
    return Request(
        prompt=ids(text), max_tokens=max_tokens, sampling=how, stop=stop, json_object=json_object, ignore_eos=True
    )


def started(generator: ChainGenerator, limits: Limits = LIMITS, **more: Any) -> GenerationLoop:
    """A running loop around a generator."""
    loop = GenerationLoop(generator, DETOKENIZER, eos=[EOS], vocabulary=VOCABULARY, limits=limits, **more)
    loop.start()
    return loop
