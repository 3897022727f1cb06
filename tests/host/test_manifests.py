"""What is deployed: valid for every supported Kubernetes, restricted, and of the very image that was proved."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from images import manifests
from images.errors import UsageError
from images.service import Service, Wishes, decide
from tests.host.services import (
    EVERYTHING,
    GPU,
    IMAGE,
    LABELS,
    MOUNTED,
    VERSIONS,
    WEIGHTS,
    WITH_IMAGE_VOLUMES,
    objects,
    service,
)


def pod(made: Service, name: str = "deployment") -> Any:
    return objects(made)[name]["spec"]["template"]["spec"]


def container(made: Service) -> Any:
    (only,) = pod(made)["containers"]
    return only


# Valid


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("labels", "wishes"), [(LABELS, Wishes()), (MOUNTED, EVERYTHING)], ids=["plain", "everything"])
def test_every_manifest_is_valid_for_every_supported_kubernetes(
    version: str, labels: dict[str, str], wishes: Wishes
) -> None:
    for made in objects(decide(IMAGE, labels, wishes)).values():
        kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.parametrize("version", WITH_IMAGE_VOLUMES)
def test_a_volume_of_an_image_is_valid_where_kubernetes_has_it(version: str) -> None:
    made = objects(service(MOUNTED, weights=WEIGHTS))
    for name in ("deployment", "smoke-test"):
        kubernetes_validate.validate(made[name], version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_predictor_of_an_inference_service_is_a_valid_pod(version: str) -> None:
    predictor = objects(service(kserve=True))["inferenceservice"]["spec"]["predictor"]
    of_kserve = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "labels", "annotations"}
    spec = {key: value for key, value in predictor.items() if key not in of_kserve}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.starts_programs
@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl")
@pytest.mark.parametrize("kserve", [False, True])
def test_kustomize_reads_the_folder(kserve: bool, tmp_path: Path) -> None:
    made = service(kserve=kserve)
    manifests.write(manifests.texts(made), tmp_path / "out")
    done = subprocess.run(["kubectl", "kustomize", tmp_path / "out"], capture_output=True, text=True, check=True)
    found = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout)}
    written = {(each["kind"], each["metadata"]["name"]) for each in objects(made).values()}
    assert found == {each for each in written if each[0] != "Job"}


def test_the_kustomization_lists_every_file_but_the_smoke_test() -> None:
    files = manifests.texts(service())
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert {*listed, "kustomization.yaml", "smoke-test.yaml"} == set(files)


def test_kserve_gets_an_inference_service_in_place_of_deployment_and_autoscaler() -> None:
    assert {each["kind"] for each in objects(service(kserve=True)).values()} == {
        *("ServiceAccount", "ConfigMap", "InferenceService", "NetworkPolicy", "Job"),
    }


def test_the_smoke_test_asks_the_service_that_kserve_makes() -> None:
    made = service(kserve=True)
    assert pod(made, "smoke-test")["containers"][0]["args"][-1] == f"--url=http://{made.name}-predictor"


def test_text_of_labels_stays_text() -> None:
    odd = {**LABELS, "dev.modelyard.gate.override": "yes", "dev.modelyard.model.id": 'a: "b" {{ c }} #'}
    notes = objects(service(odd, name="odd"))["deployment"]["metadata"]["annotations"]
    assert notes["dev.modelyard/gate.override"] == "yes"
    assert notes["dev.modelyard/model.id"] == 'a: "b" {{ c }} #'


# The very image


@pytest.mark.parametrize("name", ["deployment", "smoke-test"])
def test_pods_run_the_image_by_digest(name: str) -> None:
    assert [each["image"] for each in pod(service(), name)["containers"]] == [IMAGE]


def test_the_smoke_test_asks_the_service() -> None:
    made = service()
    job = objects(made)["smoke-test"]
    assert job["metadata"]["name"] == f"{made.name}-smoke-{'a1' * 4}"
    assert pod(made, "smoke-test")["containers"][0]["args"] == ["smoke-test", "--json", f"--url=http://{made.name}"]


# Restricted


@pytest.mark.parametrize("name", ["deployment", "smoke-test"])
def test_pods_keep_the_restricted_standard(name: str) -> None:
    found = pod(service(), name)
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
    policy = objects(service())["networkpolicy"]["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


def test_only_the_own_namespace_and_those_named_may_ask_the_server() -> None:
    (rule,) = objects(service(allow_namespaces="web"))["networkpolicy"]["spec"]["ingress"]
    assert rule["from"] == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}},
    ]


def test_the_key_comes_from_a_secret_and_is_in_no_manifest() -> None:
    made = service(api_key_secret="keys")  # noqa: S106 - a Secret's name
    for name in ("deployment", "smoke-test"):
        found = pod(made, name)
        (only,) = found["containers"]
        assert only["env"] == [{"name": "MODELYARD_API_KEY_FILE", "value": "/run/modelyard/api-key"}]
        assert {"name": "api-key", "mountPath": "/run/modelyard", "readOnly": True} in only["volumeMounts"]
        assert found["volumes"][-1]["secret"]["secretName"] == "keys"


# Resources


def test_memory_follows_what_was_measured() -> None:
    resources = container(service())["resources"]
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == ("384Mi", "640Mi")


@pytest.mark.parametrize(
    ("used", "limit", "request_"),
    [("1.23", "2", "1300m"), ("0.04", "2", "1000m"), ("1.90", "1", "1"), ("1.90", "500m", "500m"), ("0.00", "2", "2")],
)
def test_a_pod_asks_for_the_cpus_that_the_proof_kept_busy(used: str, limit: str, request_: str) -> None:
    resources = container(service({**LABELS, "dev.modelyard.cpu.used": used}, cpu=limit))["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == (request_, limit)


@pytest.mark.parametrize(("cpu", "target"), [("2", "1400m"), ("500m", "350m")])
def test_more_pods_come_when_those_that_are_there_near_their_cpu_limit(cpu: str, target: str) -> None:
    labels = {**LABELS, "dev.modelyard.cpu.used": "0.30"}
    (metric,) = objects(service(labels, cpu=cpu))["horizontalpodautoscaler"]["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "AverageValue", "averageValue": target}}


def test_a_gpu_is_asked_for_and_its_taint_tolerated() -> None:
    made = service(GPU)
    assert container(made)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod(made)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_the_smoke_test_takes_no_gpu_from_the_server() -> None:
    (only,) = pod(service(GPU), "smoke-test")["containers"]
    assert "nvidia.com/gpu" not in only["resources"]["limits"]
    assert only["env"] == [{"name": "MODELYARD_DEVICE", "value": "cpu"}]


@pytest.mark.parametrize("name", ["deployment", "smoke-test"])
@pytest.mark.parametrize(
    ("weights", "volume"),
    [
        ("claim", {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}}),
        (WEIGHTS, {"image": {"reference": WEIGHTS, "pullPolicy": "IfNotPresent"}}),
    ],
    ids=["claim", "image"],
)
def test_mounted_weights_come_read_only(name: str, weights: str, volume: dict[str, Any]) -> None:
    found = pod(service(MOUNTED, weights=weights), name)
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in found["containers"][0]["volumeMounts"]
    assert {"name": "weights", **volume} in found["volumes"]


def test_no_pod_has_less_memory_than_the_artifact_states() -> None:
    resources = container(service({**LABELS, "dev.modelyard.memory.needed": str(1 << 30)}))["resources"]
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == ("1024Mi", "1280Mi")


def test_memory_may_be_named() -> None:
    resources = container(service(memory="3Gi"))["resources"]
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == ("3Gi", "3Gi")


def test_a_pod_has_time_to_finish_what_it_has_begun() -> None:
    made = service()
    told = objects(made)["configmap"]["data"]
    takes = made.pause_seconds + sum(int(told[f"MODELYARD_{name}_SECONDS"]) for name in ("DRAIN", "GRACE"))
    assert pod(made)["terminationGracePeriodSeconds"] > takes
    assert f"time.sleep({made.pause_seconds})" in container(made)["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_the_autoscaler_alone_says_how_many_pods_there_are() -> None:
    found = objects(service(replicas=3, max_replicas=5))
    assert "replicas" not in found["deployment"]["spec"]
    assert (found["horizontalpodautoscaler"]["spec"]["minReplicas"], found["poddisruptionbudget"]["spec"]) == (
        3,
        {"maxUnavailable": 1, "selector": {"matchLabels": found["deployment"]["spec"]["selector"]["matchLabels"]}},
    )


def test_what_is_left_out_is_not_listed_and_without_an_autoscaler_the_deployment_says_how_many_pods() -> None:
    made = service(without="autoscaler, network-policy", replicas=3)
    listed = yaml.safe_load(manifests.texts(made)["kustomization.yaml"])["resources"]
    assert not [name for name in listed if "autoscaler" in name or "networkpolicy" in name]
    assert set(listed) == {f"{name}.yaml" for name in objects(made)} - {"smoke-test.yaml"}
    assert objects(made)["deployment"]["spec"]["replicas"] == 3


# Files


def test_an_older_set_is_replaced_whole(tmp_path: Path) -> None:
    manifests.write(manifests.texts(service()), tmp_path / "out")
    manifests.write(manifests.texts(service(kserve=True)), tmp_path / "out")
    assert "deployment.yaml" not in {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("name", ["mine", "kustomization.yaml"])
def test_a_folder_with_other_files_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="holds files that `invoke manifests` did not write"):
        manifests.write(manifests.texts(service()), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_files_that_were_put_beside_an_older_set_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifests.write(manifests.texts(service()), out)
    (out / "patch.yaml").write_text("mine")
    (out / "overlay").mkdir()
    manifests.write(manifests.texts(service(kserve=True)), out)
    assert {path.name for path in out.iterdir()} == {*manifests.texts(service(kserve=True)), "patch.yaml", "overlay"}


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_a_usage_error(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        manifests.write(manifests.texts(service()), tmp_path / out)
