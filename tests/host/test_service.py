"""One service, decided: which images are refused, and which wishes."""

from typing import Any

import pytest

from images.errors import GateError, UsageError
from tests.host.services import LABELS, MOUNTED, service


def refused(kind: type[Exception], **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        service(**changes)
    return str(caught.value)


# The very image


@pytest.mark.parametrize("image", ["registry.example/team/minilm:latest", "minilm", "minilm@sha256:abc"])
def test_a_tag_is_refused(image: str) -> None:
    assert "is not named by digest" in refused(UsageError, image=image)


def test_an_image_of_others_is_refused() -> None:
    assert "was not built by `invoke build`" in refused(UsageError, labels={"maintainer": "somebody"})


def test_an_image_without_a_verdict_is_refused() -> None:
    labels = {key: value for key, value in LABELS.items() if not key.endswith("gate")}
    assert "carries no passed verdict: it was never verified" in refused(GateError, labels=labels)


def test_an_image_whose_failed_gate_was_accepted_is_refused_with_the_reason() -> None:
    labels = {**LABELS, "dev.modelyard.gate": "overridden", "dev.modelyard.gate.override": "ticket 7"}
    assert "its outputs differ, and were accepted: ticket 7" in refused(GateError, labels=labels)


# Names and wishes


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("acme/Mini_LM", "mini-lm-onnx-cpu"),
        ("7B-chat", "m-7b-chat-onnx-cpu"),
        ("x" * 80, "x" * 52),
        ("org/日本", "onnx-cpu"),
    ],
)
def test_the_name_is_a_dns_label(model: str, name: str) -> None:
    assert service({**LABELS, "dev.modelyard.model.id": model}).name == name


def test_a_version_is_a_labels_value() -> None:
    odd = {**LABELS, "org.opencontainers.image.version": f"sha256:{'0' * 64}"}
    assert service(odd).version == f"sha256-{'0' * 56}"


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"name": "No_Name"}, "--name 'No_Name' is no name of a Service"),
        ({"cpu": "two"}, "--cpu 'two' is no amount"),
        ({"cpu": "0"}, "--cpu '0' is no amount"),
        ({"memory": "2"}, "--memory '2' is no amount"),
        ({"pull_secret": "A B"}, "--pull-secret 'A B' is no name"),
        ({"allow_namespaces": "web,B"}, "--allow-namespaces 'B' is no name"),
        ({"weights": "claim"}, "the image carries its weights"),
        ({"labels": MOUNTED}, "the image does not carry its weights"),
        ({"labels": MOUNTED, "weights": "team/weights:1"}, "neither a claim's name nor an image by digest"),
        ({"replicas": 0}, "leave no number of pods"),
        ({"replicas": 5, "max_replicas": 4}, "leave no number of pods"),
        ({"without": "hpa"}, "--without hpa: no such part"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(wishes: dict[str, Any], said: str) -> None:
    assert said in refused(UsageError, **wishes)


def test_memory_that_nobody_measured_is_to_be_named() -> None:
    labels = {key: value for key, value in LABELS.items() if "memory" not in key}
    assert "does not say how much memory it takes" in refused(UsageError, labels=labels)
    assert service(labels, memory="1Gi").memory_limit == "1Gi"
