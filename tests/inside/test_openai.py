import base64
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from images.inside.settings import Settings
from tests.inside.serving import MODEL, WORDS, TableRunner, manifest, served

# The client asks `uname` what machine it runs on.
pytestmark = pytest.mark.starts_programs
RUNNER = TableRunner()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(RUNNER, max_inputs=4) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with connected(url) as made:
        yield made


def connected(url: str, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def vectors(answer: openai.types.CreateEmbeddingResponse) -> list[list[float]]:
    return [entry.embedding for entry in answer.data]


def test_a_text_becomes_its_vector(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input="one two")

    assert vectors(answer) == [pytest.approx(RUNNER.vector("one two"), abs=1e-6)]


def test_texts_become_vectors_in_their_order(client: openai.OpenAI) -> None:
    texts = ["one two three", "four", "five six"]

    answer = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")

    assert vectors(answer) == [pytest.approx(RUNNER.vector(text), abs=1e-6) for text in texts]


def test_floats_and_base64_are_the_same_numbers(url: str) -> None:
    body = {"model": MODEL, "input": "one two"}
    floats, coded = [
        httpx.post(f"{url}/v1/embeddings", json=body | {"encoding_format": form}).json()["data"][0]["embedding"]
        for form in ("float", "base64")
    ]

    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == floats


def test_token_ids_are_taken_as_they_are(client: openai.OpenAI) -> None:
    ids = [WORDS.index(word) for word in ["[CLS]", "one", "two", "[SEP]"]]

    answer = client.embeddings.create(model=MODEL, input=ids)

    assert vectors(answer) == [pytest.approx(RUNNER.vector("one two"), abs=1e-6)]


def test_lists_of_token_ids_are_inputs_of_their_own(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=[[2, 4, 3], [2, 5, 3]])

    assert vectors(answer) == [pytest.approx(RUNNER.vector(word), abs=1e-6) for word in ("one", "two")]


def test_usage_counts_special_tokens_too(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model=MODEL, input=["one two", "three"]).usage.total_tokens == 7


def test_the_model_may_be_named_without_its_owner(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model="tiny", input="one").model == MODEL


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.embeddings.create(model="other", input="one")

    assert error.value.code == "model_not_found"


def test_the_models_own_dimensions_may_be_asked_for(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=MODEL, input="one", dimensions=4).data[0].embedding) == 4


def test_other_dimensions_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model=MODEL, input="one", dimensions=2)

    assert error.value.param == "dimensions"


@pytest.mark.parametrize(
    "wrong", [[], [[]], ["one", 2], [["one"]], [1.5], [-1], [len(WORDS)], [2**70], 3, None, [True]], ids=repr
)
def test_input_of_a_wrong_form_is_unprocessable(client: openai.OpenAI, wrong: object) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.post("/embeddings", body={"model": MODEL, "input": wrong}, cast_to=object)

    assert str(error.value.param).startswith("input")


def test_an_unknown_field_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="inputt") as error:
        client.embeddings.create(model=MODEL, input="one", extra_body={"inputt": 1})

    assert error.value.param == "inputt"


def test_a_missing_field_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.post("/embeddings", body={"model": MODEL}, cast_to=object)

    assert error.value.param == "input"


def test_null_asks_for_the_default(client: openai.OpenAI) -> None:
    fields = dict.fromkeys(("encoding_format", "dimensions", "user", "truncate"))

    assert client.post("/embeddings", body={"model": MODEL, "input": "one", **fields}, cast_to=object)


@pytest.mark.parametrize("long", ["one " * 15, [4] * 17], ids=["text", "tokens"])
def test_an_input_that_is_too_long_is_too_large(client: openai.OpenAI, long: str | list[int]) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        client.embeddings.create(model=MODEL, input=long)

    assert (error.value.status_code, error.value.code) == (413, "input_too_long")


@pytest.mark.parametrize(
    ("given", "param"),
    [("one " * 15, "input"), (["one", "one " * 15], "input[1]"), ([4] * 17, "input"), ([[4], [4] * 17], "input[1]")],
    ids=["text", "texts", "tokens", "many tokens"],
)
def test_of_many_inputs_the_one_that_is_too_long_is_named(client: openai.OpenAI, given: Any, param: str) -> None:
    with pytest.raises(openai.APIStatusError, match=re.escape(f"{param}: the input has 17 tokens")) as error:
        client.embeddings.create(model=MODEL, input=given)

    assert error.value.param == param


@pytest.mark.parametrize("long", ["one " * 15, [4] * 17], ids=["text", "tokens"])
def test_an_input_that_is_too_long_can_be_cut(client: openai.OpenAI, long: str | list[int]) -> None:
    answer = client.embeddings.create(model=MODEL, input=long, extra_body={"truncate": True})

    assert answer.usage.total_tokens == 16


def test_too_many_inputs_are_too_large(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        client.embeddings.create(model=MODEL, input=["one"] * 5)

    assert (error.value.status_code, error.value.code) == (413, "too_many_inputs")


def test_the_token_ids_of_one_text_are_one_input(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=MODEL, input=[4] * 5).data) == 1


def test_a_broken_model_is_a_server_error_with_the_request_id(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="request id mine"):
        client.embeddings.create(model=MODEL, input="eight", extra_headers={"x-request-id": "mine"})


def test_the_served_model_is_listed(client: openai.OpenAI) -> None:
    assert [card.id for card in client.models.list()] == [MODEL]


@pytest.mark.parametrize("name", [MODEL, "tiny"])
def test_the_served_model_is_described(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).owned_by == "acme"


def test_another_model_is_not_described(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_a_model_without_pooling_says_how_to_get_embeddings() -> None:
    token_vectors = served(TableRunner(per_token=True), manifest(embedding=None))
    refused = pytest.raises(openai.BadRequestError, match="--pooling")
    with token_vectors as url, connected(url) as client, refused:
        client.embeddings.create(model=MODEL, input="one")


def test_a_wrong_key_is_an_authentication_error() -> None:
    refused = pytest.raises(openai.AuthenticationError)
    with served(api_key="right") as url, connected(url, "wrong") as client, refused:
        client.embeddings.create(model=MODEL, input="one")


def test_the_right_key_is_let_in() -> None:
    with served(api_key="right") as url, connected(url, "right") as client:
        assert client.models.list().data


def test_a_prompt_is_put_before_every_text() -> None:
    facts = manifest()
    assert facts.embedding
    prompted = manifest(embedding=type(facts.embedding)(dimension=4, pooling="mean", normalized=False, prompt="seven "))
    runner = TableRunner()
    with served(runner, prompted) as url, connected(url) as client:
        answer = client.embeddings.create(model=MODEL, input="one")

    assert vectors(answer) == [pytest.approx(runner.vector("seven one"), abs=1e-6)]


def test_the_default_limit_takes_as_many_inputs_as_the_api_allows() -> None:
    assert Settings().max_inputs == 2048
