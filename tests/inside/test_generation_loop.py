import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator

import pytest

from images.inside.batching import QueueFullError
from images.inside.contract import FloatArray
from images.inside.errors import InputError
from images.inside.generation import scheduler
from images.inside.generation.answer import Piece
from images.inside.generation.detokenize import Detokenizer
from images.inside.generation.loop import GenerationLoop
from images.inside.generation.request import Finish, Request, Sampling
from images.inside.generation.scheduler import NOTHING, Limits, Step
from tests.inside import generating, tiny
from tests.inside.generating import EOS, LIMITS, ChainGenerator, alone, asked, ids, started


@pytest.fixture
def generator() -> ChainGenerator:
    return ChainGenerator()


@pytest.fixture
async def loop(generator: ChainGenerator) -> AsyncIterator[GenerationLoop]:
    loop = started(generator)
    yield loop
    loop.stop()


async def held(generator: ChainGenerator) -> None:
    """Wait until the generator holds a call up."""
    await asyncio.to_thread(generator.held.wait)


async def free(generator: ChainGenerator) -> None:
    """Wait until no slot holds anything."""
    while any(generator.length(slot) for slot in range(generator.slots)):  # noqa: ASYNC110  # a thread empties them
        await asyncio.sleep(0.001)


async def test_an_answer_is_what_the_generator_says(loop: GenerationLoop) -> None:
    request = asked("one long prompt that is read in several parts")
    assert await loop.submit(request).text() == alone(request)


@pytest.mark.parametrize("seed", range(6))
async def test_any_interleaving_gives_each_request_the_text_that_it_gets_alone(seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(chance.choice([120, 1000]), chance.choice([1, 3, 8, 100]), 64)
    loop = started(ChainGenerator(slots=chance.choice([1, 2, 5])), limits)
    requests = [
        asked("x" * chance.randint(1, 60) + str(n), chance.randint(1, 40), temperature=chance.choice([0, 1]), seed=n)
        for n in range(12)
    ]

    async def ask(request: Request) -> str:
        await asyncio.sleep(chance.random() * 0.01)
        answer = loop.submit(request)
        if chance.random() < 0.2:
            await anext(answer)
            answer.cancel()
            answer = loop.submit(request)
        return await answer.text()

    texts = await asyncio.gather(*map(ask, requests))
    loop.stop()
    assert texts == [alone(request, 120) for request in requests]


async def test_requests_join_a_running_batch(generator: ChainGenerator, loop: GenerationLoop) -> None:
    generator.holds = 5
    first = loop.submit(asked("first", 60))
    await held(generator)
    second = loop.submit(asked("second", 5))
    generator.open.set()
    assert list(await asyncio.gather(first.text(), second.text())) == [
        alone(asked("first", 60)),
        alone(asked("second", 5)),
    ]
    assert [0, 1] in [slots for kind, slots, _ in generator.calls if kind == "decode"]


async def test_equal_seeds_give_equal_texts(loop: GenerationLoop) -> None:
    one, other = (loop.submit(asked("a", 30, temperature=1, seed=5)) for _ in range(2))
    assert await one.text() == await other.text()


async def test_several_answers_to_one_seed_differ(loop: GenerationLoop) -> None:
    one, other = (loop.submit(asked("a", 30, temperature=1, seed=5, choice=choice)) for choice in range(2))
    assert await one.text() != await other.text()


async def test_an_answer_without_a_seed_differs_each_time(loop: GenerationLoop) -> None:
    one, other = (loop.submit(asked("a", 30, temperature=1)) for _ in range(2))
    assert await one.text() != await other.text()


async def test_an_answer_ends_at_its_most_tokens(loop: GenerationLoop) -> None:
    answer = loop.submit(asked("a", 7))
    await answer.text()
    assert (answer.finish, answer.generated) == (Finish.LENGTH, 7)


async def test_an_answer_ends_at_the_models_end(loop: GenerationLoop) -> None:
    answer = loop.submit(Request(prompt=ids("a"), sampling=Sampling(temperature=0, logit_bias={EOS: 100})))
    assert (await answer.text(), answer.finish, answer.generated) == ("", Finish.STOP, 1)


async def test_an_answer_ends_before_a_stop_string_over_several_tokens(loop: GenerationLoop) -> None:
    text = alone(asked("a", 40))
    answer = loop.submit(asked("a", 40, (text[10:14],)))
    assert (await answer.text(), answer.finish) == (text[: text.index(text[10:14])], Finish.STOP)


async def test_tokens_of_a_stop_string_are_not_shown(loop: GenerationLoop) -> None:
    text = alone(asked("a", 40))
    shown = [piece async for piece in loop.submit(asked("a", 40, (text[10:14],), logprobs=True))]
    spelled = b"".join(generating.DETOKENIZER.token_bytes(token.token) for piece in shown for token in piece.tokens)
    assert spelled.decode() == "".join(piece.text for piece in shown)


async def test_an_answer_without_a_limit_fills_the_context(loop: GenerationLoop) -> None:
    answer = loop.submit(Request(prompt=ids("abc"), sampling=Sampling(temperature=0), ignore_eos=True))
    await answer.text()
    assert answer.generated == 256 - 3


async def test_a_prompt_as_long_as_the_context_is_refused_with_both_numbers(loop: GenerationLoop) -> None:
    with pytest.raises(InputError, match=r"has 256 tokens.*at most 256.*\$\.messages"):
        loop.submit(Request(prompt=[9] * 256, param="messages"))


async def test_more_tokens_than_the_context_has_room_for_are_refused(loop: GenerationLoop) -> None:
    with pytest.raises(InputError, match=r"200 tokens and 57 more.*256.*\$\.max_tokens"):
        loop.submit(Request(prompt=[9] * 200, max_tokens=57))


async def test_an_unknown_token_is_refused(loop: GenerationLoop) -> None:
    with pytest.raises(InputError, match=r"99999 is not a token id of this model - at `\$\.prompt`"):
        loop.submit(Request(prompt=[9, 99999]))


async def test_a_cancelled_answer_frees_its_slot(generator: ChainGenerator, loop: GenerationLoop) -> None:
    generator.holds = 5
    answer = loop.submit(asked("a", 200))
    await held(generator)
    answer.cancel()
    generator.open.set()
    await free(generator)
    assert answer.finish is Finish.CANCELLED


async def test_an_answer_cancelled_while_its_prompt_is_read_frees_its_slot(generator: ChainGenerator) -> None:
    generator.open.clear()
    loop = started(generator)
    answer = loop.submit(asked("a" * 200, 9))
    await held(generator)
    answer.cancel()
    generator.open.set()
    assert await loop.submit(asked("b")).text() == alone(asked("b"))
    assert sum(len(tokens) for kind, _, tokens in generator.calls if kind == "prefill") == 8 + 1
    loop.stop()


async def test_an_answer_cancelled_in_the_queue_never_runs() -> None:
    generator = ChainGenerator(slots=1)
    generator.open.clear()
    loop = started(generator)
    first, second = loop.submit(asked("aa")), loop.submit(asked("bb"))
    second.cancel()
    generator.open.set()
    await first.text()
    assert not any(ids("b")[0] in tokens for kind, _, tokens in generator.calls if kind == "prefill")
    loop.stop()


async def test_a_reader_that_is_cancelled_cancels_its_answer(generator: ChainGenerator, loop: GenerationLoop) -> None:
    generator.holds = 5
    answer = loop.submit(asked("a", 250))
    reading = asyncio.create_task(answer.text())
    await held(generator)
    reading.cancel()
    generator.open.set()
    await free(generator)
    assert answer.finish is Finish.CANCELLED


async def test_a_long_prompt_holds_a_short_one_up_for_a_part_only(generator: ChainGenerator) -> None:
    generator.open.clear()
    loop = started(generator)
    long = loop.submit(asked("x" * 200, 1))
    await held(generator)
    short = loop.submit(asked("y", 1))
    generator.open.set()
    await asyncio.gather(long.text(), short.text())
    read = [len(tokens) for kind, _, tokens in generator.calls if kind == "prefill"]
    assert read.index(1) <= 2
    loop.stop()


async def test_answers_go_on_between_the_parts_of_a_prompt(generator: ChainGenerator, loop: GenerationLoop) -> None:
    generator.holds = 5
    first = loop.submit(asked("first", 250))
    await held(generator)
    second = loop.submit(asked("x" * 80, 1))
    generator.open.set()
    await second.text()
    first.cancel()
    parts = [at for at, (kind, slots, _) in enumerate(generator.calls) if kind == "prefill" and slots == [1]]
    assert len(parts) == 10
    assert all(generator.calls[at + 1][0] == "decode" for at in parts[:-1])


async def test_a_step_reads_no_more_of_prompts_than_it_may(generator: ChainGenerator, loop: GenerationLoop) -> None:
    await asyncio.gather(*(loop.submit(asked("x" * n)).text() for n in (30, 3, 17)))
    assert max(len(tokens) for kind, _, tokens in generator.calls if kind == "prefill") <= LIMITS.prefill_tokens


async def test_a_full_queue_refuses_a_request(generator: ChainGenerator) -> None:
    generator.open.clear()
    loop = started(generator, LIMITS._replace(queue=2))
    answers = [loop.submit(asked("a")) for _ in range(generator.slots + 2)]
    with pytest.raises(QueueFullError) as caught:
        loop.submit(asked("a"))
    assert caught.value.retry_after >= 1
    generator.open.set()
    await asyncio.gather(*(answer.text() for answer in answers))
    loop.stop()


async def test_a_cancelled_request_makes_room_in_the_queue(generator: ChainGenerator) -> None:
    generator.open.clear()
    loop = started(generator, LIMITS._replace(queue=1))
    answers = [loop.submit(asked("a")) for _ in range(generator.slots + 1)]
    answers[-1].cancel()
    loop.check_room()
    generator.open.set()
    loop.stop()


async def test_sequences_stay_within_the_budget(generator: ChainGenerator) -> None:
    steps: list[Step] = []
    loop = started(generator, LIMITS._replace(kv_tokens=50), observe=steps.append)
    await asyncio.gather(*(loop.submit(asked("x" * 10, 10)).text() for _ in range(6)))
    assert max(step.load.reserved_tokens for step in steps) == 40
    loop.stop()


def open_ended(text: str) -> Request:
    """A request that does not say how long its answer may be."""
    return dataclasses.replace(asked(text), max_tokens=None)


async def test_answers_without_a_length_share_the_budget_until_it_is_full(
    generator: ChainGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "EXPECTED", 4)
    steps: list[Step] = []
    loop = started(generator, LIMITS._replace(kv_tokens=60), observe=steps.append)
    answers = [loop.submit(open_ended(letter * 10)) for letter in "ab"]
    await asyncio.gather(*(answer.text() for answer in answers))
    assert max(step.load.reserved_tokens for step in steps) == 60
    assert max(step.batch for step in steps) == 2
    assert [(answer.finish, answer.generated > 4) for answer in answers] == [(Finish.LENGTH, True)] * 2
    loop.stop()


async def test_an_answer_without_a_length_is_as_long_as_the_context_where_there_is_room(
    generator: ChainGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "EXPECTED", 4)
    loop = started(generator, LIMITS._replace(kv_tokens=60))
    answer = loop.submit(open_ended("a" * 10))
    await answer.text()
    assert answer.generated == 50
    loop.stop()


async def test_an_answer_whose_length_was_asked_for_is_not_cut_by_others(
    generator: ChainGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "EXPECTED", 4)
    loop = started(generator, LIMITS._replace(kv_tokens=60))
    other, answer = loop.submit(open_ended("a")), loop.submit(asked("b", 30))
    assert await answer.text() == alone(asked("b", 30))
    await other.text()
    loop.stop()


async def test_a_cancelled_request_does_not_hold_up_those_behind_it(generator: ChainGenerator) -> None:
    loop = started(generator, LIMITS._replace(kv_tokens=100))
    generator.holds = 5
    first = loop.submit(asked("a", 60))
    await held(generator)
    large, small = loop.submit(asked("b", 90)), loop.submit(asked("c", 30))
    large.cancel()
    generator.open.set()
    await small.text()
    await first.text()
    assert any(len(slots) == 2 for kind, slots, _ in generator.calls if kind == "decode")
    loop.stop()


async def test_an_answers_first_word_is_joined_to_its_prompt(generator: ChainGenerator) -> None:
    works, words = tiny.WORDS.index("works"), Detokenizer(tiny.wordpiece(), range(5))
    loop = GenerationLoop(generator, words, eos=[], vocabulary=generating.VOCABULARY, limits=LIMITS)
    loop.start()
    how = Sampling(temperature=0, logit_bias={works: 100})
    assert await loop.submit(Request(prompt=[works], max_tokens=2, sampling=how)).text() == " works works"
    loop.stop()


async def test_what_the_budget_can_never_hold_is_refused(generator: ChainGenerator) -> None:
    loop = started(generator, LIMITS._replace(kv_tokens=50))
    with pytest.raises(InputError, match="50"):
        loop.submit(asked("x" * 40, 11))
    loop.stop()


async def test_a_generator_that_fails_on_a_prompt_fails_that_request_only(loop: GenerationLoop) -> None:
    good, bad = loop.submit(asked("a", 30)), loop.submit(asked("b!"))
    with pytest.raises(RuntimeError, match="the generator broke"):
        await bad.text()
    assert await good.text() == alone(asked("a", 30))


async def test_a_generator_that_fails_on_a_token_fails_that_request_only(
    generator: ChainGenerator, loop: GenerationLoop
) -> None:
    generator.holds = 5
    good = loop.submit(asked("a", 60))
    await held(generator)
    bad = loop.submit(asked("b", 9, logit_bias={generating.BREAKS: 100}))
    generator.open.set()
    with pytest.raises(RuntimeError, match="the generator broke"):
        await bad.text()
    assert await loop.submit(asked("c")).text() == alone(asked("c"))
    assert await good.text() == alone(asked("a", 60))


class HalfBroken(ChainGenerator):
    """Breaks after it has fed the first of two slots."""

    def decode(self, slots: list[int], ids: list[int]) -> FloatArray:  # type: ignore[override]
        logits = super().decode(slots[:1], ids[:1])
        if len(slots) > 1:
            raise RuntimeError("half of it is done")
        return logits


async def test_a_slot_that_a_failed_call_has_changed_is_not_fed_again() -> None:
    generator = HalfBroken()
    generator.open.clear()
    loop = started(generator)
    one, other = loop.submit(asked("a", 30)), loop.submit(asked("b", 30))
    generator.open.set()
    with pytest.raises(RuntimeError, match="half of it is done"):
        await one.text()
    assert await other.text() == alone(asked("b", 30))
    loop.stop()


class Numberless(ChainGenerator):
    def decode(self, slots: list[int], ids: list[int]) -> FloatArray:  # type: ignore[override]
        return super().decode(slots, ids) * float("nan")


@pytest.mark.parametrize("temperature", [0, 1])
async def test_outputs_that_are_no_numbers_fail_the_request(temperature: float) -> None:
    loop = started(Numberless())
    with pytest.raises(ArithmeticError, match="not numbers"):
        await loop.submit(asked("a", temperature=temperature)).text()
    loop.stop()


class Sticky(ChainGenerator):
    def release(self, slot: int) -> None:
        raise OSError(f"slot {slot} is stuck")


async def test_a_slot_that_cannot_be_emptied_is_not_used_again() -> None:
    loop = started(Sticky(slots=1))
    await loop.submit(asked("a")).text()
    with pytest.raises(RuntimeError, match="none of its slots"):
        await loop.submit(asked("b")).text()
    loop.stop()


async def test_stopping_ends_open_answers(generator: ChainGenerator, loop: GenerationLoop) -> None:
    generator.holds = 5
    answers = [loop.submit(asked("a", 250)) for _ in range(6)]
    await held(generator)
    generator.open.set()
    loop.stop()
    assert {answer.finish for answer in answers} == {Finish.CANCELLED}


async def test_draining_waits_for_all_answers(loop: GenerationLoop) -> None:
    answers = [loop.submit(asked("a", 20)) for _ in range(6)]
    await loop.drain()
    assert {answer.finish for answer in answers} == {Finish.LENGTH}


async def test_steps_are_counted(generator: ChainGenerator) -> None:
    steps: list[Step] = []
    loop = started(generator, observe=steps.append)
    await asyncio.gather(*(loop.submit(asked("x" * 20, 10)).text() for _ in range(2)))
    assert sum(step.tokens_in for step in steps) == 40
    assert sum(step.tokens_out for step in steps) == 20
    assert sum(len(step.first_seconds) for step in steps) == 2
    assert sum(len(step.token_seconds) for step in steps) == 18
    assert (loop.queued, loop.load) == (0, NOTHING)
    loop.stop()


async def test_those_without_a_slot_are_queued_from_the_first_step_on(
    generator: ChainGenerator, loop: GenerationLoop
) -> None:
    generator.holds = 1
    answers = [loop.submit(asked("a")) for _ in range(6)]
    await held(generator)
    assert (loop.queued, loop.load.running) == (2, 4)
    answers[5].cancel()
    generator.open.set()
    await answers[4].text()
    assert loop.queued == 0


async def test_pieces_come_one_by_one(loop: GenerationLoop) -> None:
    pieces: list[Piece] = [piece async for piece in loop.submit(asked("a", 20))]
    assert [piece.generated for piece in pieces] == sorted({piece.generated for piece in pieces})
    assert len(pieces) > 10
    assert [piece.finish for piece in pieces] == [None] * (len(pieces) - 1) + [Finish.LENGTH]
