"""The order of a deployment, and what becomes of one that fails; the cluster itself is a script that remembers."""

import json
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from images import cluster
from images.cluster import Before, Cluster
from images.errors import ClusterError, GateError, UsageError
from images.service import Wishes, decide
from tests.host import samples
from tests.host.services import IMAGE, LABELS

pytestmark = pytest.mark.starts_programs
SERVICE = decide(IMAGE, LABELS, Wishes(name="mini"))
KUBECTL = """#!{python} -IS
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
line = " ".join(word for word in sys.argv[1:] if not word.startswith(("--context", "--namespace")))
with (folder / "asked").open("a") as file:
    print(line, file=file)
if "--filename=-" in line:
    (folder / "given").write_text(sys.stdin.read())
for start, (code, out) in json.loads((folder / "answers.json").read_text()).items():
    if line.startswith(start):
        print(out, file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""
REVISION = json.dumps({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "3"}}})
NOTE: dict[str, Any] = {"f:spec": {"f:revisionHistoryLimit": {}}}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "mini",
        "managedFields": [{"manager": "modelyard", "operation": "Apply", "fieldsV1": NOTE}],
    },
    "spec": {"replicas": 4, "revisionHistoryLimit": 5},
}
NOTHING = '{"items": []}'
ENDED = json.dumps({"status": {"conditions": [{"type": "Complete", "status": "True"}]}})
PASSED = msgspec.json.encode(samples.report()).decode()
FAILED = msgspec.json.encode(samples.failed(detail="cosine 0.5")).decode()
DEADLINE = (1, "exceeded its progress deadline")
LATE = (1, "error: timed out waiting for the condition")
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "2 cpu"}
PULL = {"reason": "ImagePullBackOff", "message": "no such digest"}

Scripted = Callable[..., Cluster]


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    def make(**answers: tuple[int, str]) -> Cluster:
        usual = {
            "get deployment mini": (0, ""),
            "get deployment,service,configmap": (0, NOTHING),
            "get -k": (0, NOTHING),
            "get job": (0, ENDED),
            "logs": (0, PASSED),
            "get pods": (0, NOTHING),
        }
        named = {name.replace("__", " -").replace("_", " "): answer for name, answer in answers.items()}
        (tmp_path / "answers.json").write_text(json.dumps({**usual, **named}))
        program = tmp_path / "kubectl"
        program.write_text(KUBECTL.replace("{python}", sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        return Cluster(program=str(program), context="c", namespace="n")

    return make


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: [" ".join(line.split()[:2]) for line in (tmp_path / "asked").read_text().splitlines()]


def pod(**status: Any) -> tuple[int, str]:
    spec = {"containers": [{"image": IMAGE}]}
    return 0, json.dumps({"items": [{"metadata": {"name": "mini-1"}, "spec": spec, "status": status}]})


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
        *("get deployment,service,configmap", "apply --server-side"),
        *("get deployment", "get -k", "get pods"),
        *("apply --server-side", "rollout status"),
        *("delete job/mini-smoke-a1a1a1a1", "apply --server-side", "get job", "logs job/mini-smoke-a1a1a1a1"),
    ]


def test_manifests_that_the_cluster_refuses_change_nothing(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert "kubectl: forbidden" in fails(scripted(apply=(1, "forbidden")), tmp_path)
    assert asked()[1:] == ["apply --server-side"]


def test_a_kind_that_an_old_cluster_lacks_is_named_with_the_flag_that_leaves_it_out(
    scripted: Scripted, tmp_path: Path
) -> None:
    lacking = 'no matches for kind "HorizontalPodAutoscaler" in version "autoscaling/v2"'
    said = fails(scripted(apply=(1, f"resource mapping not found: {lacking}\nensure CRDs are installed")), tmp_path)
    assert "does not know HorizontalPodAutoscaler of autoscaling/v2" in said
    assert said.endswith("add --without autoscaler")


# What fails is taken back


def test_a_rollout_that_fails_goes_back_to_what_served_before(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    fails(scripted(get_deployment_mini=(0, REVISION), rollout_status=DEADLINE), tmp_path)
    assert "rollout undo" in asked()


def test_every_object_is_applied_again_as_it_was_and_those_that_were_not_there_go(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    machine = scripted(get_deployment_mini=(0, REVISION))
    was = {**DEPLOYMENT, "metadata": {"name": "mini"}}
    fresh = {"kind": "Service", "metadata": {"name": "mini"}}
    before = Before(revision=3, objects={"Deployment/mini": was, "ConfigMap/mini": None}, pods=())
    (tmp_path / "answers.json").write_text(json.dumps({"get -k": (0, json.dumps({"items": [DEPLOYMENT, fresh]}))}))
    machine.undo(SERVICE, tmp_path, before, lambda _: None)
    assert json.loads((tmp_path / "given").read_text())["items"] == [was]
    assert (tmp_path / "asked").read_text().splitlines()[-2].endswith("--cascade=foreground Service/mini")
    assert "rollout undo" not in asked()


def test_what_was_there_is_what_was_applied_and_not_what_others_made_of_it(scripted: Scripted, tmp_path: Path) -> None:
    other = {"kind": "ConfigMap", "metadata": {"name": "mini"}}
    machine = scripted(get_deployment_mini=(0, REVISION), get__k=(0, json.dumps({"items": [DEPLOYMENT, other]})))
    before = machine.before(SERVICE, tmp_path)
    spec = {"revisionHistoryLimit": 5}
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mini"}, "spec": spec}
    assert (before.revision, before.objects) == (3, {"Deployment/mini": applied, "ConfigMap/mini": None})


def test_a_first_rollout_that_fails_is_removed(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    fails(scripted(rollout_status=DEADLINE), tmp_path)
    assert asked()[-1] == "delete --ignore-not-found"


def test_answers_that_differ_are_taken_back_and_told_as_the_gate_tells_them(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert "cosine 0.5" in fails(scripted(get_deployment_mini=(0, REVISION), logs=(0, FAILED)), tmp_path, GateError)
    assert "rollout undo" in asked()


def test_a_smoke_test_without_a_report_is_taken_back(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert "ended without a report" in fails(scripted(logs=(0, "Traceback")), tmp_path)
    assert asked()[-1] == "delete --ignore-not-found"


def test_pods_that_have_no_hope_are_not_waited_for(scripted: Scripted, tmp_path: Path) -> None:
    machine = scripted(rollout_status=LATE, get_pods=pod(containerStatuses=[{"state": {"waiting": PULL}}]))
    said = fails(machine, tmp_path)
    assert said.startswith("the pods of mini do not become ready\n  mini-1: ImagePullBackOff: no such digest")


def test_pods_that_start_are_waited_for_to_the_end(
    scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 100_000, 100))
    monkeypatch.setattr("images.cluster.time.monotonic", lambda: next(ticks))
    machine = scripted(rollout_status=LATE, get_pods=pod(conditions=[UNSCHEDULED]))
    assert "mini-1: Unschedulable: 2 cpu" in fails(machine, tmp_path)
    assert asked().count("rollout status") > (SERVICE.start_seconds / 100)


def test_what_older_pods_died_of_is_no_reason_while_there_are_newer(scripted: Scripted) -> None:
    pods = [{**json.loads(pod(containerStatuses=[{"state": {"waiting": PULL}}])[1])["items"][0]} for _ in range(2)]
    pods[1] = {**pods[1], "metadata": {"name": "mini-2"}, "status": {}}
    machine = scripted(get_pods=(0, json.dumps({"items": pods})))
    assert machine.reasons(SERVICE, older={"mini-1"}) == []
    assert len(machine.reasons(SERVICE, older={"mini-1", "mini-2"})) == 1


def test_pods_of_another_image_are_no_reason(scripted: Scripted) -> None:
    other = json.loads(pod(containerStatuses=[{"state": {"waiting": PULL}}])[1])
    other["items"][0]["spec"]["containers"][0]["image"] = "other"
    assert scripted(get_pods=(0, json.dumps(other))).reasons(SERVICE) == []


def test_a_service_that_cannot_be_taken_back_still_says_what_failed_first(scripted: Scripted, tmp_path: Path) -> None:
    said: list[str] = []
    machine = scripted(
        get_deployment_mini=(0, REVISION), rollout_status=DEADLINE, rollout_undo=(1, "connection refused")
    )
    with pytest.raises(ClusterError, match="the rollout of mini failed"):
        cluster.deploy(machine, SERVICE, tmp_path, said.append)
    assert said[-1].startswith("it could not be taken back: kubectl: connection refused")


def test_the_report_is_shown_whether_it_passed_or_not(scripted: Scripted, tmp_path: Path) -> None:
    for answer, verdict in ((PASSED, "PASS (exit code 0)"), (FAILED, "DIFFERS (exit code 1)")):
        said: list[str] = []
        with suppress(GateError):
            cluster.deploy(scripted(logs=(0, answer)), SERVICE, tmp_path, said.append)
        assert verdict in "\n".join(said)


# What is not ours


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_what_somebody_else_made_is_left_alone(
    kind: str, scripted: Scripted, asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    found = json.dumps({"items": [{"kind": kind, "metadata": {"name": "mini"}}]})
    machine = scripted(**{"get_deployment,service,configmap": (0, found)})
    assert f"n has a {kind} 'mini' that `invoke deploy` did not make" in fails(machine, tmp_path, UsageError)
    assert asked() == ["get deployment,service,configmap"]


def test_what_kserve_is_to_make_is_not_waited_for(scripted: Scripted, tmp_path: Path) -> None:
    service = decide(IMAGE, LABELS, Wishes(kserve=True))
    with pytest.raises(UsageError, match="which KServe makes by itself"):
        cluster.deploy(scripted(), service, tmp_path, lambda _: None)


def test_a_service_that_is_not_there_is_not_removed(scripted: Scripted) -> None:
    with pytest.raises(UsageError, match="n has no service 'mini' of ours"):
        scripted(delete=(0, "No resources found")).remove("mini")


@pytest.mark.parametrize("name", ["", "a,app=b", "A"])
def test_only_a_name_is_removed(name: str, scripted: Scripted) -> None:
    with pytest.raises(UsageError, match="is no name of a Service"):
        scripted().remove(name)


# Reasons


def test_the_pods_reasons_are_told(scripted: Scripted, tmp_path: Path) -> None:
    waiting = pod(containerStatuses=[{"state": {"waiting": PULL}}])
    told = fails(scripted(rollout_status=DEADLINE, get_pods=waiting), tmp_path)
    assert "mini-1: ImagePullBackOff: no such digest" in told


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


def test_a_namespace_is_never_taken_by_itself(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(config_get=(0, "dev"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UsageError, match="no namespace was named"):
        cluster.find("dev", "")


def test_somebody_who_may_not_list_namespaces_is_taken_at_their_word(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(config_get=(0, "dev"), get_namespace=(1, "Error from server (Forbidden): no"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert cluster.find("dev", "n").namespace == "n"


def test_a_cluster_that_does_not_answer_is_an_error_of_its_own(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(config_get=(0, "dev"), get_namespace=(1, "The connection to the server was refused"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ClusterError, match="connection to the server was refused"):
        cluster.find("dev", "n")


def test_without_kubectl_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no kubectl on PATH"):
        cluster.find("dev", "n")
