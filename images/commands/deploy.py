"""The commands that bring a pushed image to Kubernetes."""

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from images import config, flags
from images import manifests as deployment
from images import service as services
from images.commands import common
from images.commands.common import command, image_of, readable, remote_of, target_of
from images.errors import UsageError

if TYPE_CHECKING:
    from images.jobs import Order

NO_WISHES = services.Wishes()


@command(
    help={
        "image": "HOST/PATH@sha256:..., as `invoke push` printed it",
        "target": "the newest image of this target that was pushed from here",
        "out": "the folder to write (default dist/kubernetes/NAME)",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "build-job": "instead, a Job that builds --model for --target in the cluster and pushes it, unverified",
        "model": "with --build-job: as for build",
        "quantize": "with --build-job: quantisation mode",
        "registry": "with --build-job: HOST/PATH of the repository",
        "builder-image": "with --build-job: BuildKit's rootless image, by digest",
        **services.HELP,
    }
)
@flags.fields(services.Wishes, "wishes")
@readable
def manifests(
    _context: Context,
    image: str = "",
    target: str = "",
    out: str = "",
    plain_http: bool = False,
    build_job: bool = False,
    model: str = "",
    quantize: str = "",
    registry: str = "",
    builder_image: str = "",
    wishes: services.Wishes = NO_WISHES,
) -> None:
    """Write the Kubernetes manifests of a pushed image: a Kustomize base, and the smoke test's Job beside it."""
    if build_job:
        order = _order(registry, builder_image, wishes, Path(out or common.DIST / "kubernetes/build-job"))
        _build_job(target_of(target), model, quantize, order)
        return
    if stray := [flag for flag, value in {"model": model, "quantize": quantize, "registry": registry}.items() if value]:
        raise UsageError(f"--{stray[0]} belongs to --build-job", "say --build-job, or leave it out")
    service = _service(_pushed(target, image), wishes, plain_http=plain_http)
    folder = Path(out) if out else common.DIST / "kubernetes" / service.name
    deployment.write(deployment.texts(service), folder)
    print(f"{folder}: kubectl apply --server-side -k {folder}")


@command(
    help={
        "image": "HOST/PATH@sha256:..., as `invoke push` printed it",
        "target": "the newest image of this target that was pushed from here",
        "context": "of the kubeconfig; the current one is never taken by itself",
        "namespace": "an existing one",
        "dry-run": "ask the API server whether it would take the manifests; change nothing",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        **services.HELP,
    }
)
@flags.fields(services.Wishes, "wishes")
@readable
def deploy(
    _context: Context,
    image: str = "",
    target: str = "",
    context: str = "",
    namespace: str = "",
    dry_run: bool = False,
    plain_http: bool = False,
    wishes: services.Wishes = NO_WISHES,
) -> None:
    """Deploy a pushed image, wait for the rollout, prove the service; one that fails is taken back."""
    from images import cluster

    machine = cluster.find(context, namespace)
    service = _service(_pushed(target, image), wishes, plain_http=plain_http)
    with deployment.folder(service) as folder:
        if dry_run:
            print(machine.check(folder), end="")
            return
        cluster.deploy(machine, service, folder, _say)
    print(f"{service.name} serves at {service.address}.{namespace}")


@command(
    help={"name": "of the service, as `invoke deploy` printed it", "context": "of the kubeconfig", "namespace": "its"}
)
@readable
def undeploy(_context: Context, name: str = "", context: str = "", namespace: str = "") -> None:
    """Remove a deployed service and everything that belongs to it."""
    from images import cluster

    print(cluster.find(context, namespace).remove(name), end="")


def _pushed(target: str, image: str) -> str:
    """A pushed image by digest: the one that was named, or where the newest of a target went last."""
    from images import record

    if image and not target:
        return image
    known = record.read(common.DIST, image_of(target, image))
    if known is None or not known.pushed:
        raise UsageError(f"no image of {target} was pushed from here", f"run `invoke push --target {target}` first")
    last = known.pushed[-1]
    return f"{last.reference.rpartition(':')[0]}@{last.digest}"


def _service(image: str, wishes: services.Wishes, *, plain_http: bool) -> services.Service:
    """What is deployed, from what the registry alone says of the image."""
    from images import trust

    services.require_pinned(image)
    return services.decide(image, trust.inspect(remote_of(image), plain_http=plain_http).labels, wishes)


def _say(line: str) -> None:
    """At once, also into a pipe: a rollout takes minutes."""
    print(line, flush=True)


def _order(registry: str, image: str, wishes: services.Wishes, out: Path) -> "Order":
    from images import jobs, remote

    if not registry:
        raise UsageError("no registry was named", f"add --registry; {remote.FORM}")
    return jobs.Order(to=remote.parse(registry), image=image, wishes=wishes, out=out)


def _build_job(target: str, model: str, mode: str, order: "Order") -> None:
    from images import build as line
    from images import plan, progress

    settings = config.load()
    request = line.Request(target=target, model=settings.model(model), options=plan.Options(mode=mode))
    with progress.shown(quiet=False) as shown:
        pushed = line.job(request, order, settings, shown)
    print(f"{order.out}: build-job.yaml says how its pod gets context/ and bases/; it pushes {pushed}")
