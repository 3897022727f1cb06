"""A build that runs in a cluster: the Job of a rootless BuildKit, and what it gets. Nothing of it is verified.

The image is built and pushed where no smoke test can follow, so it carries no verdict: neither `invoke manifests` nor
`invoke deploy` takes it. `invoke build --builder` on the same BuildKit ends with a verified one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images import render, service
from images.errors import UsageError
from images.layout import Layout
from images.plan import Plan
from images.remote import Remote
from images.service import Wishes

FILE = "build-job.yaml"
CONTEXT, BASES = "context", "bases"
"""Folders beside the Job, which go into its pod."""
WORK = Path("/build")
MEMORY = "8Gi"
"""What a build may take where nobody says otherwise: exports of small models were seen to take 1 to 4 GiB."""


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """A Job, decided: what its template prints.

    Attributes:
        image: BuildKit, rootless, by digest.
        arguments: of `buildctl`.
        to: where the image is pushed to.

    """

    name: str
    image: str
    model: str
    target: str
    to: str
    arguments: tuple[str, ...]
    cpu: str
    memory: str
    pull_secret: str = ""
    seconds: int = 7200


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the command line says of a Job.

    Attributes:
        to: the repository; its tag where it has one.
        image: BuildKit's own, by digest.
        wishes: name, cpu, memory and login.
        out: the folder to make.

    """

    to: Remote
    image: str
    wishes: Wishes
    out: Path


def require(order: Order) -> None:
    """Raise `UsageError` when BuildKit is named by a tag, or a wish is not possible."""
    if not service.PINNED.fullmatch(order.image):
        raise UsageError(
            f"--builder-image {order.image!r} is not named by digest",
            "such as docker.io/moby/buildkit@sha256:..., of a rootless version",
        )
    if order.to.digest:
        raise UsageError(f"{order.to} names a digest; a push makes one", "name the repository, and a tag at most")
    service.require_wishes(order.wishes)


def decide(plan: Plan, layouts: Sequence[Layout], order: Order) -> BuildJob:
    """A Job from a plan, and the bases that no registry has, in the folder `BASES`."""
    to = f"{order.to.repository}:{order.to.tag or unverified(plan)}"
    return BuildJob(
        name=order.wishes.name or f"{service.default_name(plan.model.id, plan.target.name)}-build",
        image=order.image,
        model=plan.model.id,
        target=plan.target.name,
        to=to,
        arguments=arguments(plan, layouts, to),
        cpu=order.wishes.cpu,
        memory=order.wishes.memory or MEMORY,
        pull_secret=order.wishes.pull_secret,
    )


def unverified(plan: Plan) -> str:
    """The tag of what nobody proved: it says so, and which plan it is of."""
    return f"unverified-{plan.digest.removeprefix('sha256:')[:12]}"


def arguments(plan: Plan, layouts: Sequence[Layout], to: str, work: Path = WORK) -> tuple[str, ...]:
    """What `buildctl` is told: the build of every engine, without network; then the push."""
    return (
        "build",
        "--frontend=dockerfile.v0",
        f"--local=context={work / CONTEXT}",
        f"--local=dockerfile={work / CONTEXT}",
        "--opt=force-network-mode=none",
        *(f"--opt=build-arg:{key}={value}" for key, value in sorted(plan.args.items())),
        *(f"--oci-layout={each.folder.name}={work / BASES / each.folder.name}" for each in layouts),
        *(f"--opt=context:{each.reference}=oci-layout://{each.folder.name}@{each.digest}" for each in layouts),
        "--progress=plain",
        f"--output=type=image,name={to},push=true",
    )


def text(job: BuildJob) -> str:
    """The Job's manifest."""
    return render.manifest("build-job", job=job)
