"""The straight line from a model to a verified image: the table of contents of this folder."""

import hashlib
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from images import (
    base,
    candidate,
    context,
    devices,
    engine,
    engines,
    jobs,
    layout,
    locks,
    model,
    modes,
    plan,
    record,
    render,
    revision,
    spec,
    suite,
    verify,
    wheels,
)
from images.config import ROOT, Config
from images.errors import BusyError, UsageError, disk_guard
from images.progress import Progress
from images.record import Record
from images.selection import Criteria


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for.

    Attributes:
        builder: the buildx builder that is to build, by name; empty for the engine itself.

    """

    target: str
    model: str
    task: str = ""
    options: plan.Options = field(default_factory=plan.Options)
    builder: str = ""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A named image.

    Attributes:
        record: what is known about it.
        file: where that is written.
        fresh: False when it was there already and nothing was built.
        flags: what a container of it is told on this machine: its device, where its weights are mounted.

    """

    record: Record
    file: Path
    fresh: bool
    flags: tuple[str, ...] = ()


def prepare(request: Request, config: Config, progress: Progress) -> candidate.Prepared:
    """Everything up to the decision: target, model, bases, plan. Changes nothing but caches."""
    target = spec.load(request.target)
    modes.require(target, request.options.mode, request.options.extra)
    _check_locks(target, config)
    found = _resolved(request, target, config, progress)
    bases, named = _bases(config, progress)
    job = plan.make(
        target,
        found.facts,
        found.task,
        request.options,
        dockerfile=render.dockerfile(target),
        code=context.code(target.module),
        locks={name: target.lock(name).read_bytes() for name in target.environments},
        bases=named,
    )
    return candidate.Prepared(job=job, model=found, bases=bases)


def _check_locks(target: spec.TargetSpec, config: Config) -> None:
    for environment in target.environments:
        locks.check_current(
            target.lock_source(environment),
            target.lock(environment),
            python=config.bootstrap.python,
            platform=target.platforms[0],
            without=target.without(environment),
        )


def _resolved(request: Request, target: spec.TargetSpec, config: Config, progress: Progress) -> model.ModelRef:
    """The model, pinned, whose task the user's own inputs are of."""
    progress.step(f"resolving {request.model}")
    criteria = Criteria(
        tasks=target.tasks,
        task=request.task,
        refused=target.refused_tasks,
        elsewhere=spec.by_task(),
        allow_pickle=request.options.allow_pickle,
        trust_remote_code=request.options.trust_remote_code,
    )
    found = model.resolve(request.model, criteria, cache=config.cache, report=progress.detail)
    for flag, content in {suite.FLAG: request.options.suite, **request.options.requests}.items():
        suite.require(content, found.task, flag)
    return found


def build(request: Request, config: Config, progress: Progress, dist: Path = ROOT / "dist") -> Built:
    """One verified, named image. Raises an `ImageError` of the kind that went wrong, and leaves nothing half-made."""
    prepared = prepare(request, config, progress)
    job = prepared.job
    with disk_guard(config.cache), _alone(job.tag, config.cache):
        machine = engines.require(config)
        device = devices.choose(machine, gpu=job.target.gpu)
        if (known := current(machine, job, dist)) is not None:
            return Built(record=known, file=record.path(dist, job.tag), fresh=False, flags=_told(machine, job, device))
        with candidate.make(machine, prepared, request.builder, config, progress) as image:
            progress.step("measuring the image")
            unpacked = wheels.unpacked(job.target.lock("run"), config.cache)
            sizes = record.measure(machine, image, job.target, unpacked)
            progress.step("proving the artifact in the finished image (smoke test, no network, read-only)")
            with _weights(prepared, config) as weights:
                verdict = verify.run(machine, image, device=device, weights=weights)
            verify.hold(verdict, override=bool(job.override))
            facts = record.info(machine, image)
            created = record.now()
            labels = plan.labels(job, record.figures(verdict, sizes, facts, job.override), created)
            final = _named(machine, image, job, labels, config)
        made = record.make(
            job,
            machine,
            final,
            materials=_materials(prepared, config),
            sizes=sizes,
            facts=facts,
            verdict=verdict,
            created=created,
        )
        return Built(record=made, file=record.write(dist, made), fresh=True, flags=_told(machine, job, device))


def job(request: Request, order: jobs.Order, config: Config, progress: Progress) -> str:
    """Write a build that runs in a cluster: the Job, and the folders that it gets. The name that it will push.

    Raises:
        UsageError: the folder is there, or the order is not possible.

    """
    if order.out.exists():
        raise UsageError(f"{order.out} is there already", "name a folder to make with --out")
    jobs.require(order)
    prepared = prepare(request, config, progress)
    try:
        with disk_guard(order.out), candidate.context_of(prepared, config, progress) as folder:
            context.copy(folder, order.out / jobs.CONTEXT)
            layouts = layout.write(prepared.bases, platform.machine(), order.out / jobs.BASES)
            made = jobs.decide(prepared.job, layouts, order)
            (order.out / jobs.FILE).write_text(jobs.text(made))
    except BaseException:
        shutil.rmtree(order.out, ignore_errors=True)
        raise
    return made.to


def current(machine: engine.Engine, job: plan.Plan, dist: Path) -> Record | None:
    """The record of an image that this very plan made, when the engine still has it under its name.

    One whose gate failed counts only when its failure is accepted again, for the same reason.
    """
    image, known = machine.image(job.tag), record.read(dist, job.tag)
    same = image and known and image.id == known.image and image.labels.get(f"{plan.LABEL}.plan") == job.digest
    return known if same and known and (not known.override or known.override.reason == job.override) else None


def _told(machine: engine.Engine, job: plan.Plan, device: str) -> tuple[str, ...]:
    """What a container of the image is told on this machine, to be typed by a person who knows the model's folder."""
    weights = Path("/path/to/the/model") if job.mounts_model else None
    return devices.flags(machine, job.tag, device=device, weights=weights)


def _materials(prepared: candidate.Prepared, config: Config) -> record.Materials:
    job = prepared.job
    return record.Materials(
        files=list(prepared.model.files),
        wheels={name: wheels.hashes(job.target.lock(name), config.cache) for name in (job.exporter, "run")},
        revision=revision.current(),
    )


def _bases(config: Config, progress: Progress) -> tuple[tuple[base.Base, ...], dict[str, tuple[str, str]]]:
    """Bootstrapped bases and, of all, (reference, digest) by kind."""
    given = {"builder": config.builder_base, "runtime": config.runtime_base}
    named = {kind: (image, image.partition("@")[2]) for kind, image in given.items() if image}
    if len(named) == len(given):
        return (), named
    bases = base.bootstrap(config, progress.step)
    return bases, {each.kind: (each.reference, each.digest) for each in bases} | named


@contextmanager
def _alone(tag: str, cache: Path) -> Iterator[None]:
    """Only one build of a tag at a time: the second would name its image over the first's."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{record.slug(tag)}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BusyError(
            f"another build of {tag} is under way", "wait for it, or give this one another --tag"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _weights(prepared: candidate.Prepared, config: Config) -> Iterator[Path | None]:
    """The model's own files as a folder to mount, where the image does not have them. A cache's links lead outside."""
    if not prepared.job.mounts_model:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=config.cache, prefix="weights-") as folder:
        Path(folder).chmod(0o755)
        for file in prepared.model.files:
            _show_to_all((prepared.model.folder / file.path).resolve(), Path(folder, file.path))
        yield Path(folder)


def _show_to_all(source: Path, path: Path) -> None:
    """Another name of a file, or a copy of one that not all may read: the container has a user of its own."""
    if source.stat().st_mode & stat.S_IROTH:
        context.link(source, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    path.chmod(0o644)


def _named(machine: engine.Engine, image: str, job: plan.Plan, labels: dict[str, str], config: Config) -> str:
    """The verified file system under its name: the same layers, with what was measured as labels."""
    before = machine.image(job.tag)
    temporary = f"localhost/modelyard/candidate:{hashlib.sha256(f'{job.digest} {job.tag}'.encode()).hexdigest()[:16]}"
    machine.tag(image, temporary)
    try:
        final = machine.relabel(temporary, labels, config.cache, accepted=bool(job.override))
        machine.tag(final, job.tag)
    finally:
        machine.untag(temporary)
    if before and before.id != final:
        machine.discard(before.id)
    return final
