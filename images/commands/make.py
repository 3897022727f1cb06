"""The commands that choose, build and take apart."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from invoke.context import Context

from images import config, flags, spec
from images.commands import common
from images.commands.common import as_json, command, image_of, readable, target_of

TARGETS_FLAGS = flags.declared()


@command(help={"json": "print JSON"})
@readable
def targets(_context: Context, json: bool = False) -> None:
    """List the targets: tasks, quantisation modes, platforms."""
    from images import present

    specs = [spec.load(name) for name in spec.names()]
    print(as_json([_target_json(each) for each in specs]) if json else present.targets(specs))


def _target_json(target: spec.TargetSpec) -> dict[str, Any]:
    return {
        "name": target.name,
        "summary": target.summary,
        "tasks": target.tasks,
        "modes": {task: list(dict.fromkeys(mode.name for mode in target.modes_for(task))) for task in target.tasks},
        "exporters": {
            exporter: [mode.name for mode in target.modes if mode.exporter == exporter] for exporter in target.exporters
        },
        "options": {name: option.summary for name, option in target.options.items()},
        "platforms": target.platforms,
        "size_budget_mib": target.size_budget_mib,
    }


@command(
    help={
        "model": "as for build",
        "for": "where it is to run, such as server-cpu, server-gpu or phone; anywhere when left out",
        "task": "the task, where the model does not tell",
        "allow-pickle": "consider a checkpoint that can run code when it is loaded",
        "trust-remote-code": "consider a model that comes with Python code",
        "json": "print JSON",
    }
)
@readable
def recommend(
    _context: Context,
    model: str = "",
    for_: str = "",
    task: str = "",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    json: bool = False,
) -> None:
    """List the targets that suit a model, best first: why, with which modes and limits, and what to type."""
    from images import model as models
    from images import present, progress
    from images import recommend as advice
    from images.selection import Criteria

    settings, specs = config.load(), [spec.load(name) for name in spec.names()]
    advice.require_place(specs, for_)
    criteria = Criteria(task=task, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    named = settings.model(model)
    with progress.shown(quiet=json) as shown:
        shown.step(f"looking at {named}")
        sketch = models.sketch(named, criteria, cache=settings.cache, report=shown.detail)
    advised = advice.make(specs, sketch, advice.Wanted(model=named, task=task, place=for_))
    print(as_json(advised) if json else present.advice(advised))


@command(
    help={
        "target": "which target; see `invoke targets`",
        "model": "org/name@revision, a folder, pypi:name==version or example:name; the first example when left out",
        "task": "the task, where the model does not tell",
        "quantize": "quantisation mode; see `invoke targets`",
        "exporter": "who makes the artifact, where a target has several; see `invoke targets`",
        "suite": "your own inputs for the gate: one JSON request a line",
        "tag": "name of the image",
        "pooling": "for an encoder that states none: mean, cls, max, lasttoken",
        "max-length": "cap on input tokens; the model's own limit when left out",
        "accept-failed-gate": "a reason to name an image although the gate fails; it is written into the image",
        "allow-pickle": "load a checkpoint that can run code when it is loaded",
        "trust-remote-code": "run Python code that comes with the model",
        "builder": "a buildx builder that builds elsewhere, such as on a cluster's BuildKit; see `docker buildx ls`",
        "dry-run": "say what would be built, build nothing",
        "json": "print the record as JSON, nothing else",
        **flags.helps(TARGETS_FLAGS),
    }
)
@flags.added(TARGETS_FLAGS)
@readable
def build(
    _context: Context,
    target: str = "",
    model: str = "",
    task: str = "",
    quantize: str = "",
    exporter: str = "",
    suite: str = "",
    tag: str = "",
    pooling: str = "",
    max_length: int = 0,
    accept_failed_gate: str = "",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    builder: str = "",
    dry_run: bool = False,
    json: bool = False,
    extra: Mapping[str, str | bool] = MappingProxyType({}),
) -> None:
    """Build one verified image from one model."""
    from images import build as line
    from images import engines, plan, present, progress, record

    settings = config.load()
    options = plan.Options(
        mode=quantize,
        exporter=exporter,
        extra=extra,
        tag=tag,
        suite=_suite(suite),
        requests=_requests(target_of(target), extra),
        pooling=pooling,
        max_length=max_length,
        override=accept_failed_gate,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    request = line.Request(
        target=target_of(target), model=settings.model(model), task=task, options=options, builder=builder
    )
    with progress.shown(quiet=json) as shown:
        if dry_run:
            job = line.prepare(request, settings, shown).job
            print(as_json(present.plan_facts(job)) if json else present.plan(job))
            return
        result = line.build(request, settings, shown, common.DIST)
    print(record.as_json(result.record) if json else present.built(result, engines.require(settings)))


def _suite(file: str) -> bytes:
    from images import suite

    return suite.read(Path(file)) if file else b""


def _requests(target: str, extra: Mapping[str, str | bool]) -> dict[str, bytes]:
    from images import suite

    return suite.named(spec.load(target).options, extra)


@command(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "out": "the folder to make; the image's name below dist/ when left out",
    }
)
@readable
def extract(_context: Context, target: str = "", image: str = "", out: str = "") -> None:
    """Copy the artifact out of an image: weights, tokenizer, manifest, suite; for an app that ships it."""
    from images import engines, record
    from images import extract as extraction

    reference = image_of(target, image)
    folder = Path(out) if out else record.path(common.DIST, reference).parent / "artifact"
    manifest = extraction.run(engines.require(config.load()), reference, folder)
    print(f"{folder}: {len(manifest.files) + 1} files; {manifest.entry} is the model, every digest is in manifest.json")
