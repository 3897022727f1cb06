"""What is known of an image, and the options, to Kubernetes manifests: a Kustomize base. Pure but for `write`."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from images.config import ROOT
from images.errors import GateError, UsageError
from images.plan import LABEL

MIB = 2**20
HEADROOM = 1.25
"""Memory asked for, as a multiple of what the image was seen to use when it was proved."""
LIMIT = 2.0
"""Memory at which a pod is ended, as the same multiple: long inputs and full batches need more than the suite."""
PAUSE_SECONDS = 5
"""How long a pod that ends goes on being reachable: what endpoints and proxies take to turn away, as a rule."""
MARGIN_SECONDS = 5
PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")
"""A DNS label of RFC 1035 as Services take it, short enough for what is appended to it."""
CPU = re.compile(r"\d+(\.\d+)?|\d+m")
FILES = (
    "serviceaccount",
    "configmap",
    "deployment",
    "service",
    "horizontalpodautoscaler",
    "poddisruptionbudget",
    "networkpolicy",
)
OPTIONAL = {
    "autoscaler": "horizontalpodautoscaler",
    "disruption-budget": "poddisruptionbudget",
    "network-policy": "networkpolicy",
}
"""Files that `--without` leaves out, by its word for them."""
KSERVE_FILES = ("serviceaccount", "configmap", "inferenceservice")
"""KServe makes the Deployment, its Service and its autoscaler itself."""
SMOKE = "smoke-test"
KUSTOMIZATION = "kustomization"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line says of a deployment: each field is a flag, explained in `HELP`."""

    name: str = ""
    cpu: str = "2"
    replicas: int = 2
    max_replicas: int = 10
    kserve: bool = False
    pull_secret: str = ""
    api_key_secret: str = ""
    weights: str = ""
    allow_namespaces: str = ""
    without: str = ""


HELP = {
    "name": "of every object (default: of model and target)",
    "cpu": "of one pod, in Kubernetes' notation; the runtime's threads follow it",
    "replicas": "the fewest pods",
    "max-replicas": "the most pods",
    "kserve": "an InferenceService instead of Deployment, Service and autoscaler",
    "pull-secret": "name of the Secret (dockerconfigjson) that the registry asks for",
    "api-key-secret": "name of a Secret whose `api-key` clients must send",
    "weights": "name of a PersistentVolumeClaim with the model's files, for an image that does not carry them",
    "allow-namespaces": "namespaces beside its own that may send requests, separated by commas",
    "without": "what is left out, for a cluster that lacks it: autoscaler, disruption-budget, network-policy",
}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service, decided: everything that the templates print.

    Attributes:
        image: reference by digest.
        version: of the model, as a label's value.
        memory_request: in Kubernetes' notation.
        devices: extended resources by name, such as `nvidia.com/gpu`, and how many of each.
        without: what is left out, in the words of `OPTIONAL`; with no autoscaler the Deployment says how many pods.
        weights_path: where the image looks for weights that it does not carry.
        grace_seconds: for requests under way after SIGTERM.
        pause_seconds: before SIGTERM, while requests still come.
        start_seconds: the longest start.
        smoke_seconds: the longest smoke test.

    """

    name: str
    image: str
    model: str
    target: str
    task: str
    version: str
    cpu: str
    memory_request: str
    memory_limit: str
    replicas: int
    max_replicas: int
    annotations: Mapping[str, str]
    kserve: bool = False
    devices: Mapping[str, int] = field(default_factory=dict)
    pull_secret: str = ""
    api_key_secret: str = ""
    weights: str = ""
    weights_path: str = ""
    allowed_namespaces: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    grace_seconds: int = 25
    pause_seconds: int = PAUSE_SECONDS
    start_seconds: int = 600
    smoke_seconds: int = 900

    @property
    def smoke_name(self) -> str:
        """The Job's name: of the service and the image."""
        return f"{self.name}-smoke-{self.image[-64:][:8]}"

    @property
    def termination_seconds(self) -> int:
        """From the first sign of the end to the kill."""
        return self.pause_seconds + self.grace_seconds + MARGIN_SECONDS


def decide(image: str, labels: Mapping[str, str], wishes: Wishes) -> Service:
    """One service from an image's labels.

    Args:
        image: the reference, by digest.
        labels: the image's own.
        wishes: the command line's.

    Raises:
        UsageError: the image is named by tag, is not ours, or a wish is not possible.
        GateError: the image was never verified.

    """
    _require(image, labels, wishes)
    told = {key.removeprefix(f"{LABEL}."): value for key, value in labels.items() if key.startswith(f"{LABEL}.")}
    needed = int(told.get("memory.peak", 0))
    return Service(
        name=wishes.name or default_name(told["model.id"], told["target"]),
        image=image,
        model=told["model.id"],
        target=told["target"],
        task=told["task"],
        version=label_value(labels.get("org.opencontainers.image.version", "")),
        cpu=wishes.cpu,
        memory_request=_mebibytes(needed * HEADROOM),
        memory_limit=_mebibytes(needed * LIMIT),
        replicas=wishes.replicas,
        max_replicas=wishes.max_replicas,
        annotations={f"{LABEL}/{key}": told[key] for key in sorted(told)},
        kserve=wishes.kserve,
        devices={told["device"]: 1} if "device" in told else {},
        pull_secret=wishes.pull_secret,
        api_key_secret=wishes.api_key_secret,
        weights=wishes.weights,
        weights_path=told.get("weights", ""),
        allowed_namespaces=_words(wishes.allow_namespaces),
        without=_words(wishes.without),
    )


def render(service: Service) -> dict[str, str]:
    """The manifests by file name: the kustomization, what it lists, and the smoke test's Job beside it."""
    environment = _environment()
    left_out = {OPTIONAL[word] for word in service.without}
    listed = [name for name in (KSERVE_FILES if service.kserve else FILES) if name not in left_out]
    return {
        f"{name}.yaml": environment.get_template(f"{name}.yaml.j2")
        .render(service=service, files=[f"{each}.yaml" for each in listed])
        .lstrip("\n")
        for name in (KUSTOMIZATION, *listed, SMOKE)
    }


def write(files: Mapping[str, str], out: Path) -> None:
    """Write the manifests into a folder of their own: an older set goes, anything else is left alone.

    Raises:
        UsageError: the folder holds other files.

    """
    if out.exists() and not (out / f"{KUSTOMIZATION}.yaml").is_file() and any(out.iterdir()):
        raise UsageError(f"{out} holds files that are no manifests", "name a folder that does not exist yet")
    fresh = out.with_name(f"{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, text in files.items():
        (fresh / name).write_text(text)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)


@contextmanager
def folder(service: Service) -> Iterator[Path]:
    """The rendered manifests in a folder of their own, gone at the end."""
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / service.name
        write(render(service), out)
        yield out


def require_pinned(image: str) -> None:
    """Raise `UsageError` for an image that is not named by digest."""
    if not PINNED.fullmatch(image):
        raise UsageError(
            f"{image or 'no image'} is not named by digest: a tag can move to an image that nobody proved",
            "push it and use the digest that is printed: registry.example/team/name@sha256:...",
        )


def default_name(model: str, target: str) -> str:
    """`<model>-<target>` as a DNS label."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{model.rsplit('/', 1)[-1]}-{target}".lower()).strip("-")
    started = slug if slug[:1].isalpha() else f"m-{slug}"
    return started[:52].rstrip("-")


def label_value(text: str) -> str:
    """Text as the value of a Kubernetes label: at most 63 letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")


def _require(image: str, labels: Mapping[str, str], wishes: Wishes) -> None:
    require_pinned(image)
    if f"{LABEL}.target" not in labels:
        raise UsageError(f"{image} was not built by `invoke build`", "manifests are made from such an image's labels")
    if f"{LABEL}.gate" not in labels:
        raise GateError(f"{image} carries no verdict: it was never verified", "build it by `invoke build`")
    _require_wishes(wishes)


def _require_wishes(wishes: Wishes) -> None:
    if wishes.name and not NAME.fullmatch(wishes.name):
        raise UsageError(f"--name {wishes.name!r} is no name of a Service", "52 lower-case letters, digits and dashes")
    if not CPU.fullmatch(wishes.cpu):
        raise UsageError(f"--cpu {wishes.cpu!r} is no amount", "such as 2, 0.5 or 500m")
    if not 1 <= wishes.replicas <= wishes.max_replicas:
        raise UsageError(
            f"--replicas {wishes.replicas} and --max-replicas {wishes.max_replicas} leave no number of pods",
            "at least 1, and no more than --max-replicas",
        )
    if unknown := set(_words(wishes.without)) - OPTIONAL.keys():
        raise UsageError(
            f"--without {', '.join(sorted(unknown))}: no such part", f"the parts are {', '.join(OPTIONAL)}"
        )


def _words(text: str) -> tuple[str, ...]:
    """What commas separate."""
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _mebibytes(count: float) -> str:
    """Whole steps of 64 MiB, so that a rebuild does not change the manifest for a page."""
    return f"{max(2, -(-int(count) // (64 * MIB))) * 64}Mi"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates/kubernetes"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML is not HTML; values are printed as JSON, which is YAML
    )
