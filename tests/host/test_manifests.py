"""What is deployed: valid for every supported Kubernetes, restricted, and of the very image that was proved."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from images import manifests
from images.errors import GateError, UsageError
from images.manifests import Service, Wishes

IMAGE = f"registry.example/team/minilm@sha256:{'a1' * 32}"
LABELS = {
    "dev.modelyard.target": "onnx-cpu",
    "dev.modelyard.task": "feature-extraction",
    "dev.modelyard.gate": "passed",
    "dev.modelyard.model.id": "acme/Mini_LM",
    "dev.modelyard.memory.peak": str(300 << 20),
    "org.opencontainers.image.version": "c9745ed1",
    "maintainer": "somebody",
}
GPU = {**LABELS, "dev.modelyard.device": "nvidia.com/gpu", "dev.modelyard.weights": "/weights"}
EVERYTHING = Wishes(
    pull_secret="reg",  # noqa: S106 - a Secret's name
    api_key_secret="key",  # noqa: S106 - the same
    weights="claim",
    allow_namespaces="web",
    cpu="500m",
    replicas=1,
)
VERSIONS = [f"1.{minor}" for minor in range(27, 38)]


def service(labels: dict[str, str] = LABELS, image: str = IMAGE, **wishes: Any) -> Service:
    return manifests.decide(image, labels, Wishes(**wishes))


def objects(made: Service) -> dict[str, Any]:
    """The manifests by kind; a Service and a service account are different kinds."""
    files = manifests.render(made)
    loaded = [yaml.safe_load(text) for name, text in files.items() if not name.startswith("kustomization")]
    return {each["kind"]: each for each in loaded}


def pod(made: Service, kind: str = "Deployment") -> Any:
    return objects(made)[kind]["spec"]["template"]["spec"]


def container(made: Service) -> Any:
    (only,) = pod(made)["containers"]
    return only


def refused(kind: type[Exception], **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        service(**changes)
    return str(caught.value)


# Valid


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("labels", "wishes"), [(LABELS, Wishes()), (GPU, EVERYTHING)], ids=["plain", "everything"])
def test_every_manifest_is_valid_for_every_supported_kubernetes(
    version: str, labels: dict[str, str], wishes: Wishes
) -> None:
    for made in objects(manifests.decide(IMAGE, labels, wishes)).values():
        kubernetes_validate.validate(made, version, strict=True)


def test_the_kustomization_lists_every_file_but_the_smoke_test() -> None:
    files = manifests.render(service())
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert {*listed, "kustomization.yaml", "smoke-test.yaml"} == set(files)


def test_kserve_gets_an_inference_service_in_place_of_deployment_and_autoscaler() -> None:
    assert set(objects(service(kserve=True))) == {"ServiceAccount", "ConfigMap", "InferenceService", "Job"}


def test_text_of_labels_stays_text() -> None:
    odd = {**LABELS, "dev.modelyard.gate.override": "yes", "dev.modelyard.model.id": 'a: "b" {{ c }} #'}
    notes = objects(service(odd, name="odd"))["Deployment"]["metadata"]["annotations"]
    assert notes["dev.modelyard/gate.override"] == "yes"
    assert notes["dev.modelyard/model.id"] == 'a: "b" {{ c }} #'


# The very image


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_run_the_image_by_digest(kind: str) -> None:
    assert [each["image"] for each in pod(service(), kind)["containers"]] == [IMAGE]


@pytest.mark.parametrize("image", ["registry.example/team/minilm:latest", "minilm", "minilm@sha256:abc"])
def test_a_tag_is_refused(image: str) -> None:
    assert "is not named by digest" in refused(UsageError, image=image)


def test_an_image_of_others_is_refused() -> None:
    assert "was not built by `invoke build`" in refused(UsageError, labels={"maintainer": "somebody"})


def test_an_image_without_a_verdict_is_refused() -> None:
    labels = {key: value for key, value in LABELS.items() if not key.endswith("gate")}
    assert "carries no verdict" in refused(GateError, labels=labels)


def test_the_smoke_test_asks_the_service() -> None:
    made = service()
    job = objects(made)["Job"]
    assert job["metadata"]["name"] == f"{made.name}-smoke-{'a1' * 4}"
    assert pod(made, "Job")["containers"][0]["args"] == ["smoke-test", "--json", f"--url=http://{made.name}"]


# Restricted


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_keep_the_restricted_standard(kind: str) -> None:
    found = pod(service(), kind)
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["automountServiceAccountToken"] is False
    assert [each["securityContext"] for each in found["containers"]] == [
        {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    ]


def test_the_server_may_not_ask_anybody() -> None:
    policy = objects(service())["NetworkPolicy"]["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


def test_only_the_own_namespace_and_those_named_may_ask_the_server() -> None:
    (rule,) = objects(service(allow_namespaces="web"))["NetworkPolicy"]["spec"]["ingress"]
    assert rule["from"] == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}},
    ]


def test_the_key_comes_from_a_secret_and_is_in_no_manifest() -> None:
    (key,) = container(service(api_key_secret="keys"))["env"]  # noqa: S106 - a Secret's name
    assert key["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "api-key"}}


# Resources


def test_memory_follows_what_was_measured() -> None:
    resources = container(service())["resources"]
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == ("384Mi", "640Mi")


def test_threads_follow_a_cpu_limit_that_is_the_request() -> None:
    resources = container(service(cpu="500m"))["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("500m", "500m")


def test_a_gpu_is_asked_for_and_its_taint_tolerated() -> None:
    made = service(GPU)
    assert container(made)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod(made)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_the_smoke_test_takes_no_gpu_from_the_server() -> None:
    limits = pod(service(GPU), "Job")["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in limits


def test_mounted_weights_come_read_only_from_the_claim() -> None:
    made = service(GPU, weights="claim")
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in container(made)["volumeMounts"]
    assert pod(made)["volumes"][1]["persistentVolumeClaim"] == {"claimName": "claim", "readOnly": True}


def test_a_pod_has_time_to_finish_what_it_has_begun() -> None:
    made = service()
    grace = int(objects(made)["ConfigMap"]["data"]["MODELYARD_GRACE_SECONDS"])
    assert pod(made)["terminationGracePeriodSeconds"] > grace + made.pause_seconds
    assert f"time.sleep({made.pause_seconds})" in container(made)["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_the_autoscaler_alone_says_how_many_pods_there_are() -> None:
    found = objects(service(replicas=3, max_replicas=5))
    assert "replicas" not in found["Deployment"]["spec"]
    assert (found["HorizontalPodAutoscaler"]["spec"]["minReplicas"], found["PodDisruptionBudget"]["spec"]) == (
        3,
        {"maxUnavailable": 1, "selector": {"matchLabels": found["Deployment"]["spec"]["selector"]["matchLabels"]}},
    )


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
        ({"replicas": 0}, "leave no number of pods"),
        ({"replicas": 5, "max_replicas": 4}, "leave no number of pods"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(wishes: dict[str, Any], said: str) -> None:
    assert said in refused(UsageError, **wishes)


# Files


def test_an_older_set_is_replaced_whole(tmp_path: Path) -> None:
    manifests.write(manifests.render(service()), tmp_path / "out")
    manifests.write(manifests.render(service(kserve=True)), tmp_path / "out")
    assert "deployment.yaml" not in {path.name for path in (tmp_path / "out").iterdir()}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="holds files that are no manifests"):
        manifests.write(manifests.render(service()), tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
