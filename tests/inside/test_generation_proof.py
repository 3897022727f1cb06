"""The proof by a small real generator: sound, and with each of the faults that it is there to find."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from images.inside import compare, gate, server, smoke
from images.inside.compare import Figures, Reference
from images.inside.contract import FloatArray
from images.inside.errors import InputError, OutputsDifferError
from images.inside.generation import fidelity, inputs, proof
from images.inside.generation.contract import Generator
from images.inside.loaded import LoadedGenerator
from images.inside.prompts import Prompts
from images.inside.records import Bounds, Case, GenerationFacts
from images.inside.served import check_answers
from tests.inside import texting, tiny
from tests.inside.generating import ChainGenerator

EXACT = Bounds(max_abs_diff=1e-4, agreement=1.0, kl=1e-6, perplexity=1.0001, greedy=1.0)
TOKENS = 6
CONTEXT = 4096
FACTS = msgspec.structs.replace(texting.FACTS, context=CONTEXT)


class Chain(ChainGenerator):
    """A chain that no token breaks: the suite has all of them."""

    def _begin(self, kind: str, slots: Sequence[int], ids: Sequence[int]) -> None:
        self.calls.append((kind, list(slots), list(ids)))


def model(runner: Generator | None = None, facts: GenerationFacts = FACTS) -> LoadedGenerator:
    prompts = Prompts(tiny.bytelevel(), facts)
    manifest = msgspec.structs.replace(texting.manifest(facts), max_length=CONTEXT, bounds=EXACT)
    return LoadedGenerator(artifact=Path(), manifest=manifest, prompts=prompts, runner=runner or Chain(context=CONTEXT))


def recorded(prompt: Sequence[int]) -> fidelity.Record:
    """The chain's own answer, alone."""
    generator, tokens, rows = Chain(1, CONTEXT), list[int](), list[FloatArray]()
    rows.append(generator.prefill(0, prompt))
    while True:
        tokens.append(int(rows[-1].argmax()))
        if len(tokens) == TOKENS:
            return fidelity.record(np.stack(rows), tokens)
        rows.append(generator.decode([0], tokens[-1:])[0])


@pytest.fixture(scope="module")
def reference() -> Reference:
    prompts = Prompts(tiny.bytelevel(), FACTS)
    taken = inputs.suite(chat=True)
    found = {entry.name: list(inputs.prompt(entry.payload, prompts)) for entry in taken}
    outputs = {name: [{proof.PROMPT: np.array(ids, np.int32), **recorded(ids).arrays()}] for name, ids in found.items()}
    return Reference(
        cases=tuple(Case(name=one.name, payload=one.payload, answer={"finish_reason": "length"}) for one in taken),
        outputs=outputs,
    )


def missed(figures: Sequence[Figures]) -> set[str]:
    return {miss.figure for miss in compare.misses(figures, EXACT)}


def test_a_sound_generator_keeps_exact_bounds(reference: Reference) -> None:
    assert not missed(gate.measure(model(), reference))


def test_every_input_has_figures_and_all_together_have_shares(reference: Reference) -> None:
    *cases, whole = gate.measure(model(), reference)
    assert [case.case for case in cases] == [case.name for case in reference.cases]
    assert (whole.case, whole.agreement, whole.greedy) == (proof.SUITE, 1.0, None)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_sequences_are_led_in_as_many_slots_as_there_are(slots: int, reference: Reference) -> None:
    assert not missed(gate.measure(model(Chain(slots, CONTEXT)), reference))


def test_slots_decode_together_and_are_used_again(reference: Reference) -> None:
    generator = Chain(4, CONTEXT)
    gate.measure(model(generator), reference)
    decoded = [slots for kind, slots, _ in generator.calls if kind == "decode"]
    begun = [slots[0] for kind, slots, _ in generator.calls if kind == "prefill"]
    assert max(map(len, decoded)) == proof.TOGETHER
    assert len(begun) > len(set(begun)) == proof.TOGETHER


def test_every_slot_is_empty_afterwards(reference: Reference) -> None:
    generator = Chain(4, CONTEXT)
    gate.measure(model(generator), reference)
    assert [generator.length(slot) for slot in range(4)] == [0] * 4


class Stale(Chain):
    """Keeps what a slot held."""

    def release(self, slot: int) -> None:
        """Nothing."""


class Mixed(Chain):
    """Gives sequences that decode together each other's logits."""

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        """The rows, turned by one."""
        return np.roll(super().decode(slots, ids), 1, axis=0)


class Forgetting(Chain):
    """Takes a prompt's every part for its first."""

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        """The logits behind this part alone."""
        self.release(slot)
        return super().prefill(slot, ids)


@pytest.mark.parametrize("fault", [Stale, Mixed, Forgetting])
def test_a_fault_of_the_cache_is_found(fault: Callable[..., Chain], reference: Reference) -> None:
    assert missed(gate.measure(model(fault(4, CONTEXT)), reference)) >= {"agreement", "kl", "greedy", "max_abs_diff"}


def test_a_template_of_another_model_is_found(reference: Reference) -> None:
    other = msgspec.structs.replace(FACTS, chat_template=texting.TEMPLATE.replace("a:", "b:"))
    with pytest.raises(OutputsDifferError, match=r"^input 'short': its \d+ tokens are not the original's"):
        gate.measure(model(facts=other), reference)


def test_a_token_put_before_texts_is_found(reference: Reference) -> None:
    with pytest.raises(OutputsDifferError, match=r"^input 'text'"):
        gate.measure(model(facts=msgspec.structs.replace(FACTS, bos=0)), reference)


def test_end_tokens_of_another_model_are_found(reference: Reference) -> None:
    said = reference.outputs["short"][0]["tokens"]
    with pytest.raises(OutputsDifferError, match=r"^input 'short': the original's answer \[.*\] does not end at"):
        gate.measure(model(facts=msgspec.structs.replace(FACTS, eos=[int(said[1])])), reference)


def test_an_end_that_is_not_known_is_found(reference: Reference) -> None:
    cases = tuple(msgspec.structs.replace(case, answer={"finish_reason": "stop"}) for case in reference.cases)
    with pytest.raises(OutputsDifferError, match="does not end at"):
        gate.measure(model(), msgspec.structs.replace(reference, cases=cases))


def test_a_served_generator_answers_as_in_process(reference: Reference) -> None:
    tested, served = model(), model()
    with server.running(served.manifest, smoke.SETTINGS, lambda: served) as url:
        latency, said = check_answers(tested, reference, nullcontext(url))
    assert said.startswith("8 answers are those in process; first token p50 ")
    assert 0 < latency.first_p50_ms <= latency.first_p95_ms
    assert 0 < latency.next_p50_ms <= latency.next_p95_ms


def test_a_server_that_ends_answers_elsewhere_is_found(reference: Reference) -> None:
    sound = model()
    answers = proof.answers(sound, reference)
    with pytest.raises(OutputsDifferError, match=r"^input 'short': the served API answers"):
        proof.check_http(sound, reference, answers, _cut)


def _cut(path: str, _: Any) -> Any:
    choice = {"message": {"content": ""}, "text": "", "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "path": path}}


def test_templates_are_told_a_fixed_date() -> None:
    dated = msgspec.structs.replace(FACTS, chat_template="{{ strftime_now('%Y') }}")
    prompts = Prompts(tiny.bytelevel(), dated)
    ids = inputs.prompt({"messages": texting.HELLO}, prompts)
    assert prompts.detokenizer.decode(ids) == inputs.TODAY


@pytest.mark.parametrize("chat", [True, False])
def test_the_suite_has_eight_inputs_of_different_names(*, chat: bool) -> None:
    assert len({entry.name for entry in inputs.suite(chat=chat)}) == 8


@pytest.mark.parametrize("chat", [True, False])
def test_the_suites_inputs_are_what_a_users_may_be(*, chat: bool) -> None:
    for entry in inputs.suite(chat=chat):
        msgspec.convert(entry.payload, inputs.GenerationPayload)


def test_a_conversation_without_a_template_is_refused() -> None:
    bare = Prompts(tiny.bytelevel(), msgspec.structs.replace(FACTS, chat_template=""))
    with pytest.raises(InputError, match="no chat template"):
        inputs.prompt({"messages": texting.HELLO}, bare)
