"""A tiny decoder with a small context, a token before texts and no chat template: exact, proved, served, spoiled."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from images.build import Built
from images.inside import compare
from images.inside.errors import Exit
from images.inside.records import REFERENCE
from images.verify import ISOLATED
from tests import models
from tests.containers import faults
from tests.containers.yard import Yard, asking, extract

NAME = "tiny-stories"


@pytest.fixture(scope="module")
def stories(yard: Yard) -> Built:
    return yard.tiny(NAME, mode="none")


@pytest.fixture(scope="module")
def artifact(yard: Yard, stories: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(yard.engine, stories.record.reference, tmp_path_factory.mktemp(NAME))


@pytest.fixture(scope="module")
def client(yard: Yard, stories: Built) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the served image."""
    with asking(yard.engine, stories.record.reference) as made:
        yield made


def test_it_is_exact(stories: Built) -> None:
    assert (stories.record.verdict.mode, stories.record.verdict.passed) == ("none", True)
    assert stories.record.verdict.token_latency


def test_its_context_and_the_token_before_texts_are_known(stories: Built) -> None:
    facts = stories.record.info.manifest.generation
    assert facts
    assert (facts.context, facts.bos, facts.chat_template) == (models.CONTEXT, 0, "")


def test_a_text_goes_on_as_the_original_goes_on(client: openai.OpenAI, artifact: Path) -> None:
    case = next(case for case in compare.load(artifact / REFERENCE).cases if case.name == "text")
    answer = client.completions.create(model=NAME, prompt=case.payload["prompt"], temperature=0, max_tokens=24)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (case.answer["text"], "length")


def test_a_conversation_is_refused_with_the_route_to_take(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template: send plain text to /v1/completions"):
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "hello"}])


def test_more_than_its_context_is_refused_with_the_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"context is 64 tokens; 65 are asked for: 5 .* and 60 "):
        client.completions.create(model=NAME, prompt=[0, 9, 8, 7, 6], max_tokens=60)


def test_positions_off_by_one_behind_the_prompt_are_caught(
    yard: Yard, stories: Built, artifact: Path, tmp_path: Path
) -> None:
    spoiled = shutil.copytree(artifact, tmp_path / "artifact")
    faults.late_positions(spoiled)
    flags = (*ISOLATED, f"--volume={spoiled}:/artifact:ro")
    done = yard.engine.run(stories.record.reference, "smoke-test", flags=flags)
    assert done.returncode == Exit.DIFFERS, done.stdout
    assert "input 'all inputs': agreement" in done.stdout
