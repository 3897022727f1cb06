"""What is recorded of an original that generates. The network is the small chain; the tokenizer is a real one."""

import json
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import msgspec
import numpy as np
import pytest

from images.inside import compare, gate, original
from images.inside.compare import Reference
from images.inside.contract import FloatArray
from images.inside.generation import inputs, proof, recording
from images.inside.generation.recording import Recorder
from images.inside.loaded import LoadedGenerator
from images.inside.prompts import Prompts
from images.inside.records import Bounds, GenerationFacts
from images.inside.suite import Input
from tests.inside import texting, tiny
from tests.inside.generating import BACKEND, EOS, SPECIAL, VOCABULARY, ids
from tests.inside.test_generation_proof import Chain, model

CONTEXT = 4096
FACTS = msgspec.structs.replace(texting.FACTS, context=CONTEXT)


class Fast:
    """A tokenizer as transformers has it."""

    bos_token_id, eos_token_id, is_fast = 0, EOS, True
    all_special_ids = sorted(SPECIAL)
    special_tokens_map: Mapping[str, Any] = {"eos_token": "</s>", "additional_special_tokens": ["<mask>"]}
    added_tokens_decoder = {token: types.SimpleNamespace(special=True) for token in SPECIAL}

    def __init__(self, template: str = texting.TEMPLATE, first: Sequence[int] = ()) -> None:
        self.chat_template, self._first = template, list(first)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        return types.SimpleNamespace(input_ids=[*(self._first if add_special_tokens else []), *ids(text)])

    def get_chat_template(self) -> str:
        return self.chat_template

    def apply_chat_template(self, messages: Any, *, tokenize: bool, add_generation_prompt: bool, **more: Any) -> str:
        assert (tokenize, add_generation_prompt) == (False, True)

        def refuse(why: str) -> None:
            raise jinja2.TemplateError(why)

        template = jinja2.Environment(autoescape=False).from_string(self.chat_template)  # noqa: S701 - tokens, no page
        return template.render(messages=messages, raise_exception=refuse, **more)

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(BACKEND.decode(list(tokens), skip_special_tokens=skip_special_tokens))


class Chained(Recorder):
    """A recorder whose original is the chain."""

    def _step(self, ids: Sequence[int], past: Any) -> tuple[FloatArray, Any]:
        past = past or Chain(1, CONTEXT)
        return past.prefill(0, ids), past


def recorder(facts: GenerationFacts = FACTS, fast: Fast | None = None) -> Chained:
    return Chained(None, fast or Fast(facts.chat_template), facts, Prompts(tiny.bytelevel(), facts))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return recorder().record([])


def refused(made: Recorder, own: Sequence[Input], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    with pytest.raises(SystemExit):
        made.record(own)
    marker, _, told = capsys.readouterr().err.partition(" ")
    assert marker == original.ERROR
    found: dict[str, str] = json.loads(told)
    return found


def test_the_original_reproduces_what_was_recorded_of_it(reference: Reference) -> None:
    exact = Bounds(max_abs_diff=1e-5, agreement=1.0, greedy=1.0)
    assert not compare.misses(gate.measure(model(), reference), exact)


def test_every_input_of_the_suite_has_an_answer(reference: Reference) -> None:
    assert [case.name for case in reference.cases] == [entry.name for entry in inputs.suite(chat=True)]
    assert {case.answer["finish_reason"] for case in reference.cases} <= {proof.STOP, proof.LENGTH}


def test_an_answer_ends_at_the_most_tokens_or_at_the_models_end(reference: Reference) -> None:
    for case in reference.cases:
        tokens = reference.outputs[case.name][0]["tokens"].tolist()
        stopped = case.answer["finish_reason"] == proof.STOP
        assert stopped == (tokens[-1] == EOS)
        assert len(tokens) == recording.TOKENS or stopped
        assert case.answer["text"] == BACKEND.decode(tokens)


def test_an_answer_that_ends_is_not_led_past_its_end(reference: Reference) -> None:
    third = int(reference.outputs["short"][0]["tokens"][2])
    ended = recorder(msgspec.structs.replace(FACTS, eos=[third])).record([])
    tokens = ended.outputs["short"][0]["tokens"].tolist()
    assert (tokens.index(third), len(tokens)) == (2, 3)
    assert ended.cases[0].answer["finish_reason"] == proof.STOP


def test_a_model_without_a_template_is_asked_with_texts() -> None:
    found = recorder(msgspec.structs.replace(FACTS, chat_template="")).record([])
    assert len(found.cases) == 8
    assert all("prompt" in case.payload for case in found.cases)


def test_conversations_that_the_template_does_not_take_are_left_out() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + texting.TEMPLATE
    found = recorder(msgspec.structs.replace(FACTS, chat_template=strict)).record([])
    left = {entry.name for entry in inputs.suite(chat=True)} - {case.name for case in found.cases}
    assert left == {"system"}


def test_inputs_that_are_too_long_are_left_out() -> None:
    found = recorder(msgspec.structs.replace(FACTS, context=200)).record([])
    assert found.cases
    assert all(len(item[0][proof.PROMPT]) + recording.TOKENS <= 200 for item in found.outputs.values())


def test_a_context_without_room_for_any_input_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(recorder(msgspec.structs.replace(FACTS, context=30)), [], capsys)
    assert "no input of the suite fits into a context of 30 tokens" in told["what"]


def test_a_users_input_is_one_more(reference: Reference) -> None:
    found = recorder().record([Input("mine", {"prompt": "hello"})])
    assert [case.name for case in found.cases] == [*(case.name for case in reference.cases), "mine"]


def test_a_users_input_that_is_too_long_is_refused_with_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(recorder(), [Input("mine", {"prompt": "a" * CONTEXT})], capsys)
    assert "'mine' has 4096 tokens, and 24 are answered: the model's context is 4096" in told["what"]


def test_a_users_conversation_that_the_template_refuses_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    strict = msgspec.structs.replace(FACTS, chat_template="{{ raise_exception('never') }}")
    told = refused(recorder(strict), [Input("mine", {"messages": texting.HELLO})], capsys)
    assert "'mine' is refused by the model's chat template" in told["what"]


def test_a_tokenizer_that_the_image_reads_otherwise_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(recorder(fast=Fast(first=[0])), [], capsys)
    assert "has other tokens in the image than in the original" in told["what"]


# Facts


def network(**changes: Any) -> Any:
    """A network's configurations as transformers has them."""
    told = {"temperature": 0.6, "top_p": 0.9, "max_length": 20}
    generation = types.SimpleNamespace(eos_token_id=[7, 2], to_diff_dict=lambda: told)
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "num_hidden_layers": 3}
    head = types.SimpleNamespace(weight=np.zeros((VOCABULARY, 1)))
    config = types.SimpleNamespace(**{**sizes, **changes})
    config.get_text_config = lambda: config
    return types.SimpleNamespace(
        generation_config=generation,
        config=config,
        get_output_embeddings=lambda: head,
    )


def test_answers_end_at_every_end_token_of_model_and_tokenizer() -> None:
    assert recording.facts(network(), Fast(), 128).eos == [EOS, 7]


def test_the_models_own_sampling_is_kept_and_nothing_else_of_its_generation() -> None:
    assert recording.facts(network(), Fast(), 128).defaults == {"temperature": 0.6, "top_p": 0.9}


@pytest.mark.parametrize(("first", "bos"), [([0], 0), ([], None), ([4], None)])
def test_a_token_before_texts_is_stated_where_it_is_put(first: list[int], bos: int | None) -> None:
    assert recording.facts(network(), Fast(first=first), 128).bos == bos


@pytest.mark.parametrize(
    ("changes", "floats"),
    [({}, 2 * 3 * 2 * 16), ({"num_key_value_heads": None}, 2 * 3 * 4 * 16), ({"head_dim": 32}, 2 * 3 * 2 * 32)],
)
def test_what_a_token_takes_in_the_cache_is_stated(changes: dict[str, Any], floats: int) -> None:
    assert recording.facts(network(**changes), Fast(), 128).kv_bytes == floats * 4


def test_a_model_without_attention_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    made = network(model_type="mamba")
    del made.config.num_attention_heads
    with pytest.raises(SystemExit):
        recording.facts(made, Fast(), 128)
    assert "a model of type mamba has no attention" in capsys.readouterr().err


def test_templates_know_single_special_tokens_by_name() -> None:
    found = recording.facts(network(), Fast(), 128)
    assert (found.names, found.special) == ({"eos_token": "</s>"}, sorted(SPECIAL))
    assert (found.context, found.vocabulary) == (128, VOCABULARY)


def test_the_facts_are_enough_to_serve(reference: Reference) -> None:
    stated = recording.facts(network(), Fast(), CONTEXT)
    served = model(facts=msgspec.structs.replace(stated, eos=FACTS.eos))
    assert isinstance(served, LoadedGenerator)
    assert len(gate.measure(served, reference)) == len(reference.cases) + 1
