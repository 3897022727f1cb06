"""A model that generates: answers come token by token, and requests join those under way at any step."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import starlette.requests

from images.inside.engine.keeper import Keeper
from images.inside.engine.relay import Patience, Relay
from images.inside.generation.answer import Answer, Piece
from images.inside.generation.detokenize import Detokenizer
from images.inside.generation.loop import GenerationLoop
from images.inside.generation.request import Finish, Request, Sampling, sampling
from images.inside.generation.scheduler import Limits
from images.inside.loaded import LoadedEngine, LoadedGenerator
from images.inside.logs import log
from images.inside.metrics import GeneratingMetrics
from images.inside.prompts import Prompts
from images.inside.records import KV_TOKENS, GenerationFacts
from images.inside.service import Service, note
from images.inside.threads import memory_limit
from images.inside.web import ApiError

T = TypeVar("T")
COPIES = 2
"""How often a runtime may hold a token's keys and values: one that concatenates has the past and the present of a step.

One that attends in place was seen to hold them once: the rest is for what a step needs besides.
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a request asks for beside its prompts.

    Attributes:
        param: what the API calls the prompts.
        n: answers to each prompt.
        max_tokens: the most tokens of an answer; None for as many as the context has room for.
        stop: an answer ends before the first of these.
        sampling: what it says of `Sampling`'s fields; the model's own defaults hold for the rest.
        ignore_eos: go on past the model's own end.
        json_object: whether an answer must be a JSON object.

    """

    param: str
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    ignore_eos: bool = False
    json_object: bool = False


class Answers:
    """All answers to one HTTP request: read together, cancelled together.

    Attributes:
        count: how many.
        prompt_tokens: tokens of all prompts, each counted once.
        sampling: how the first of them is sampled.

    """

    def __init__(self, answers: Sequence[Answer], prompt_tokens: int, how: Sampling) -> None:
        self._answers = answers
        self.count, self.prompt_tokens, self.sampling = len(answers), prompt_tokens, how

    @property
    def generated(self) -> int:
        """Tokens of all answers so far."""
        return sum(answer.generated for answer in self._answers)

    @property
    def finishes(self) -> list[str]:
        """Why each answer ended."""
        return [answer.finish or "error" for answer in self._answers]

    def cancel(self) -> None:
        """Stop generating what has not ended."""
        for answer in self._answers:
            answer.cancel()

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece], None]:
        """Pieces as they come, each with its answer's index. Raises `CancelledError` when one is cancelled."""
        async with aclosing(_merged(self._answers)) as pieces:
            async for index, piece in pieces:
                if piece.finish is Finish.CANCELLED:
                    raise asyncio.CancelledError
                yield index, piece


class Generating:
    """The model behind its loop. `prompts` and `submit` may be called once `Service.body` has let a request in.

    Attributes:
        facts: what the manifest says of it.

    """

    def __init__(self, service: Service, facts: GenerationFacts) -> None:
        self.facts = facts
        self._service, self._settings = service, service.settings
        self._metrics = GeneratingMetrics(service.metrics.registry)
        self._prompts: Prompts
        self._room, self._defaults = 0, facts.defaults
        self._loop: GenerationLoop | Relay | None = None
        self._keeper: Keeper | None = None

    def probe(self, model: LoadedGenerator | LoadedEngine) -> None:
        """Read and write a token in every slot, all together: so much must fit. An engine has answered already."""
        if isinstance(model, LoadedEngine):
            return
        generator, slots = model.runner, range(model.runner.slots)
        for slot in slots:
            generator.prefill(slot, [0])
        generator.decode(slots, [0] * len(slots))
        for slot in slots:
            generator.release(slot)

    def begin(self, model: LoadedGenerator | LoadedEngine) -> None:
        """Answer from now on: by the loop's worker, or by the engine."""
        self._prompts = model.prompts
        if isinstance(model, LoadedEngine):
            self._follow(model)
        else:
            self._drive(model)

    def _drive(self, model: LoadedGenerator) -> None:
        generator, settings = model.runner, self._settings
        kv_tokens = settings.max_kv_tokens or self._held(generator.slots * generator.context)
        self._room = generator.slots + settings.max_queue_answers
        self._loop = loop = GenerationLoop(
            generator,
            model.prompts.detokenizer,
            eos=self.facts.eos,
            vocabulary=self.facts.vocabulary,
            limits=Limits(kv_tokens, settings.max_prefill_tokens, settings.max_queue_answers),
            observe=self._metrics.step,
        )
        self._metrics.watch(loop, generator.slots, kv_tokens)
        loop.start()

    def _held(self, tokens: int) -> int:
        """So many tokens of sequences under way, or fewer where this container's memory would not hold them."""
        if not self.facts.kv_bytes:
            return tokens
        spare = max(0, memory_limit() - self._service.manifest.memory_bytes)
        room = min(self.facts.context, KV_TOKENS) + spare // (COPIES * self.facts.kv_bytes)
        if room < tokens:
            log(logging.INFO, "memory bounds the sequences under way", tokens=room, slots_hold=tokens)
        return min(room, tokens)

    def _follow(self, model: LoadedEngine) -> None:
        launch, settings = model.process.launch, self._settings
        self._room = launch.slots + settings.max_queue_answers
        self._defaults = {name: value for name, value in self.facts.defaults.items() if name in launch.wire.honours}
        if ignored := sorted(self.facts.defaults.keys() - self._defaults.keys()):
            log(logging.WARNING, "the engine honours none of these defaults of the model", defaults=ignored)
        self._loop = relay = Relay(
            launch,
            model.process.port,
            model.prompts.detokenizer,
            eos=self.facts.eos,
            vocabulary=self.facts.vocabulary,
            patience=Patience(settings.stall_seconds, settings.answer_seconds, settings.max_queue_answers),
            observe=self._metrics.step,
            ailing=self._look,
        )
        self._keeper = Keeper(self._service, relay, model.process, self._service.failed)
        self._metrics.watch(relay, launch.slots, launch.kv_tokens)

    def _look(self, hangs: bool) -> None:
        if self._keeper:
            self._keeper.look(hangs)

    async def end(self) -> None:
        """Stop the worker. On the event loop, where answers live; those that were cut off are told first."""
        await asyncio.sleep(0)
        if isinstance(self._loop, Relay):
            await self._loop.stop()
        elif self._loop:
            self._loop.stop()
        if self._keeper:
            await self._keeper.end()

    @property
    def detokenizer(self) -> Detokenizer:
        """The loaded tokenizer's."""
        return self._prompts.detokenizer

    async def prompts(self, size: int, make: Callable[[Prompts], T]) -> T:
        """A request's prompts; `size` is its body's, in bytes. Raises `QueueFullError` when that would be useless."""
        self._worker.check_room()
        return await self._service.aside(size, lambda: make(self._prompts))

    def submit(self, prompts: Sequence[Sequence[int]], wanted: Wanted) -> Answers:
        """Begin all answers, or none. Answer `n * i + k` is the one numbered `k` to prompt `i`."""
        requests = self._requests(prompts, wanted)
        begun: list[Answer] = []
        try:
            begun += (self._worker.submit(request) for request in requests)
        except Exception:
            for answer in begun:
                answer.cancel()
            raise
        return Answers(begun, sum(map(len, prompts)), requests[0].sampling)

    @asynccontextmanager
    async def attending(self, request: starlette.requests.Request, answers: Answers) -> AsyncIterator[None]:
        """`Service.attending` for answers; what came of them is noted at the end."""
        try:
            async with self._service.attending(request, answers.cancel):
                yield
        finally:
            note(request, answers=answers.count, tokens=answers.prompt_tokens, generated=answers.generated)
            for finish in answers.finishes:
                self._metrics.answer(finish)

    def _requests(self, prompts: Sequence[Sequence[int]], wanted: Wanted) -> list[Request]:
        self._check_count(len(prompts) * wanted.n, "n" if wanted.n > 1 else wanted.param)
        for prompt in prompts:
            self._check_context(len(prompt), wanted)
        how = [sampling(self._defaults, {**wanted.sampling, "choice": choice}) for choice in range(wanted.n)]
        return [
            Request(
                prompt=prompt,
                max_tokens=wanted.max_tokens,
                sampling=one,
                stop=wanted.stop,
                ignore_eos=wanted.ignore_eos,
                json_object=wanted.json_object,
                param=wanted.param,
            )
            for prompt in prompts
            for one in how
        ]

    def _check_count(self, answers: int, param: str) -> None:
        if answers > self._room:
            message = f"{param}: {answers} answers are asked for; one request may have {self._room}"
            raise ApiError(400, message, code="too_many_answers", param=param)

    def _check_context(self, prompt: int, wanted: Wanted) -> None:
        """Raise a 400 `ApiError` with the numbers when prompt and answer are too long together."""
        context, answer = self._worker.context, wanted.max_tokens or 1
        if prompt + answer > context:
            whose = "this model's context" if context >= self.facts.context else "the room for a sequence here"
            message = (
                f"{whose} is {context} tokens; {prompt + answer} are asked for: "
                f"{prompt} of the prompt and {answer} of the answer"
            )
            raise ApiError(400, message, code="context_length_exceeded", param=wanted.param)

    @property
    def _worker(self) -> GenerationLoop | Relay:
        assert self._loop  # noqa: S101  # `Service.body` lets no request in before `begin`
        return self._loop


async def _merged(answers: Sequence[Answer]) -> AsyncGenerator[tuple[int, Piece], None]:
    if len(answers) == 1:
        async for piece in answers[0]:
            yield 0, piece
        return
    queue: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()
    pumps = [asyncio.create_task(_pump(index, answer, queue)) for index, answer in enumerate(answers)]
    try:
        going = len(answers)
        while going:
            index, found = await queue.get()
            if isinstance(found, Exception):
                raise found
            going -= found.finish is not None
            yield index, found
    finally:
        for pump in pumps:
            pump.cancel()


async def _pump(index: int, answer: Answer, queue: "asyncio.Queue[tuple[int, Piece | Exception]]") -> None:
    try:
        async for piece in answer:
            queue.put_nowait((index, piece))
    except Exception as error:  # noqa: BLE001  # the reader raises it
        queue.put_nowait((index, error))
