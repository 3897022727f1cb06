"""The order of a deployment, and what becomes of one that fails; the cluster itself is a script that remembers."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from images import cluster, manifests
from images.cluster import Cluster
from images.errors import ClusterError, GateError, UsageError
from images.manifests import Wishes
from tests.host import samples
from tests.host.test_manifests import IMAGE, LABELS

pytestmark = pytest.mark.starts_programs
SERVICE = manifests.decide(IMAGE, LABELS, Wishes(name="mini"))
KUBECTL = """#!/usr/bin/env python3
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
line = " ".join(word for word in sys.argv[1:] if not word.startswith(("--context", "--namespace")))
with (folder / "asked").open("a") as file:
    print(line, file=file)
for start, (code, out) in json.loads((folder / "answers.json").read_text()).items():
    if line.startswith(start):
        print(out, file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""
REVISION = json.dumps({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "3"}}})
PASSED = msgspec.json.encode(samples.report()).decode()
FAILED = msgspec.json.encode(samples.failed(detail="cosine 0.5")).decode()
PULL = {"reason": "ImagePullBackOff", "message": "no such digest"}

Scripted = Callable[..., Cluster]


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    def make(**answers: tuple[int, str]) -> Cluster:
        usual = {"get deployment": (0, ""), "logs": (0, PASSED), "get pods": (0, '{"items": []}')}
        named = {name.replace("_", " "): answer for name, answer in answers.items()}
        (tmp_path / "answers.json").write_text(json.dumps({**usual, **named}))
        program = tmp_path / "kubectl"
        program.write_text(KUBECTL)
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        return Cluster(program=str(program), context="c", namespace="n")

    return make


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: [" ".join(line.split()[:2]) for line in (tmp_path / "asked").read_text().splitlines()]


def pod(**status: Any) -> tuple[int, str]:
    return 0, json.dumps({"items": [{"metadata": {"name": "mini-1"}, "status": status}]})


def fails(machine: Cluster, folder: Path, kind: type[Exception] = ClusterError) -> str:
    with pytest.raises(kind) as caught:
        cluster.deploy(machine, SERVICE, folder, lambda _: None)
    return str(caught.value)


# The order


def test_a_service_is_checked_applied_waited_for_and_proved(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    report = cluster.deploy(scripted(), SERVICE, tmp_path, lambda _: None)
    assert report.passed
    assert asked() == [
        "get deployment",
        "apply --server-side",
        "apply --server-side",
        "rollout status",
        *("delete job/mini-smoke-a1a1a1a1", "apply --server-side", "logs --follow"),
    ]


def test_manifests_that_the_cluster_refuses_change_nothing(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert "kubectl: forbidden" in fails(scripted(apply=(1, "forbidden")), tmp_path)
    assert asked() == ["get deployment", "apply --server-side"]


# What fails is taken back


def test_a_rollout_that_fails_goes_back_to_what_served_before(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    fails(scripted(get_deployment=(0, REVISION), rollout_status=(1, "timed out")), tmp_path)
    assert "rollout undo" in asked()


def test_a_first_rollout_that_fails_is_removed(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    fails(scripted(rollout_status=(1, "timed out")), tmp_path)
    assert asked()[-1] == "delete --ignore-not-found"


def test_answers_that_differ_are_taken_back_and_told_as_the_gate_tells_them(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert "cosine 0.5" in fails(scripted(get_deployment=(0, REVISION), logs=(0, FAILED)), tmp_path, GateError)
    assert "rollout undo" in asked()


def test_a_smoke_test_without_a_report_is_taken_back(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert "ended without a report" in fails(scripted(logs=(0, "Traceback")), tmp_path)
    assert asked()[-1] == "delete --ignore-not-found"


# Reasons


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"containerStatuses": [{"state": {"waiting": PULL}}]}, "mini-1: ImagePullBackOff: no such digest"),
        (
            {"containerStatuses": [{"state": {}, "lastState": {"terminated": {"exitCode": 3}}}]},
            "mini-1: ended with exit code 3 (artifact damaged)",
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "2 cpu"}
                ]
            },
            "mini-1: Unschedulable: 2 cpu",
        ),
    ],
    ids=["pull", "exit", "node"],
)
def test_the_pods_reasons_are_told(scripted: Scripted, tmp_path: Path, status: dict[str, Any], said: str) -> None:
    assert said in fails(scripted(rollout_status=(1, "timed out"), get_pods=pod(**status)), tmp_path)


def test_a_healthy_pod_has_no_reasons() -> None:
    running = {"containerStatuses": [{"state": {"running": {}}}], "conditions": [{"type": "Ready", "status": "True"}]}
    assert list(cluster.reasons({"metadata": {"name": "mini-1"}, "status": running})) == []


# Which cluster


def test_the_current_context_is_never_taken_by_itself(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(config_get=(0, "dev\nprod"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(
        UsageError, match=r"no context was named\n  -> add --context C; the kubeconfig's are: dev, prod"
    ):
        cluster.find("", "n")


def test_a_namespace_that_is_not_there_is_named(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(config_get=(0, "dev"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UsageError, match="dev has no namespace 'n'"):
        cluster.find("dev", "n")


def test_without_kubectl_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no kubectl on PATH"):
        cluster.find("dev", "n")
