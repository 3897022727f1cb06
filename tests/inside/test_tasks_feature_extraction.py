import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside import tasks
from images.inside.errors import InputError, TooLongError
from images.inside.records import Embedding
from images.inside.text import Tokenizer
from tests.inside import tiny

TASK = tasks.load("feature-extraction")
VECTOR = {"sentence_embedding": np.array([3, 4], np.float32)}
SENTENCES = tiny.manifest(embedding=Embedding(dimension=2, pooling="mean", normalized=False, prompt="anna: "))
TOKENS = tiny.manifest()


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.wordpiece(), tiny.manifest(max_length=6))


def test_a_lone_text_is_answered_by_a_list_with_one_vector(tokenizer: Tokenizer) -> None:
    prepared = TASK.prepare({"inputs": "a"}, tokenizer, SENTENCES)
    assert TASK.answer(prepared, [VECTOR], SENTENCES) == [[3, 4]]


def test_texts_are_answered_by_a_vector_each(tokenizer: Tokenizer) -> None:
    prepared = TASK.prepare({"inputs": ["a", "b"]}, tokenizer, SENTENCES)
    assert TASK.answer(prepared, [VECTOR, VECTOR], SENTENCES) == [[3, 4], [3, 4]]


def test_a_model_without_pooling_gives_a_vector_a_token(tokenizer: Tokenizer) -> None:
    prepared = TASK.prepare({"inputs": ""}, tokenizer, TOKENS)
    assert TASK.answer(prepared, [{"last_hidden_state": np.eye(2, dtype=np.float32)}], TOKENS) == [[[1, 0], [0, 1]]]


def test_the_model_s_prompt_is_put_before_every_text(tokenizer: Tokenizer) -> None:
    items = TASK.prepare({"inputs": ["a", "b"]}, tokenizer, SENTENCES).items
    assert [tokenizer.tokens(item.ids)[1] for item in items] == ["anna", "anna"]


@pytest.mark.parametrize("payload", [{"truncate": True}, {"parameters": {"truncate": True}}])
def test_truncate_may_stand_beside_inputs_or_under_parameters(payload: dict[str, Any], tokenizer: Tokenizer) -> None:
    assert len(TASK.prepare({"inputs": "a b c d a", **payload}, tokenizer, TOKENS).items[0].ids) == 6


def test_a_text_that_is_too_long_is_refused_by_default(tokenizer: Tokenizer) -> None:
    with pytest.raises(TooLongError):
        TASK.prepare({"inputs": "a b c d a"}, tokenizer, TOKENS)


def test_vectors_are_normalized_on_request(tokenizer: Tokenizer) -> None:
    prepared = TASK.prepare({"inputs": "a", "normalize": True}, tokenizer, SENTENCES)
    assert TASK.answer(prepared, [VECTOR], SENTENCES)[0] == pytest.approx([0.6, 0.8])


def test_vectors_that_are_always_normalized_cannot_be_had_otherwise(tokenizer: Tokenizer) -> None:
    always = tiny.manifest(embedding=Embedding(dimension=2, pooling="cls", normalized=True))
    with pytest.raises(InputError, match=r"\$\.normalize"):
        TASK.prepare({"inputs": "a", "normalize": False}, tokenizer, always)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"inputs": "a", "prompt_name": "query"}, "unknown field `prompt_name`"),
        ({"inputs": "a", "parameters": {"pooling": "cls"}}, r"unknown field `pooling` - at `\$.parameters`"),
        ({"inputs": ["a", 1]}, r"Expected `str`, got `int` - at `\$.inputs\[1\]`"),
        ({"inputs": []}, r"length >= 1 - at `\$.inputs`"),
        ({}, "missing required field `inputs`"),
    ],
)
def test_what_is_wrong_in_a_payload_is_named(payload: dict[str, Any], message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=message):
        TASK.prepare(payload, tokenizer, TOKENS)


@pytest.mark.parametrize(
    ("inputs", "path"), [("a b c d a", "inputs"), (["a", "a b c d a"], "inputs[1]")], ids=["lone", "one of two"]
)
def test_a_text_that_is_refused_is_named_by_its_place(tokenizer: Tokenizer, inputs: object, path: str) -> None:
    with pytest.raises(TooLongError, match=rf" - at `\$\.{re.escape(path)}`"):
        TASK.prepare({"inputs": inputs}, tokenizer, TOKENS)
