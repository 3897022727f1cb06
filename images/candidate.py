"""A decided build to a finished image without a name: the folder that is built, who builds it, and what that says."""

import json
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images import base, context, layout, model, plan, record, wheels
from images.config import Config
from images.engine import Away, Engine
from images.errors import EngineError, ModelError
from images.inside.original import ERROR
from images.progress import Progress

STEP = re.compile(
    r"(?:#\d+ )?(?:\d+\.\d+ )?\[(?P<stage>[\w-]+) +\d+/\d+\] (?P<what>.+)|"
    r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (?P<podman>.+)"
)
"""The line that starts a step: BuildKit's plain progress, or podman's."""
THIS_ENGINE = "docker"
"""The buildx driver that builds in the engine itself, where the bases are."""
MARKER = re.compile(rf"{ERROR} (\{{.*\}})")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A decided build with the folders that it reads."""

    job: plan.Plan
    model: model.ModelRef
    bases: tuple[base.Base, ...]


@contextmanager
def make(machine: Engine, prepared: Prepared, builder: str, config: Config, progress: Progress) -> Iterator[str]:
    """The finished image without a name; gone at the end, unless a named one shares its layers.

    Args:
        machine: the engine that has the image in the end.
        prepared: the build.
        builder: the buildx builder that is to build, by name; empty for the engine itself.
        config: the project's.
        progress: is told each step.

    Raises:
        ModelError: what a step in the builder says is wrong with the model.
        EngineError: any other step that failed.

    """
    driver = machine.driver(builder) if builder else ""
    for each in prepared.bases:
        machine.load_base(each.tar, each.reference)
    with context_of(prepared, config, progress) as folder, _away(builder, driver, prepared, config) as away:
        image = _build(machine, folder, prepared.job, away, config, progress)
    try:
        yield image
    finally:
        machine.remove(image)


@contextmanager
def context_of(prepared: Prepared, config: Config, progress: Progress) -> Iterator[Path]:
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
def _away(builder: str, driver: str, prepared: Prepared, config: Config) -> Iterator[Away | None]:
    """Who builds elsewhere, with the bases that only this machine has."""
    if driver in {"", THIS_ENGINE}:
        yield Away(builder=builder, contexts={}) if builder else None
        return
    with tempfile.TemporaryDirectory(dir=config.cache, prefix="bases-") as folder:
        made = layout.write(prepared.bases, platform.machine(), Path(folder))
        # By tag: some versions of buildx do not take a layout's digest.
        contexts = {each.reference: f"oci-layout://{each.folder}:{layout.TAG}" for each in made}
        yield Away(builder=builder, contexts=contexts)


def _build(
    machine: Engine,
    folder: Path,
    job: plan.Plan,
    away: Away | None,
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


def log_file(config: Config, tag: str) -> Path:
    """Where the output of a build goes."""
    return config.cache / "logs" / f"{record.slug(tag)}.log"
