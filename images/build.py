"""The straight line from a model to a verified image: the table of contents of this folder."""

import hashlib
import json
import platform
import re
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
    context,
    devices,
    engine,
    engines,
    jobs,
    layout,
    locks,
    model,
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
from images.errors import BusyError, EngineError, ModelError, UsageError, disk_guard
from images.inside.original import ERROR
from images.progress import Progress
from images.record import Record
from images.selection import Criteria

STEP = re.compile(
    r"(?:#\d+ )?(?:\d+\.\d+ )?\[(?P<stage>[\w-]+) +\d+/\d+\] (?P<what>.+)|"
    r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (?P<podman>.+)"
)
"""The line that starts a step: BuildKit's plain progress, or podman's."""
THIS_ENGINE = "docker"
"""The buildx driver that builds in the engine itself, where the bases are."""
MARKER = re.compile(rf"{ERROR} (\{{.*\}})")


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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A decided build with the folders that it reads."""

    job: plan.Plan
    model: model.ModelRef
    bases: tuple[base.Base, ...]


def prepare(request: Request, config: Config, progress: Progress) -> Prepared:
    """Everything up to the decision: target, model, bases, plan. Changes nothing but caches."""
    target = spec.load(request.target)
    plan.require_mode(target, request.options.mode, request.options.extra)
    for environment in target.environments:
        locks.check_current(
            target.lock_source(environment),
            target.lock(environment),
            python=config.bootstrap.python,
            platform=target.platforms[0],
            without=target.without(environment),
        )
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
    return Prepared(job=job, model=found, bases=bases)


def build(request: Request, config: Config, progress: Progress, dist: Path = ROOT / "dist") -> Built:
    """One verified, named image. Raises an `ImageError` of the kind that went wrong, and leaves nothing half-made."""
    prepared = prepare(request, config, progress)
    job = prepared.job
    with disk_guard(config.cache), _alone(job.tag, config.cache):
        machine = engines.require(config)
        device = devices.choose(machine, gpu=job.target.gpu)
        if (known := current(machine, job, dist)) is not None:
            return Built(record=known, file=record.path(dist, job.tag), fresh=False, flags=_told(machine, job, device))
        driver = machine.driver(request.builder) if request.builder else ""
        for each in prepared.bases:
            machine.load_base(each.tar, each.reference)
        with _candidate(machine, prepared, (request.builder, driver), config, progress) as image:
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
        with disk_guard(order.out), _context(prepared, config, progress) as folder:
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


def log_file(config: Config, tag: str) -> Path:
    """Where the output of a build goes."""
    return config.cache / "logs" / f"{record.slug(tag)}.log"


def _materials(prepared: Prepared, config: Config) -> record.Materials:
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
def _candidate(
    machine: engine.Engine, prepared: Prepared, builder: tuple[str, str], config: Config, progress: Progress
) -> Iterator[str]:
    """The finished image without a name; gone at the end, unless a named one shares its layers."""
    with _context(prepared, config, progress) as folder, _away(builder, prepared, config) as away:
        image = _build(machine, folder, prepared.job, away, config, progress)
    try:
        yield image
    finally:
        machine.remove(image)


@contextmanager
def _context(prepared: Prepared, config: Config, progress: Progress) -> Iterator[Path]:
    """The build folder, with everything that the build reads; gone at the end."""
    job = prepared.job
    progress.step("fetching the locked wheels")
    collected = {
        name: wheels.collect(
            job.target.lock(name),
            config.cache,
            python=config.bootstrap.python,
            platform=job.target.platforms[0],
            extra_index_url=config.extra_index_url,
            report=progress.detail,
        )
        for name in job.target.used(job.exporter)
    }
    files = {file.path: prepared.model.folder / file.path for file in prepared.model.files}
    with context.write(job, model=files, wheels=collected, cache=config.cache) as folder:
        yield folder


@contextmanager
def _away(builder: tuple[str, str], prepared: Prepared, config: Config) -> Iterator[engine.Away | None]:
    """Who builds elsewhere, by name and driver, with the bases that only this machine has."""
    name, driver = builder
    if driver in {"", THIS_ENGINE}:
        yield engine.Away(builder=name, contexts={}) if name else None
        return
    with tempfile.TemporaryDirectory(dir=config.cache, prefix="bases-") as folder:
        made = layout.write(prepared.bases, platform.machine(), Path(folder))
        # By tag: some versions of buildx do not take a layout's digest.
        contexts = {each.reference: f"oci-layout://{each.folder}:{layout.TAG}" for each in made}
        yield engine.Away(builder=name, contexts=contexts)


@contextmanager
def _weights(prepared: Prepared, config: Config) -> Iterator[Path | None]:
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


def _build(
    machine: engine.Engine,
    folder: Path,
    job: plan.Plan,
    away: engine.Away | None,
    config: Config,
    progress: Progress,
) -> str:
    log = log_file(config, job.tag)
    log.parent.mkdir(parents=True, exist_ok=True)
    progress.step(f"building {job.tag} with {f'the builder {away.builder}' if away else machine}")
    try:
        with log.open("w") as file:
            return machine.build(
                folder, args=job.args, labels={}, log=file, line=lambda text: _show(text, progress), away=away
            )
    except EngineError as error:
        raise _explained(error, log) from error


def _explained(error: EngineError, log: Path) -> ModelError | EngineError:
    """What a step in the builder said about the model, else the failing step's own output."""
    if match := MARKER.search(log.read_text(errors="replace")):
        told = json.loads(match[1])
        return ModelError(told["what"], told["hint"])
    return EngineError(error.what, error.hint or f"the whole output is in {log}")


def _show(line: str, progress: Progress) -> None:
    if match := STEP.match(line):
        progress.detail(match["podman"] or f"{match['stage']}: {match['what']}")


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
