from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient, constants

from tests.inside.serving import TableRunner, served

RUNNER = TableRunner()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(RUNNER, max_inputs=4) as address:
        yield f"{address}/predict"


def test_the_hubs_own_client_gets_vectors(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise it asks the hub which agent it might be run by.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)

    vectors = InferenceClient(url).feature_extraction("one two")

    assert vectors.tolist() == [pytest.approx(RUNNER.vector("one two"), abs=1e-6)]


def test_texts_are_answered_in_their_order(url: str) -> None:
    texts = ["one two three", "four"]

    answer = httpx.post(url, json={"inputs": texts}).json()

    assert answer == [pytest.approx(RUNNER.vector(text), abs=1e-6) for text in texts]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"inputs": 3}, 422),
        ({"inputs": []}, 422),
        ({"inputs": ["one", 2]}, 422),
        ({"inputs": "one", "paramters": {}}, 422),
        ([1], 422),
        ("one", 422),
        ({"inputs": "one " * 15}, 413),
        ({"inputs": ["one"] * 5}, 413),
        ({"inputs": "eight"}, 500),
    ],
)
def test_a_bad_request_has_its_status_and_one_message(url: str, body: Any, status: int) -> None:
    answer = httpx.post(url, json=body)

    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_a_large_body_is_answered_like_a_small_one(url: str) -> None:
    texts = [f"{'one ' * 2000}", "two"]

    answer = httpx.post(url, json={"inputs": texts, "truncate": True}).json()

    assert answer[1] == pytest.approx(RUNNER.vector("two"), abs=1e-6)
