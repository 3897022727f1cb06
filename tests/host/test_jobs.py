"""A build that runs in a cluster: a valid Job that builds what every engine builds, and says that nobody proved it."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from images import jobs, layout, remote
from images.base import Base
from images.errors import UsageError
from images.jobs import BuildJob, Order
from images.layout import Layout
from images.service import Wishes
from tests.host import samples
from tests.host.services import VERSIONS

BUILDKIT = f"docker.io/moby/buildkit@sha256:{'c3' * 32}"
LAYOUT = Layout(reference="localhost/runtime:1", folder=Path("/out/bases/runtime"), digest=f"sha256:{'d4' * 32}")


def order(registry: str = "registry.example/team/tiny", image: str = BUILDKIT, **wishes: Any) -> Order:
    return Order(to=remote.parse(registry), image=image, wishes=Wishes(**wishes), out=Path("/out"))


def made(**wishes: Any) -> BuildJob:
    return jobs.decide(samples.plan(), [LAYOUT], order(**wishes))


def manifest(job: BuildJob) -> Any:
    return yaml.safe_load(jobs.text(job))


def pod(job: BuildJob) -> Any:
    return manifest(job)["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wishes", [{}, {"pull_secret": "login", "name": "b", "memory": "16Gi"}])
def test_the_job_is_valid_for_every_supported_kubernetes(version: str, wishes: dict[str, str]) -> None:
    kubernetes_validate.validate(manifest(made(**wishes)), version, strict=True)


def test_the_build_has_no_network() -> None:
    assert "--opt=force-network-mode=none" in made().arguments


def test_the_build_gets_its_arguments_and_the_bases_that_no_registry_has() -> None:
    said = made().arguments
    assert {f"--opt=build-arg:{key}={value}" for key, value in samples.plan().args.items()} < set(said)
    assert "--oci-layout=runtime=/build/bases/runtime" in said
    assert f"--opt=context:localhost/runtime:1=oci-layout://runtime@{LAYOUT.digest}" in said


def test_what_is_pushed_says_that_nobody_proved_it() -> None:
    plan = samples.plan()
    assert made().to == f"registry.example/team/tiny:unverified-{plan.digest[7:19]}"
    assert jobs.decide(plan, [], order("registry.example/team/tiny:try")).to == "registry.example/team/tiny:try"


def test_buildkit_runs_without_root_and_without_a_token() -> None:
    found = pod(made())
    assert (found["securityContext"]["runAsNonRoot"], found["automountServiceAccountToken"]) == (True, False)
    assert not any("privileged" in each["securityContext"] for each in found["containers"])


def test_the_login_comes_from_a_secret() -> None:
    found = pod(made(pull_secret="login"))  # noqa: S106 - a Secret's name
    (buildkit,) = found["containers"]
    assert {"name": "DOCKER_CONFIG", "value": "/home/user/.docker"} in buildkit["env"]
    assert found["volumes"][-1]["secret"]["secretName"] == "login"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "moby/buildkit:rootless"}, "--builder-image 'moby/buildkit:rootless' is not named by digest"),
        ({"image": ""}, "is not named by digest"),
        ({"registry": BUILDKIT}, "names a digest; a push makes one"),
        ({"cpu": "two"}, "--cpu 'two' is no amount"),
    ],
)
def test_an_order_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        jobs.require(order(**changes))


def test_the_layouts_are_called_as_their_folders(tmp_path: Path) -> None:
    tar = tmp_path / "tar"
    tar.touch()
    written = layout.write([Base(kind="runtime", tar=tar, digest="sha256:0")], "x86_64", tmp_path / jobs.BASES)
    assert f"--oci-layout=runtime=/build/{jobs.BASES}/runtime" in jobs.arguments(samples.plan(), written, "r/x:1")
