"""Answers from an engine: admitted while its cache has room, followed token by token, worded here. On the event loop.

To the routes it is what `images.inside.generation.loop.GenerationLoop` is: they cannot tell who generates.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import fields
from typing import NamedTuple

from images.inside.batching import LONGEST_RETRY, QueueFullError
from images.inside.engine.client import Client
from images.inside.engine.contract import Ask, EngineError, Heard, Launch
from images.inside.generation.answer import Answer, Piece, Wording
from images.inside.generation.detokenize import Detokenizer
from images.inside.generation.request import Finish, Request, Sampling
from images.inside.generation.sampling import Picked
from images.inside.generation.scheduler import Load, Sequence, Step
from images.inside.generation.stops import Stops
from images.inside.web import ApiError

_RECENT = 0.2
"""The newest answer's share of the running average of how long one takes."""
HANGS = 3
"""Answers in a row that stalled, without a token of any other between: one may have had a long prompt."""
_USUAL = Sampling()
_OURS = frozenset({"choice", "top_logprobs"})
"""Fields of `Sampling` that say nothing by themselves."""


class Patience(NamedTuple):
    """How long an answer may take, and how many may wait.

    Attributes:
        stall: seconds without a token.
        answer: seconds in all, the wait for a slot included.
        queue: answers that may wait for a slot.

    """

    stall: float
    answer: float
    queue: int


class Relay:
    """Passes requests on to one engine. Create it on the event loop.

    Args:
        launch: what the engine is and takes.
        port: where it listens.
        detokenizer: the model's tokenizer's.
        eos: ids that end an answer.
        vocabulary: how many token ids there are.
        patience: how long anything may take.
        observe: told of each token.
        ailing: called when the engine failed or stalled, with whether it has been silent so often that it must hang.

    Attributes:
        context: the most tokens of prompt and answer together.

    """

    def __init__(
        self,
        launch: Launch,
        port: int,
        detokenizer: Detokenizer,
        *,
        eos: Collection[int],
        vocabulary: int,
        patience: Patience,
        observe: Callable[[Step], None] = lambda _: None,
        ailing: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.context = launch.context
        self._launch, self._detokenizer, self._patience = launch, detokenizer, patience
        self._eos, self._vocabulary = frozenset(eos), vocabulary
        self._observe, self._ailing = observe, ailing
        self._client = Client(launch, port, patience.stall)
        self._open: dict[Sequence, asyncio.Task[None]] = {}
        self._waiting: deque[tuple[Sequence, asyncio.Future[None]]] = deque()
        self._running: set[Sequence] = set()
        self._answer_seconds, self._silences = 0.0, 0

    @property
    def load(self) -> Load:
        """What the engine has been given."""
        held = sum(len(sequence.request.prompt) + sequence.generated for sequence in self._running)
        return Load(len(self._running), held, self._reserved)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raise `QueueFullError` when no request would be taken: worth knowing before its work begins."""
        if len(self._open) >= self._launch.slots + self._patience.queue:
            raise QueueFullError(self._retry_after())

    def submit(self, request: Request) -> Answer:
        """The answer, as it comes; `Answer.cancel` ends it early.

        Raises:
            ApiError: with status 400, for what the engine would ignore.
            InputError: the prompt and what is asked for are longer than the context, or an id is no token.
            QueueFullError: too many requests wait already.

        """
        check_honoured(request, self._launch.wire.honours)
        request.check_vocabulary(self._vocabulary)
        capacity = request.answer_tokens(self.context)
        self.check_room()
        wording = Wording(self._detokenizer.stream(request.prompt), Stops(request.stop), logprobs=False)
        sequence = Sequence(request, capacity, self._eos, wording)
        task = asyncio.create_task(self._serve(sequence))
        sequence.answer = Answer(len(request.prompt), lambda: _cancel(task))
        self._open[sequence] = task
        task.add_done_callback(lambda _: self._open.pop(sequence, None))
        return sequence.answer

    async def fail(self, error: Exception) -> None:
        """End every answer with an error: the engine has gone."""
        for sequence in list(self._open):
            sequence.answer.fail(error)
        await self._cancel_all()

    async def stop(self) -> None:
        """End every answer as cancelled, and close the connections."""
        for sequence in list(self._open):
            sequence.answer.cancel()
        await self._cancel_all()
        await self._client.close()

    async def resume(self, port: int) -> None:
        """Ask another engine of the same kind from now on."""
        await self._client.close()
        self._client, self._silences = Client(self._launch, port, self._patience.stall), 0

    async def _cancel_all(self) -> None:
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, sequence: Sequence) -> None:
        """Wait for room, then follow the engine; whatever goes wrong becomes the answer's error."""
        try:
            async with asyncio.timeout(self._patience.answer):
                await self._admit(sequence)
                try:
                    await self._follow(sequence)
                finally:
                    self._release(sequence)
        except TimeoutError as error:
            stalled = bool(str(error))  # the client's own error says what it waited for
            sequence.answer.fail(_too_late(sequence, stalled=stalled))
            if stalled:
                self._silences += 1
                self._ailing(self._silences >= HANGS)
        except EngineError as error:
            sequence.answer.fail(_failed(error))
            self._ailing(False)
        except Exception as error:  # noqa: BLE001  # whatever it was, it belongs to this request
            sequence.answer.fail(error)

    async def _admit(self, sequence: Sequence) -> None:
        """Wait for a slot and for room in the cache, in order of arrival."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((sequence, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(sequence)
            else:
                self._waiting.remove((sequence, turn))
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            sequence, turn = self._waiting.popleft()
            if not turn.done():
                self._running.add(sequence)
                turn.set_result(None)

    def _fits(self, sequence: Sequence) -> bool:
        if len(self._running) >= self._launch.slots:
            return False
        return self._reserved + self._room(sequence) <= self._launch.kv_tokens or not self._running

    def _release(self, sequence: Sequence) -> None:
        self._running.discard(sequence)
        self._let_in()

    @property
    def _reserved(self) -> int:
        return sum(map(self._room, self._running))

    def _room(self, sequence: Sequence) -> int:
        """Tokens of the cache that it may take: whole pages."""
        page = self._launch.page
        return -(-sequence.reserved // page) * page

    async def _follow(self, sequence: Sequence) -> None:
        """Hand on what the engine says until the answer has ended: by a token, a stop string, or its length."""
        request = sequence.request
        ask = Ask(request.prompt, sequence.capacity, request.sampling, sorted(sequence.eos))
        async with aclosing(self._client.answer(ask)) as heard:
            async for said in heard:
                if self._take(sequence, said):
                    self._finished(sequence)
                    return
                if said.ended:
                    break
        if not sequence.eos:
            raise EngineError(f"the engine ended after {sequence.generated} of {sequence.capacity} tokens")
        # It ended by the model's own end, and kept that token to itself.
        text, tokens = sequence.wording.end()
        sequence.answer.put(Piece(text, tokens, sequence.generated + 1, Finish.STOP))
        self._finished(sequence)

    def _take(self, sequence: Sequence, said: Heard) -> bool:
        """Word what the engine said; whether that ended the answer."""
        for token in said.tokens:
            piece = sequence.accept(Picked(token))
            self._note(sequence)
            if piece.text or piece.finish:
                sequence.answer.put(piece)
            if piece.finish:
                return True
        return False

    def _note(self, sequence: Sequence) -> None:
        now, self._silences = time.perf_counter(), 0
        seconds, sequence.latest = now - sequence.latest, now
        first = sequence.generated == 1
        self._observe(
            Step(
                batch=len(self._running),
                tokens_in=len(sequence.request.prompt) if first else 0,
                tokens_out=1,
                first_seconds=[seconds] if first else [],
                token_seconds=[] if first else [seconds],
                seconds=seconds,
                load=self.load,
            )
        )

    def _finished(self, sequence: Sequence) -> None:
        seconds = time.perf_counter() - sequence.arrived
        before = self._answer_seconds or seconds
        self._answer_seconds = (1 - _RECENT) * before + _RECENT * seconds

    def _retry_after(self) -> int:
        """When a slot will be free for one more, if answers go on taking as long as the latest took."""
        slots = self._launch.slots
        ahead = len(self._open) - slots + 1
        return min(max(math.ceil(self._answer_seconds * ahead / slots), 1), LONGEST_RETRY)


def check_honoured(request: Request, honours: Collection[str]) -> None:
    """Raise a 400 `ApiError` that names what the engine would ignore."""
    asked = [
        one.name
        for one in fields(Sampling)
        if one.name not in {*honours, *_OURS} and getattr(request.sampling, one.name) != getattr(_USUAL, one.name)
    ]
    if request.json_object:
        asked.append("response_format")
    if asked:
        message = f"{asked[0]}: this image's engine would ignore it: leave it out"
        raise ApiError(400, message, code="unsupported_parameter", param=asked[0])


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _too_late(sequence: Sequence, *, stalled: bool) -> ApiError:
    what = "the engine said nothing for too long" if stalled else "the answer took too long"
    return ApiError(504, f"{what}; it has {sequence.generated} tokens", code="timeout")


def _failed(error: EngineError) -> ApiError:
    return ApiError(503, f"{error}; try again", code="engine_failed", headers={"retry-after": "5"})
