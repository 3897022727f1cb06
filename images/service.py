"""What is known of an image, and what the command line wishes, to one service of a cluster, decided. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from images.errors import GateError, UsageError
from images.plan import LABEL
from images.record import MIB

HEADROOM = 1.25
"""Memory asked for, as a multiple of what the image was seen to use when it was proved."""
LIMIT = 2.0
"""Memory at which a pod is ended, as the same multiple: long inputs and full batches need more than the suite."""
BUSY = 70
"""Per cent of its CPU limit that a pod is to use at most, on average."""
PAUSE_SECONDS = 5
"""How long a pod that ends goes on being reachable: what endpoints and proxies take to turn away, as a rule."""
DRAIN_SECONDS = 5
"""How long after that it goes on, each answer the last of its connection: clients that kept theirs move on."""
MARGIN_SECONDS = 5
PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?")
"""A DNS label of RFC 1035 as Services take it, short enough for what is appended to it."""
CPU = re.compile(r"(?=.*[1-9])(\d+(\.\d{1,3})?|\d+m)")
MEMORY = re.compile(r"[1-9]\d*(Mi|Gi|M|G)")
SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""A DNS subdomain: names of Secrets, claims and namespaces."""
OPTIONAL = {
    "autoscaler": ("horizontalpodautoscaler",),
    "disruption-budget": ("poddisruptionbudget",),
    "network-policy": ("networkpolicy", "networkpolicy-smoke-test"),
}
"""Manifests that `--without` leaves out, by its word for them."""
KSERVE_SERVICE = "-predictor"
"""What KServe appends to the name of an InferenceService for the Service of its pods."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line says of a deployment: each field is a flag, explained in `HELP`."""

    name: str = ""
    cpu: str = "2"
    memory: str = ""
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
    "cpu": "limit of one pod, in Kubernetes' notation; the runtime's threads follow it",
    "memory": "of one pod, such as 2Gi; left out, it follows what the image was seen to use when it was proved",
    "replicas": "the fewest pods",
    "max-replicas": "the most pods",
    "kserve": "an InferenceService instead of Deployment, Service and autoscaler",
    "pull-secret": "name of the Secret (dockerconfigjson) that the registry asks for",
    "api-key-secret": "name of a Secret whose `api-key` clients must send",
    "weights": "for an image that does not carry the model's files: a PersistentVolumeClaim, or an image by digest",
    "allow-namespaces": "namespaces beside its own that may send requests, separated by commas",
    "without": "what is left out, for a cluster that lacks it: autoscaler, disruption-budget, network-policy",
}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service, decided: everything that the templates print.

    Attributes:
        image: reference by digest.
        version: of the model, as a label's value.
        cpu: the limit, in Kubernetes' notation, like the rest.
        devices: extended resources by name, such as `nvidia.com/gpu`, and how many of each.
        without: what is left out, in the words of `OPTIONAL`; with no autoscaler the Deployment says how many pods.
        claim: the PersistentVolumeClaim with weights that the image does not carry.
        volume_image: the image with such weights, by digest.
        weights_path: where the image looks for weights that it does not carry.
        grace_seconds: for requests under way after SIGTERM.
        pause_seconds: before SIGTERM, while requests still come.
        drain_seconds: after SIGTERM, while requests come on connections that clients kept.
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
    cpu_request: str
    memory_request: str
    memory_limit: str
    replicas: int
    max_replicas: int
    annotations: Mapping[str, str]
    kserve: bool = False
    devices: Mapping[str, int] = field(default_factory=dict)
    pull_secret: str = ""
    api_key_secret: str = ""
    claim: str = ""
    volume_image: str = ""
    weights_path: str = ""
    allowed_namespaces: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    grace_seconds: int = 25
    pause_seconds: int = PAUSE_SECONDS
    drain_seconds: int = DRAIN_SECONDS
    start_seconds: int = 600
    smoke_seconds: int = 900

    @property
    def cpu_target(self) -> str:
        """The CPU time of a pod, on average, above which there are to be more of them."""
        return f"{_millicores(self.cpu) * BUSY // 100}m"

    @property
    def address(self) -> str:
        """Where the cluster finds it."""
        return f"http://{self.name}{KSERVE_SERVICE if self.kserve else ''}"

    @property
    def smoke_name(self) -> str:
        """The Job's name: of the service and the image."""
        return f"{self.name}-smoke-{self.image[-64:][:8]}"

    @property
    def termination_seconds(self) -> int:
        """From the first sign of the end to the kill."""
        return self.pause_seconds + self.drain_seconds + self.grace_seconds + MARGIN_SECONDS


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
    _require(image, labels)
    told = {key.removeprefix(f"{LABEL}."): value for key, value in labels.items() if key.startswith(f"{LABEL}.")}
    require_wishes(wishes)
    _require_weights(wishes.weights, told)
    request, limit = _memory(image, told, wishes.memory)
    return Service(
        name=wishes.name or default_name(told["model.id"], told["target"]),
        image=image,
        model=told["model.id"],
        target=told["target"],
        task=told["task"],
        version=label_value(labels.get("org.opencontainers.image.version", "")),
        cpu=wishes.cpu,
        cpu_request=_cpu_request(told, wishes.cpu),
        memory_request=request,
        memory_limit=limit,
        replicas=wishes.replicas,
        max_replicas=wishes.max_replicas,
        annotations={f"{LABEL}/{key}": told[key] for key in sorted(told)},
        kserve=wishes.kserve,
        devices={told["gpu"]: 1} if "gpu" in told else {},
        pull_secret=wishes.pull_secret,
        api_key_secret=wishes.api_key_secret,
        claim="" if PINNED.fullmatch(wishes.weights) else wishes.weights,
        volume_image=wishes.weights if PINNED.fullmatch(wishes.weights) else "",
        weights_path=told.get("weights", ""),
        allowed_namespaces=_words(wishes.allow_namespaces),
        without=_words(wishes.without),
    )


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


def _require(image: str, labels: Mapping[str, str]) -> None:
    require_pinned(image)
    lacks = [name for name in ("target", "task", "model.id") if f"{LABEL}.{name}" not in labels]
    if lacks:
        raise UsageError(f"{image} was not built by `invoke build`", "manifests are made from such an image's labels")
    gate = labels.get(f"{LABEL}.gate", "")
    if gate == "passed":
        return
    reason = labels.get(f"{LABEL}.gate.override", "")
    said = f"its outputs differ, and were accepted: {reason}" if gate else "it was never verified"
    raise GateError(f"{image} carries no passed verdict: {said}", "deploy an image whose gate passed")


def require_wishes(wishes: Wishes) -> None:
    """Raise `UsageError` for a wish that no cluster could fulfil."""
    if wishes.name and not NAME.fullmatch(wishes.name):
        raise UsageError(f"--name {wishes.name!r} is no name of a Service", "52 lower-case letters, digits and dashes")
    if not CPU.fullmatch(wishes.cpu):
        raise UsageError(f"--cpu {wishes.cpu!r} is no amount", "such as 2, 0.5 or 500m")
    if wishes.memory and not MEMORY.fullmatch(wishes.memory):
        raise UsageError(f"--memory {wishes.memory!r} is no amount", "such as 768Mi or 2Gi")
    if not 1 <= wishes.replicas <= wishes.max_replicas:
        raise UsageError(
            f"--replicas {wishes.replicas} and --max-replicas {wishes.max_replicas} leave no number of pods",
            "at least 1, and no more than --max-replicas",
        )
    if unknown := set(_words(wishes.without)) - OPTIONAL.keys():
        raise UsageError(
            f"--without {', '.join(sorted(unknown))}: no such part", f"the parts are {', '.join(OPTIONAL)}"
        )
    _require_names(wishes)


def _words(text: str) -> tuple[str, ...]:
    """What commas separate."""
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _require_names(wishes: Wishes) -> None:
    namespaces = [("allow-namespaces", each) for each in _words(wishes.allow_namespaces)]
    for flag, name in [("pull-secret", wishes.pull_secret), ("api-key-secret", wishes.api_key_secret), *namespaces]:
        if name and not SECRET.fullmatch(name):
            raise UsageError(f"--{flag} {name!r} is no name in Kubernetes", "lower-case letters, digits, dashes, dots")


def _require_weights(weights: str, told: Mapping[str, str]) -> None:
    if bool(weights) == ("weights" in told) and (not weights or PINNED.fullmatch(weights) or SECRET.fullmatch(weights)):
        return
    if weights and "weights" not in told:
        raise UsageError("the image carries its weights: there is nothing to mount", "leave --weights out")
    if not weights:
        raise UsageError(
            f"the image does not carry its weights: they are to be mounted at {told['weights']}",
            "add --weights CLAIM (a PersistentVolumeClaim with the model's files) or --weights IMAGE@sha256:...",
        )
    raise UsageError(
        f"--weights {weights!r} is neither a claim's name nor an image by digest",
        "such as minilm-weights, or registry.example/team/minilm-weights@sha256:...",
    )


def _cpu_request(told: Mapping[str, str], limit: str) -> str:
    """What one client after another kept busy when the image was proved, in tenths: half of the limit to all of it.

    A machine that has other work at the time shows less than an image takes, never more.
    """
    most = _millicores(limit)
    used = math.ceil(float(told.get("cpu.used", 0)) * 10) * 100
    return f"{max(used, most // 2)}m" if 0 < used < most else limit


def _millicores(amount: str) -> int:
    return int(amount[:-1]) if amount.endswith("m") else int(float(amount) * 1000)


def _memory(image: str, told: Mapping[str, str], asked: str) -> tuple[str, str]:
    """What a pod asks for, and what ends it. Below what the artifact states, its server would not start."""
    if asked:
        return asked, asked
    peak, needed = (int(told.get(f"memory.{name}", 0)) for name in ("peak", "needed"))
    if not peak:
        raise UsageError(f"{image} does not say how much memory it takes", "build it again, or name it: --memory 2Gi")
    return _mebibytes(max(peak * HEADROOM, needed)), _mebibytes(max(peak * LIMIT, needed * HEADROOM))


def _mebibytes(count: float) -> str:
    """Whole steps of 64 MiB, so that a rebuild does not change the manifest for a page."""
    return f"{max(2, -(-int(count) // (64 * MIB))) * 64}Mi"
