"""Which request's tokens run next: the worker's own half of continuous batching, one step at a time.

A request waits for a slot and for room in the key-value budget, in order of arrival. Then its prompt is read in parts,
in turn with other prompts, and between any two rounds of parts every answer under way gets its next token. So no prompt
holds up the others for longer than a part takes.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from images.inside.contract import FloatArray
from images.inside.generation.answer import Answer, Piece, Wording
from images.inside.generation.contract import Generator
from images.inside.generation.json_object import JsonObject
from images.inside.generation.request import Finish, Request
from images.inside.generation.sampling import Picked, Sampler

T = TypeVar("T")
EXPECTED = 256
"""Tokens of an answer whose length nobody asked for that are held free at first, and whenever they are used up.

Held free for the longest that it may become, few such answers would fill the budget, and run one after the other.
"""


class Limits(NamedTuple):
    """How much may run and wait at once.

    Attributes:
        kv_tokens: tokens of all sequences under way, each counted with those that are held free for it.
        prefill_tokens: prompt tokens that are read between two tokens of the answers under way.
        queue: requests that may wait for a slot.

    """

    kv_tokens: int
    prefill_tokens: int
    queue: int


class Sequence:
    """One request from its arrival to its end.

    Attributes:
        answer: where its pieces go; touched on the event loop only.
        capacity: the most tokens of the answer.
        room: how many tokens are held free for it, prompt and answer.
        cancelled: set by any thread; obeyed before the next step.
        slot: where it lives; -1 while it waits.

    """

    def __init__(
        self, request: Request, capacity: int, eos: frozenset[int], wording: Wording, json: JsonObject | None = None
    ) -> None:
        self.request, self.capacity, self.wording = request, capacity, wording
        self.eos = frozenset[int]() if request.ignore_eos else eos
        self.json = json
        self.room = len(request.prompt) + (capacity if request.max_tokens else min(capacity, EXPECTED))
        self.sampler = Sampler(request.sampling, request.prompt, capacity, json.allows if json else None)
        self.answer: Answer
        self.cancelled, self.slot = False, -1
        self.fed, self.generated, self.token = 0, 0, -1
        self.arrived = self.latest = time.perf_counter()

    @property
    def reserved(self) -> int:
        """How many tokens it may become."""
        return len(self.request.prompt) + self.capacity

    def take(self, logits: FloatArray) -> Piece:
        """Choose the next token and word it."""
        return self.accept(self.sampler.pick(logits))

    def accept(self, picked: Picked) -> Piece:
        """Word a token, whoever chose it."""
        self.token, self.generated = picked.token, self.generated + 1
        if picked.token in self.eos and not self.json:
            return self._piece(*self.wording.end(), Finish.STOP)
        text, tokens, stopped = self.wording.push(picked)
        if stopped:
            return self._piece(text, tokens, Finish.STOP)
        complete = self._completes(picked.token)
        if not complete and self.generated < self.capacity:
            return self._piece(text, tokens, None)
        rest, last = self.wording.end()
        return self._piece(text + rest, tokens + last, Finish.STOP if complete else Finish.LENGTH)

    def _completes(self, token: int) -> bool:
        """Whether a token closes the JSON object that was asked for."""
        if self.json:
            self.json.push(token)
        return self.json is not None and self.json.complete

    def _piece(self, text: str, tokens: tuple[Picked, ...], finish: Finish | None) -> Piece:
        return Piece(text, tokens, self.generated, finish)


class Load(NamedTuple):
    """What the slots hold.

    Attributes:
        running: sequences.
        kv_tokens: their tokens.
        reserved_tokens: their tokens, with those that are held free for them.

    """

    running: int
    kv_tokens: int
    reserved_tokens: int


NOTHING = Load(0, 0, 0)


@dataclass(slots=True)
class Step:
    """What one call of the generator was, or one round of calls that read prompts.

    Attributes:
        events: what each sequence got: a piece, or the error that ended it.
        batch: sequences that ran.
        tokens_in: prompt tokens that ran.
        tokens_out: tokens that were generated.
        first_seconds: from arrival to first token, for answers that began.
        token_seconds: from one token to the next, for answers that went on.
        seconds: how long it took.
        load: what the slots hold after it.

    """

    events: list[tuple[Sequence, Piece | Exception]] = field(default_factory=list)
    batch: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_seconds: list[float] = field(default_factory=list)
    token_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    load: Load = NOTHING


class Scheduler:
    """Owns the generator and the sequences under way. Not thread-safe.

    Attributes:
        waiting: sequences without a slot, by arrival.

    """

    def __init__(self, generator: Generator, limits: Limits) -> None:
        self.waiting: deque[Sequence] = deque()
        self._generator, self._limits = generator, limits
        self._free = list(range(generator.slots))
        self._reading: deque[Sequence] = deque()
        self._answering: list[Sequence] = []
        self._reserved = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits."""
        return not (self.waiting or self._reading or self._answering)

    @property
    def live(self) -> list[Sequence]:
        """The sequences that have a slot."""
        return [*self._reading, *self._answering]

    @property
    def load(self) -> Load:
        """What the slots hold."""
        live = self.live
        return Load(len(live), sum(sequence.fed for sequence in live), self._reserved)

    def admit(self) -> None:
        """Drop what was cancelled, and give slots to those that wait while there is room.

        Raises `RuntimeError` when no slot will ever be free, since the generator can empty none.
        """
        for sequence in [sequence for sequence in self.live if sequence.cancelled]:
            self._end(sequence)
        while self.waiting and (self.waiting[0].cancelled or self._fits(self.waiting[0])):
            sequence = self.waiting.popleft()
            if not sequence.cancelled:
                sequence.slot = heapq.heappop(self._free)
                self._reserved += sequence.room
                self._reading.append(sequence)
        if self.waiting and not self.live:
            raise RuntimeError("the generator could empty none of its slots")

    def read(self) -> Step | None:
        """Read the next parts of prompts; None when there are none."""
        if not self._reading:
            return None
        step, left = Step(), self._limits.prefill_tokens
        started = time.perf_counter()
        for _ in range(len(self._reading)):
            if left <= 0:
                break
            left -= self._read(self._reading.popleft(), left, step)
        step.seconds = time.perf_counter() - started
        return step

    def answer(self) -> Step | None:
        """Generate the next token of every answer under way; None when there are none."""
        if not self._answering:
            return None
        step, sequences = Step(), list(self._answering)
        started, step.batch = time.perf_counter(), len(sequences)
        for sequence, outcome in zip(sequences, self._decode(sequences), strict=True):
            self._advance(sequence, outcome, step)
        step.seconds = time.perf_counter() - started
        return step

    def clear(self) -> list[Sequence]:
        """Forget everything: what was under way or waited."""
        gone = [*self.live, *self.waiting]
        for sequence in self.live:
            self._end(sequence)
        self.waiting.clear()
        return gone

    def _fits(self, sequence: Sequence) -> bool:
        return bool(self._free) and self._reserved + sequence.room <= self._limits.kv_tokens

    def _read(self, sequence: Sequence, most: int, step: Step) -> int:
        """Read one part of one prompt: how many tokens."""
        part = sequence.request.prompt[sequence.fed : sequence.fed + most]
        step.batch += 1
        step.tokens_in += len(part)
        self._reading.append(sequence)
        outcome = self._guard(lambda: self._generator.prefill(sequence.slot, part))
        sequence.fed += len(part)
        if isinstance(outcome, Exception):
            self._fail(sequence, outcome, step)
        elif sequence.fed == len(sequence.request.prompt):
            self._reading.pop()
            self._answering.append(sequence)
            self._take(sequence, outcome, step)
        return len(part)

    def _decode(self, sequences: list[Sequence]) -> list[FloatArray | Exception]:
        outcome = self._guard(lambda: self._feed(sequences))
        if not isinstance(outcome, Exception):
            return list(outcome)
        # One of them may be to blame: those whose slots the failed call left as they were are tried one by one.
        return [outcome if len(sequences) == 1 else self._alone(sequence, outcome) for sequence in sequences]

    def _alone(self, sequence: Sequence, error: Exception) -> FloatArray | Exception:
        if self._guard(lambda: self._generator.length(sequence.slot)) != sequence.fed:
            return error
        outcome = self._guard(lambda: self._feed([sequence]))
        return outcome if isinstance(outcome, Exception) else outcome[0]

    def _feed(self, sequences: list[Sequence]) -> FloatArray:
        return self._generator.decode([one.slot for one in sequences], [one.token for one in sequences])

    def _advance(self, sequence: Sequence, outcome: FloatArray | Exception, step: Step) -> None:
        sequence.fed += 1
        if isinstance(outcome, Exception):
            self._fail(sequence, outcome, step)
        else:
            self._take(sequence, outcome, step)

    def _take(self, sequence: Sequence, logits: FloatArray, step: Step) -> None:
        self._stretch(sequence)
        try:
            piece = sequence.take(logits)
        except Exception as error:  # noqa: BLE001  # whatever it was, it belongs to this request
            self._fail(sequence, error, step)
            return
        now = time.perf_counter()
        (step.token_seconds if piece.generated > 1 else step.first_seconds).append(now - sequence.latest)
        sequence.latest = now
        step.tokens_out += 1
        if piece.text or piece.tokens or piece.finish:
            step.events.append((sequence, piece))
        if piece.finish:
            self._end(sequence)

    def _stretch(self, sequence: Sequence) -> None:
        """Hold room free behind a sequence's next token; where there is none, its answer is as long as fits."""
        if len(sequence.request.prompt) + sequence.generated + 1 < sequence.room or sequence.room == sequence.reserved:
            return
        more = min(EXPECTED, sequence.reserved - sequence.room, self._limits.kv_tokens - self._reserved)
        sequence.room += more
        self._reserved += more
        if not more:
            sequence.capacity = sequence.generated + 1

    def _fail(self, sequence: Sequence, error: Exception, step: Step) -> None:
        step.events.append((sequence, error))
        self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        (self._answering if sequence in self._answering else self._reading).remove(sequence)
        self._reserved -= sequence.room
        # A slot that still holds tokens would put them in front of the next prompt: it is not used again.
        with suppress(Exception):
            self._generator.release(sequence.slot)
            heapq.heappush(self._free, sequence.slot)

    @staticmethod
    def _guard(call: Callable[[], T]) -> T | Exception:
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # whatever it was, it belongs to the requests of the call
            return error
