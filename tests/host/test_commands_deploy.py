"""The commands that speak of clusters, and to them."""

from pathlib import Path

import pytest

from images import cluster, record, trust
from images.errors import ClusterError, GateError, ImageError, UsageError
from tests.host import samples
from tests.host.invoking import TARGET, Invoke, raising
from tests.host.services import IMAGE, LABELS


@pytest.fixture
def in_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in a registry, with a passed verdict."""
    known = trust.Known(
        reference=IMAGE,
        digest=IMAGE.partition("@")[2],
        image="sha256:2",
        created=samples.CREATED,
        platform="linux/amd64",
        layers=1,
        size=1,
        labels=LABELS,
        signatures=0,
        attached=[],
    )
    monkeypatch.setattr(trust, "inspect", lambda *_, **__: known)


@pytest.mark.usefixtures("in_registry")
def test_manifests_are_written_to_the_named_folder(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, _ = invoke("manifests", "--image", IMAGE, "--out", out, "--name", "mini", "--replicas", 3)
    assert (code, printed) == (0, f"{out}: kubectl apply --server-side -k {out}\n")
    assert 'name: "mini"' in (out / "service.yaml").read_text()
    assert "minReplicas: 3" in (out / "horizontalpodautoscaler.yaml").read_text()


def test_manifests_of_a_tag_are_refused_before_the_registry_is_asked(invoke: Invoke) -> None:
    code, printed, said = invoke("manifests", "--image", "registry.example/team/minilm:1")
    assert (code, printed) == (2, "")
    assert said.startswith("error: registry.example/team/minilm:1 is not named by digest")


def test_an_image_that_was_not_pushed_from_here_has_no_manifests(invoke: Invoke, tmp_path: Path) -> None:
    record.write(tmp_path / "dist", samples.record())
    code, _, said = invoke("manifests", "--target", TARGET)
    assert (code, said.partition("\n")[0]) == (2, f"error: no image of {TARGET} was built here")


@pytest.mark.parametrize("flag", ["model", "quantize", "registry"])
def test_what_belongs_to_a_build_job_is_refused_without_it(flag: str, invoke: Invoke) -> None:
    code, _, said = invoke("manifests", "--image", IMAGE, f"--{flag}", "x")
    assert (code, said.partition("\n")[0]) == (2, f"error: --{flag} belongs to --build-job")


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A cluster that takes everything: the contexts and namespaces that were asked for."""
    asked: list[tuple[str, str]] = []

    def find(context: str, namespace: str) -> cluster.Cluster:
        asked.append((context, namespace))
        return cluster.Cluster(program="kubectl", context=context, namespace=namespace)

    monkeypatch.setattr(cluster, "find", find)
    monkeypatch.setattr(cluster, "deploy", lambda *_: samples.report())
    monkeypatch.setattr(cluster.Cluster, "check", lambda *_: "deployment.apps/mini serverside-applied\n")
    return asked


WHERE = ("--context", "prod", "--namespace", "models")


@pytest.mark.usefixtures("in_registry")
def test_a_deployment_says_where_it_serves(invoke: Invoke, deployed: list[tuple[str, str]]) -> None:
    code, printed, _ = invoke("deploy", "--image", IMAGE, *WHERE, "--name", "mini")
    assert (code, printed, deployed) == (0, "mini serves at http://mini.models\n", [("prod", "models")])


@pytest.mark.usefixtures("in_registry", "deployed")
def test_a_dry_run_says_what_the_cluster_would_take(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "deploy", raising(AssertionError("deployed")))
    code, printed, _ = invoke("deploy", "--image", IMAGE, *WHERE, "--dry-run")
    assert (code, printed) == (0, "deployment.apps/mini serverside-applied\n")


@pytest.mark.usefixtures("in_registry", "deployed")
@pytest.mark.parametrize(
    "error", [ClusterError("no pod"), GateError("it answers otherwise"), UsageError("another's")], ids=repr
)
def test_a_deployment_that_fails_ends_with_the_exit_code_of_its_failure(
    error: ImageError, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "deploy", raising(error))
    code, _, said = invoke("deploy", "--image", IMAGE, *WHERE)
    assert (code, said) == (error.exit_code, f"error: {error}\n")
