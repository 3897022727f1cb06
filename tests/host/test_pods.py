"""Why a pod is not ready, and whether it helps to wait."""

from typing import Any

import pytest

from images import pods
from images.pods import Reason

PULL = {"reason": "ImagePullBackOff", "message": "no such digest"}
DAMAGED = {"exitCode": 3, "message": "a\nmodel.onnx"}
KILLED = {"exitCode": 137}
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "2 cpu"}


def reasons(**status: Any) -> list[Reason]:
    return list(pods.reasons({"metadata": {"name": "mini-1"}, "status": status}))


@pytest.mark.parametrize(
    ("container", "said", "hopeless"),
    [
        ({"state": {"waiting": PULL}}, "ImagePullBackOff: no such digest", True),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, "ContainerCreating", False),
        ({"lastState": {"terminated": DAMAGED}}, "ended with exit code 3 (artifact damaged): model.onnx", True),
        ({"lastState": {"terminated": KILLED}}, "ended with exit code 137 (killed: out of memory?)", False),
    ],
    ids=["pull", "creating", "damaged", "killed"],
)
def test_a_container_says_what_it_waits_for_or_died_of(container: dict[str, Any], said: str, hopeless: bool) -> None:
    assert reasons(containerStatuses=[container]) == [Reason(text=f"mini-1: {said}", hopeless=hopeless)]


def test_an_init_container_counts_too() -> None:
    assert reasons(initContainerStatuses=[{"state": {"waiting": PULL}}])[0].hopeless


def test_a_pod_without_a_node_says_why() -> None:
    assert reasons(conditions=[UNSCHEDULED]) == [Reason(text="mini-1: Unschedulable: 2 cpu")]


def test_a_healthy_pod_has_no_reasons() -> None:
    running: dict[str, Any] = {"state": {"running": {}}}
    assert reasons(containerStatuses=[running], conditions=[{"type": "Ready", "status": "True"}]) == []


def test_a_pod_that_is_ready_again_has_no_reasons() -> None:
    assert reasons(containerStatuses=[{"ready": True, "lastState": {"terminated": KILLED}}]) == []
