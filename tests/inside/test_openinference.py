from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.inside.serving import MODEL, WORDS, TableRunner, manifest, served

RUNNER = TableRunner()
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(RUNNER, max_inputs=4) as url, httpx.Client(base_url=url) as made:
        yield made


@pytest.fixture(scope="module")
def token_client() -> Iterator[httpx.Client]:
    facts = manifest(embedding=None)
    with served(TableRunner(per_token=True), facts) as url, httpx.Client(base_url=url) as made:
        yield made


def texts(*given: str, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [len(given)], "datatype": "BYTES", "data": list(given)} | changes


def ids(*rows: list[int], name: str = "input_ids", **changes: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(rows), len(rows[0])], "datatype": "INT64", "data": list(rows)} | changes


def infer(client: httpx.Client, *inputs: dict[str, Any], **fields: Any) -> httpx.Response:
    return client.post(INFER, json={"inputs": inputs, **fields})


def array(answer: httpx.Response) -> Any:
    (output,) = answer.json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/abc/ready", {"name": "tiny", "ready": True}),
        (f"/v2/models/{MODEL}/ready", {"name": "tiny", "ready": True}),
    ],
)
def test_probes_say_yes(client: httpx.Client, path: str, answer: dict[str, Any]) -> None:
    assert client.get(path).json() == answer


def test_the_server_describes_itself(client: httpx.Client) -> None:
    assert set(client.get("/v2").json()) == {"name", "version", "extensions"}


def test_the_model_describes_its_outputs(client: httpx.Client) -> None:
    outputs = client.get("/v2/models/tiny/versions/abc").json()["outputs"]

    assert outputs == [{"name": "sentence_embedding", "datatype": "FP32", "shape": [-1, 4]}]


def test_outputs_a_token_have_an_axis_of_any_length(token_client: httpx.Client) -> None:
    outputs = token_client.get("/v2/models/tiny").json()["outputs"]

    assert outputs == [{"name": "last_hidden_state", "datatype": "FP32", "shape": [-1, -1, 4]}]


@pytest.mark.parametrize("path", [INFER, f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/versions/abc/infer"])
def test_texts_become_a_tensor(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"inputs": [texts("one two", "three")]})

    assert array(answer) == pytest.approx(np.array([RUNNER.vector("one two"), RUNNER.vector("three")]), abs=1e-6)


def test_ids_with_a_mask_become_a_tensor(client: httpx.Client) -> None:
    answer = infer(client, ids([2, 4, 5, 3], [2, 6, 3, 0]), ids([1, 1, 1, 1], [1, 1, 1, 0], name="attention_mask"))

    assert array(answer) == pytest.approx(np.array([RUNNER.vector("one two"), RUNNER.vector("three")]), abs=1e-6)


def test_flat_data_is_the_same_as_nested(client: httpx.Client) -> None:
    flat, nested = infer(client, ids([2, 4, 3, 2], data=[2, 4, 3, 2])), infer(client, ids([2, 4, 3, 2]))

    assert flat.json() == nested.json()


def test_tokens_outputs_stand_where_their_tokens_stood(token_client: httpx.Client) -> None:
    answer = infer(token_client, ids([0, 2, 3], [2, 4, 3]), ids([0, 1, 1], [1, 1, 1], name="attention_mask"))
    table = TableRunner().table

    assert array(answer) == pytest.approx(np.array([[[0] * 4, table[2], table[3]], table[[2, 4, 3]]]))


def test_the_requests_id_is_sent_back(client: httpx.Client) -> None:
    assert infer(client, texts("one"), id="42").json()["id"] == "42"


def test_a_chosen_output_is_sent(client: httpx.Client) -> None:
    answer = infer(client, texts("one"), outputs=[{"name": "sentence_embedding"}])

    assert [output["name"] for output in answer.json()["outputs"]] == ["sentence_embedding"]


def test_truncation_is_a_parameter(client: httpx.Client) -> None:
    assert infer(client, texts("one " * 15), parameters={"truncate": True}).status_code == 200


BAD = {
    "no inputs": {"inputs": []},
    "unknown output": {"inputs": [texts("one")], "outputs": [{"name": "logits"}]},
    "unknown input": {"inputs": [texts("one", name="image")]},
    "unknown parameter": {"inputs": [texts("one")], "parameters": {"temperature": 1}},
    "unknown field": {"inputs": [texts("one")], "input": 1},
    "texts and ids": {"inputs": [texts("one"), ids([2, 3])]},
    "a tensor twice": {"inputs": [ids([2, 3]), ids([2, 3])]},
    "mask alone": {"inputs": [ids([1, 1], name="attention_mask")]},
    "wrong datatype": {"inputs": [texts("one", datatype="FP32")]},
    "wrong axes": {"inputs": [texts("one", shape=[1, 1])]},
    "shape and data differ": {"inputs": [texts("one", shape=[2])]},
    "empty": {"inputs": [texts()]},
    "huge shape": {"inputs": [ids([2], shape=[1, 2**62])]},
    "ragged rows": {"inputs": [ids([2, 3], data=[[2], [3, 4, 5]], shape=[2, 2])]},
    "numbers as texts": {"inputs": [texts("one", data=[1])]},
    "texts as numbers": {"inputs": [ids([2], data=["2"])]},
    "booleans as numbers": {"inputs": [ids([2], data=[True])]},
    "deeper nesting": {"inputs": [ids([2], data=[[[2]]])]},
    "unknown id": {"inputs": [ids([len(WORDS)])]},
    "overflowing id": {"inputs": [ids([2**70])]},
    "negative id": {"inputs": [ids([-1])]},
    "holes in the mask": {"inputs": [ids([2, 4, 3]), ids([1, 0, 1], name="attention_mask")]},
    "nothing in the mask": {"inputs": [ids([2, 3]), ids([0, 0], name="attention_mask")]},
    "mask of another shape": {"inputs": [ids([2, 3]), ids([1], name="attention_mask")]},
    "types beyond 1": {"inputs": [ids([2, 3]), ids([0, 2], name="token_type_ids")]},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_told_why_in_the_protocols_shape(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.post(INFER, json=body)

    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_binary_tensors_are_refused(client: httpx.Client) -> None:
    answer = client.post(INFER, content=b"{}\0", headers={"inference-header-content-length": "2"})

    assert (answer.status_code, "binary" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("given", [texts("one " * 15), ids([4] * 17), texts(*["one"] * 5)], ids=["text", "ids", "rows"])
def test_too_much_is_too_large(client: httpx.Client, given: dict[str, Any]) -> None:
    assert infer(client, given).status_code == 413


@pytest.mark.parametrize("path", ["/v2/models/other/infer", "/v2/models/tiny/versions/2/infer"])
def test_another_model_or_version_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"inputs": [texts("one")]})

    assert (answer.status_code, list(answer.json())) == (404, ["error"])
