"""A pushed image in a real cluster: deployed, proved, killed, taken back, removed; commands as a user types them.

`invoke test --cluster CONTEXT` runs these, in the order in which they are written.
"""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from images.build import Built
from images.errors import ClusterError, GateError, UsageError
from tests.cluster.conftest import Decoy
from tests.cluster.site import MODEL, NAME, Site
from tests.containers import faults
from tests.containers.yard import until

Done = subprocess.CompletedProcess[str]
ASKED = {"model": MODEL, "input": "Hello, world"}


@pytest.fixture(scope="session")
def damaged(site: Site, minilm: Built) -> str:
    """MiniLM with a byte that flipped, in the registry under its own digest: its server ends with exit code 3."""
    return site.spoiled(minilm.record.reference, "damaged", faults.flip_a_byte)


@pytest.fixture(scope="session")
def different(site: Site, minilm: Built) -> str:
    """MiniLM that answers otherwise, and whose server was told to put up with that: only the smoke test can tell."""
    accepted = "ENV MODELYARD_ACCEPT_DIFFERENCES=1"
    return site.spoiled(minilm.record.reference, "different", faults.keep_case, accepted)


# What fails before anything serves


def test_a_dry_run_changes_nothing(site: Site, good: str) -> None:
    done = site.deploy(good, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"deployment.apps/{NAME} serverside-applied (server dry run)" in done.stdout
    assert site.objects() == set()


def test_an_image_that_the_registry_does_not_have_is_a_usage_error(site: Site, good: str) -> None:
    done = site.deploy(f"{good[:-64]}{'0' * 64}")
    assert done.returncode == UsageError.exit_code, done.stderr
    assert site.objects() == set()


def test_a_first_deployment_that_fails_leaves_nothing(site: Site, damaged: str) -> None:
    done = site.deploy(damaged, name="first")
    assert done.returncode == ClusterError.exit_code, done.stderr
    assert "ended with exit code 3 (artifact damaged)" in done.stderr
    assert site.objects() == set()


# What serves


def test_the_rollout_ends_with_every_pod_on_the_digest(site: Site, good: str, deployed: Done) -> None:
    assert f"{NAME} serves at http://{NAME}.{site.namespace}" in deployed.stdout
    assert until(lambda: list(site.pods().values()) == [good, good])


def test_the_smoke_test_asked_the_service(deployed: Done) -> None:
    lines = [line.split() for line in deployed.stdout.splitlines()]
    assert [line for line in lines if line[:2] == ["http", "ok"]], deployed.stdout


def test_it_answers_through_a_port_forward(site: Site, deployed: Done) -> None:
    del deployed
    with site.forwarded() as client:
        answer = client.post("/v1/embeddings", json=ASKED)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert len(answer.json()["data"][0]["embedding"]) == 384


def test_a_pod_is_killed_and_no_request_fails(site: Site, good: str, deployed: Done) -> None:
    del deployed
    assert until(lambda: len(site.pods()) == 2)
    with site.load(good) as clients:
        for killed in site.pods():
            site.kubectl("delete", "pod", killed)
            assert until(lambda: len(site.pods()) == 2, 120)
        assert clients.goes_on()
        assert clients.told()["failed"] == []


def test_an_image_whose_pods_do_not_start_is_taken_back_and_no_request_fails(
    site: Site, good: str, damaged: str, deployed: Done
) -> None:
    del deployed
    before, settings = site.pods(), site.settings()
    with site.load(good) as clients:
        done = site.deploy(damaged, "--memory", "1Gi", "--allow-namespaces", "elsewhere")
        assert clients.goes_on()
        assert clients.told()["failed"] == []
    assert done.returncode == ClusterError.exit_code, done.stdout
    assert "ended with exit code 3 (artifact damaged)" in done.stderr
    assert site.pods() == before
    assert site.settings() == settings


def test_an_image_that_answers_otherwise_is_taken_back_and_no_request_fails(
    site: Site, good: str, different: str, deployed: Done
) -> None:
    del deployed
    settings = site.settings()
    with site.load(good) as clients:
        done = site.deploy(different)
        assert clients.goes_on()
        assert clients.told()["failed"] == []
    assert done.returncode == GateError.exit_code, done.stdout
    assert f"{NAME} does not answer as its image was proved (reference)" in done.stderr
    assert list(site.pods().values()) == [good, good]
    assert site.settings() == settings


def test_after_that_the_next_deployment_takes_effect(site: Site, good: str, deployed: Done) -> None:
    del deployed
    site.kubectl("create", "secret", "generic", "key", "--from-literal=api-key=open-sesame")
    done = site.deploy(good, "--api-key-secret", "key")
    assert done.returncode == 0, done.stderr
    with site.forwarded() as client:
        assert client.post("/v1/embeddings", json=ASKED).status_code == httpx.codes.UNAUTHORIZED


# What is left


def test_undeploy_leaves_nothing(site: Site, deployed: Done) -> None:
    del deployed
    done = site.undeploy()
    assert done.returncode == 0, done.stderr
    assert site.objects() == set()


def test_the_current_context_stays_and_was_never_asked(site: Site, kubeconfig: Path, decoy: Decoy) -> None:
    del site
    assert json.loads(kubeconfig.read_text())["current-context"] == "decoy"
    assert decoy.visits == 0
