"""A model for pictures over real HTTP."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient, constants

from tests.inside import seeing
from tests.inside.test_vision_decoding import bomb

RED = seeing.text()
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with seeing.served(max_images=4) as url, httpx.Client(base_url=url) as made:
        yield made


def best(answer: httpx.Response) -> str:
    return str(answer.raise_for_status().json()[0]["label"])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("media", ["image/jpeg", "image/png", "application/octet-stream", ""])
def test_a_file_is_taken_as_it_is(client: httpx.Client, form: str, media: str) -> None:
    headers = {"content-type": media} if media else {}
    assert best(client.post("/predict", content=seeing.file("blue", form), headers=headers)) == "blue"


def test_a_file_in_json_is_the_same(client: httpx.Client) -> None:
    raw = client.post("/predict", content=seeing.file(), headers={"content-type": "image/png"})
    assert client.post("/predict", json={"inputs": RED}).json() == raw.json()
    assert client.post("/predict", json={"inputs": f"data:image/png;base64,{RED}"}).json() == raw.json()


@pytest.mark.parametrize("parameters", [{}, {"top_k": 2}])
def test_the_hubs_own_client_gets_labels(
    client: httpx.Client, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    answer: Any = InferenceClient(str(client.base_url.join("/predict"))).image_classification(
        seeing.file("green"), **parameters
    )
    assert answer[0].label == "green"
    assert len(answer) == parameters.get("top_k", 3)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"inputs": "http://example.org/cat.jpg"}, 422, "fetches nothing"),
        ({"inputs": "hello"}, 422, "base64"),
        ({"inputs": base64.b64encode(b"hello").decode()}, 422, "none of JPEG"),
        ({"inputs": seeing.text(seeing.file()[:45])}, 422, "damaged"),
        ({"inputs": seeing.text(bomb(10_000, 10_000))}, 413, "pixels"),
        ({"inputs": [RED] * 5}, 413, "4"),
        ({"inputs": RED, "parameters": {"top_k": -1}}, 422, "top_k"),
    ],
)
def test_a_bad_request_has_its_status_and_one_message(client: httpx.Client, body: Any, status: int, words: str) -> None:
    answer = client.post("/predict", json=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [(b"", "image/png", 422), (b"{}", "image/png", 422), (b"<html>", "application/json", 400), (b"{", "", 400)],
)
def test_a_bad_body_has_its_status(client: httpx.Client, content: bytes, media: str, status: int) -> None:
    headers = {"content-type": media} if media else {}
    assert client.post("/predict", content=content, headers=headers).status_code == status


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", "data": [RED], **changes}


def pixels(**changes: Any) -> dict[str, Any]:
    return {"name": "pixel_values", "shape": [1, 3, 8, 6], "datatype": "FP32", "data": [0.5] * 144, **changes}


def infer(client: httpx.Client, *inputs: dict[str, Any]) -> httpx.Response:
    return client.post(INFER, json={"inputs": inputs})


def test_the_model_describes_its_tensors(client: httpx.Client) -> None:
    facts = client.get("/v2/models/tiny").json()
    assert facts["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixel_values", "datatype": "FP32", "shape": [-1, 3, 8, 6]},
    ]
    assert facts["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]


def test_images_become_logits(client: httpx.Client) -> None:
    (output,) = infer(client, tensor()).raise_for_status().json()["outputs"]
    assert (output["shape"], output["data"]) == ([1, 3], pytest.approx([4, 0, 0]))


@pytest.mark.parametrize("data", [[0.5] * 144, [[[[0.5] * 6] * 8] * 3], [1] * 144], ids=["flat", "nested", "whole"])
def test_pixels_become_logits(client: httpx.Client, data: list[Any]) -> None:
    (output,) = infer(client, pixels(data=data)).raise_for_status().json()["outputs"]
    assert output["data"] == pytest.approx([4 if data[0] == 1 else 2] * 3)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [tensor(), pixels()],
        [tensor(name="text")],
        [tensor(datatype="FP32")],
        [tensor(data=["http://example.org/cat.jpg"])],
        [tensor(data=[1])],
        [pixels(shape=[1, 3, 6, 8])],
        [pixels(shape=[1, 144])],
        [pixels(data=[0.5] * 143)],
        [pixels(data=[True] * 144)],
        [pixels(data=["0.5"] * 144)],
        [pixels(data=[1e39] * 144)],
        [pixels(data=[[[[[0.5]] * 6] * 8] * 3])],
    ],
)
def test_bad_tensors_are_told_why_in_the_protocols_shape(client: httpx.Client, inputs: list[Any]) -> None:
    answer = infer(client, *inputs)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_there_is_no_route_for_embeddings(client: httpx.Client) -> None:
    assert client.post("/v1/embeddings", json={"model": "tiny", "input": "a"}).status_code == 404


def test_metrics_count_patches_and_no_tokens(client: httpx.Client) -> None:
    client.post("/predict", json={"inputs": RED}).raise_for_status()
    names = {line.split("{")[0].split(" ")[0] for line in client.get("/metrics").text.splitlines()}
    assert {"modelyard_patches_total", "modelyard_queue_patches"} <= names
    assert not [name for name in names if "token" in name]


def test_the_documentation_says_how_a_file_is_sent(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "image/*"}
    page = client.get("/docs").text
    assert "--data-binary @picture.jpg" in page
    assert "images of 6 x 8 pixels" in page
