"""A target, a model and the user's options to one frozen plan. Pure: no disk, no engine, no clock."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from images import modes
from images.errors import UsageError
from images.inside.records import SCHEMA, ExportJob, ModelFacts, SourceJob
from images.spec import Mode, TargetSpec

LABEL = "dev.modelyard"
"""Prefix of our own labels."""
GPU = "nvidia.com/gpu"
"""NVIDIA's GPUs, as CDI names the devices and as Kubernetes' device plugin names the resource."""
REFERENCE = re.compile(
    r"(?P<name>(?:(?:localhost|[a-zA-Z0-9][a-zA-Z0-9-]*(?=[.:])(?:\.[a-zA-Z0-9-]+)*)(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+|/)[a-z0-9]+)*)(?::(?P<tag>\w[\w.-]{0,127}))?",
    re.ASCII,
)
"""An image reference with an optional tag, as the OCI distribution specification defines both.

What engines take for a registry's host has a dot or a port in it, or is `localhost`.
"""
LONGEST_NAME = 255
WEIGHTS = "/weights"
"""Where an image without its model's weights looks for them."""
POOLED = "feature-extraction"
"""The task whose texts can become one vector each."""
POOLINGS = ("mean", "cls", "max", "lasttoken")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user said on the command line beyond target and model.

    Attributes:
        mode: quantisation mode; empty for the target's first.
        exporter: who is to make it; empty for the first that has the mode.
        extra: the flags that targets add, as given: by name, only those that differ from nothing and from False.
        tag: image reference; empty for one made of model and target.
        suite: the user's own inputs, one JSON request a line.
        requests: contents of the files that flags of targets name, by flag; one JSON request a line.
        override: the reason for which a failed gate is accepted; empty to hold the gate.

    """

    mode: str = ""
    exporter: str = ""
    extra: Mapping[str, str | bool] = field(default_factory=dict)
    tag: str = ""
    suite: bytes = b""
    requests: Mapping[str, bytes] = field(default_factory=dict)
    pooling: str = ""
    max_length: int = 0
    trust_remote_code: bool = False
    allow_pickle: bool = False
    override: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One build, decided.

    Attributes:
        tag: the name that the image gets once it is verified.
        args: the Dockerfile's build arguments.
        texts: small files of the build context, by path.
        digest: sha256 over everything that decides the image; equal plans make equal artifacts.
        mounts_model: whether the model's weights stay outside of the image, to be mounted when it runs.

    """

    target: TargetSpec
    model: ModelFacts
    mode: str
    exporter: str
    task: str
    tag: str
    args: Mapping[str, str]
    texts: Mapping[str, bytes]
    digest: str
    override: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)
    mounts_model: bool = False


def make(
    target: TargetSpec,
    model: ModelFacts,
    task: str,
    options: Options,
    *,
    dockerfile: str,
    code: Mapping[str, bytes],
    locks: Mapping[str, bytes],
    bases: Mapping[str, tuple[str, str]],
) -> Plan:
    """Decide a build.

    Args:
        target: what to build.
        model: which model, pinned.
        task: the task, already inferred or named.
        options: the rest of the command line.
        dockerfile: the rendered text.
        code: the in-image code by its path in the context.
        locks: lock file contents by environment name.
        bases: `builder` and `runtime` to (local reference, digest).

    Raises:
        UsageError: the mode, exporter or pooling does not exist, the tag is not an image reference, the cap is no
            length, the target has no such flag, or the mode lacks one that it needs or has one that it does not take.

    """
    _check(options, task)
    mode = modes.choose(target, task, options.mode, options.exporter)
    given = {**modes.flags(target, options.extra), **{name: _sha256(text) for name, text in options.requests.items()}}
    modes.require_needs(target, mode, options.extra)
    texts = {
        **code,
        "Dockerfile": dockerfile.encode(),
        **_told(_source(target, model, task, options, given), _export(target, mode, given), options),
        **{f"targets/{target.module}/requirements.{key}.txt": locks[key] for key in target.used(mode.exporter)},
    }
    digests = {kind: digest for kind, (_, digest) in bases.items()}
    return Plan(
        target=target,
        model=model,
        mode=mode.name,
        exporter=mode.exporter,
        task=task,
        tag=reference(options.tag) if options.tag else default_tag(target, model, task, mode),
        args={"BUILDER_BASE": bases["builder"][0], "RUNTIME_BASE": bases["runtime"][0], "EXPORTER": mode.exporter},
        texts=texts,
        override=options.override,
        mounts_model=any(given[name] == option.mounts_model for name, option in target.options.items() if given[name]),
        bases=digests,
        digest=_digest(texts, digests),
    )


def _source(
    target: TargetSpec, model: ModelFacts, task: str, options: Options, given: Mapping[str, str | bool]
) -> SourceJob:
    return SourceJob(
        model=model,
        task=task,
        pooling=options.pooling,
        max_length=modes.longest(target, given, options.max_length or target.max_length),
        suite="suite.jsonl" if options.suite else "",
        dtype=target.dtype,
        trust_remote_code=options.trust_remote_code,
        allow_pickle=options.allow_pickle,
    )


def _export(target: TargetSpec, mode: Mode, given: Mapping[str, str | bool]) -> ExportJob:
    return ExportJob(
        target=target.name,
        exporter=mode.exporter,
        mode=mode.name,
        bounds=mode.bounds,
        least=mode.least,
        options=dict(given),
        deprecated=mode.deprecated,
    )


def _told(source: SourceJob, export: ExportJob, options: Options) -> dict[str, bytes]:
    """What the two steps in the builder are told, by path in the context."""
    return {
        "job/source/source.json": msgspec.json.encode(source),
        "job/export/export.json": msgspec.json.encode(export),
        **({"job/source/suite.jsonl": options.suite} if options.suite else {}),
        **{f"job/export/{name}.jsonl": text for name, text in options.requests.items()},
    }


def reference(text: str) -> str:
    """A valid image reference with a tag. Raises `UsageError`."""
    match = REFERENCE.fullmatch(text)
    if not match or len(match["name"]) > LONGEST_NAME:
        raise UsageError(
            f"--tag {text!r} is not an image reference", "it looks like registry.example/team/name:tag, in lower case"
        )
    return text if match["tag"] else f"{text}:latest"


def default_tag(target: TargetSpec, model: ModelFacts, task: str, mode: Mode) -> str:
    """`modelyard/<model>:<target>`, with the mode when it is not the exact one, and an exporter that was asked for."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.id.rsplit("/", 1)[-1].lower()).strip("-")
    suffix = "" if mode.name == "none" else f"-{mode.name}"
    usual = modes.choose(target, task, mode.name).exporter
    maker = "" if mode.exporter == usual else f"-{mode.exporter.replace('_', '-')}"
    return f"modelyard/{slug or 'model'}:{target.name}{maker}{suffix}"


def labels(plan: Plan, figures: Mapping[str, str], created: str) -> dict[str, str]:
    """The labels of the finished image: the OCI image specification's annotations, and ours.

    Args:
        plan: the build.
        figures: what verification measured, by label name without prefix.
        created: time of the build, RFC 3339.

    """
    return {
        "org.opencontainers.image.title": f"{plan.model.id} on {plan.target.name}",
        "org.opencontainers.image.description": f"{plan.task} ({plan.mode}), verified by Modelyard",
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.version": plan.model.revision or plan.model.digest,
        "org.opencontainers.image.base.name": plan.args["RUNTIME_BASE"],
        "org.opencontainers.image.base.digest": plan.bases["runtime"],
        f"{LABEL}.schema": str(SCHEMA),
        f"{LABEL}.plan": plan.digest,
        f"{LABEL}.target": plan.target.name,
        f"{LABEL}.task": plan.task,
        f"{LABEL}.mode": plan.mode,
        f"{LABEL}.exporter": plan.exporter,
        f"{LABEL}.model.id": plan.model.id,
        f"{LABEL}.model.source": plan.model.source,
        f"{LABEL}.model.revision": plan.model.revision,
        f"{LABEL}.model.digest": plan.model.digest,
        **({f"{LABEL}.gpu": GPU} if plan.target.gpu else {}),
        **({f"{LABEL}.weights": WEIGHTS} if plan.mounts_model else {}),
        **{f"{LABEL}.{key}": value for key, value in figures.items()},
    }


def _check(options: Options, task: str) -> None:
    if options.pooling and options.pooling not in POOLINGS:
        raise UsageError(f"there is no pooling {options.pooling!r}", f"the poolings are: {', '.join(POOLINGS)}")
    if options.pooling and task != POOLED:
        raise UsageError(f"--pooling is for {POOLED}, and this build is for {task}", "leave it out")
    if options.max_length < 0:
        raise UsageError(f"--max-length {options.max_length} is no length", "leave it out for the model's own limit")


def _digest(texts: Mapping[str, bytes], bases: Mapping[str, str]) -> str:
    parts = {path: hashlib.sha256(text).hexdigest() for path, text in texts.items()} | dict(bases)
    return _sha256(msgspec.json.encode(parts, order="sorted"))


def _sha256(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
