"""The smoke test: files, hardware, reference, HTTP, latency, in this order; the first failure decides the exit code."""

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from images.inside import compare, gate, loaded, served, server, threads
from images.inside.compare import Figures, Miss, Reference
from images.inside.engine.contract import Wish
from images.inside.errors import ArtifactError, CannotRunError, Exit, FatalError, OutputsDifferError
from images.inside.export import digests
from images.inside.loaded import Loaded, LoadedEngine, Model, describe
from images.inside.logs import log
from images.inside.records import REFERENCE, Bounds, Manifest, read_manifest
from images.inside.report import Check, Report
from images.inside.settings import Settings

MIB = 2**20
SETTINGS = Settings(log_level="error", max_body_bytes=1 << 30, max_inputs=1 << 20)
"""The tested server's: a suite of one's own may be large."""


def check_files(artifact: Path, manifest: Manifest) -> str:
    """Every file against the manifest's digests. Raises `ArtifactError` naming those that differ.

    Raises `CannotRunError` for a file that this user may not read: one that is mounted has the host's permissions.
    """
    stated = {file.path: file for file in manifest.files}
    try:
        found = {file.path: file for file in digests(artifact)}
    except PermissionError as error:
        raise CannotRunError(f"user {os.getuid()} may not read {error.filename}: make it readable to all") from error
    if missing := sorted(stated.keys() - found.keys()):
        raise ArtifactError(f"missing: {', '.join(_named(artifact / path, path) for path in missing)}")
    if changed := sorted(path for path, file in found.items() if stated.get(path) != file):
        raise ArtifactError(f"not as the manifest's digests say: {', '.join(changed)}")
    return f"{len(found)} files, {sum(file.size for file in found.values()) / MIB:.1f} MiB"


def _named(file: Path, path: str) -> str:
    """A missing file by its path, and by where it was to be mounted."""
    return f"{path} (to be mounted as {file.readlink()})" if file.is_symlink() else path


def check_hardware(manifest: Manifest) -> str:
    """This machine against what the artifact needs. Raises `CannotRunError` saying what is missing."""
    if platform.machine() != manifest.architecture:
        raise CannotRunError(f"the artifact is for {manifest.architecture}; this machine is {platform.machine()}")
    memory = threads.memory_limit()
    if memory < manifest.memory_bytes:
        raise CannotRunError(
            f"{manifest.memory_bytes / MIB:.0f} MiB of memory are needed; this container may use {memory / MIB:.0f} MiB"
        )
    return f"{manifest.architecture}, {threads.cpu_threads()} threads, {memory / MIB:.0f} MiB of memory"


def checked(artifact: Path, manifest: Manifest, settings: Settings) -> Model:
    """What `serve` does before it says ready: files, hardware, reference. Raises as the checks do."""
    check_files(artifact, manifest)
    check_hardware(manifest)
    model = loaded.load(artifact, wish(settings))
    misses = compare.misses(_measured(model, compare.load(artifact / REFERENCE)), manifest.bounds)
    if misses and settings.accept_differences:
        log(
            logging.WARNING,
            "outputs differ from the original's, as the build accepted",
            misses=[str(miss) for miss in misses[:5]],
        )
        return model
    _raise(misses)
    return model


def _measured(model: Model, reference: Reference) -> list[Figures]:
    """The gate's figures. A runtime that fails on an input says nothing of what the original says."""
    try:
        return gate.measure(model, reference)
    except FatalError:
        raise
    except Exception as error:  # runtimes' errors share no base class
        raise OutputsDifferError(f"the runtime fails on the suite: {str(error) or type(error).__name__}") from error


def wish(settings: Settings) -> Wish:
    """What the settings ask of the runtime."""
    return Wish(
        threads=settings.threads or threads.cpu_threads(),
        slots=settings.slots,
        kv_tokens=settings.max_kv_tokens,
        device=settings.device,
    )


def run(artifact: Path, device: str = "", url: str = "") -> Report:
    """The whole smoke test.

    Args:
        artifact: the folder.
        device: where to run it; empty for what the image is made for.
        url: a server of this very artifact to ask over HTTP, such as a Service of a cluster; empty for one of its own.

    """
    return _Smoke(artifact, device, url).run()


@dataclass
class _Smoke:
    """Collects what the steps find; each step needs the one before."""

    artifact: Path
    device: str = ""
    url: str = ""
    checks: list[Check] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Report:
        try:
            manifest = self._step("manifest", lambda: (read_manifest(self.artifact), ""))
            self._step("files", lambda: (None, check_files(self.artifact, manifest)))
            self._step("hardware", lambda: (None, check_hardware(manifest)))
            model = self._step("load", self._load)
            reference = self._step("reference", lambda: self._reference(model))
            self._step("http", lambda: self._timed(model, reference))
        except FatalError as error:
            return self._report(error.exit_code)
        finally:
            if isinstance(model := self.found.get("load"), LoadedEngine):
                model.process.end()
        return self._report(Exit.PASS)

    def _step(self, name: str, action: Callable[[], tuple[Any, str]]) -> Any:
        since = time.perf_counter()
        try:
            value, detail = action()
        except FatalError as error:
            self.checks.append(Check(name=name, passed=False, detail=str(error), seconds=time.perf_counter() - since))
            raise
        self.checks.append(Check(name=name, passed=True, detail=detail, seconds=time.perf_counter() - since))
        self.found[name] = value
        return value

    def _load(self) -> tuple[Model, str]:
        model = loaded.load(self.artifact, wish(msgspec.structs.replace(SETTINGS, device=self.device)))
        self.found["runtime"] = describe(model)
        return model, " ".join(f"{key}={value}" for key, value in self.found["runtime"].items())

    def _reference(self, model: Model) -> tuple[Reference, str]:
        reference = compare.load(self.artifact / REFERENCE)
        self.found["figures"] = _measured(model, reference)
        self._held(self.found["figures"], model.manifest)
        return reference, f"{len(reference.cases)} inputs reproduce the original"

    def _timed(self, model: Model, reference: Reference) -> tuple[None, str]:
        since, used = time.perf_counter(), threads.cpu_seconds()
        done = self._http(model, reference)
        self.found["cpus"] = (threads.cpu_seconds() - used) / (time.perf_counter() - since)
        return done

    def _http(self, model: Model, reference: Reference) -> tuple[None, str]:
        if not isinstance(model, Loaded):
            self.found["token_latency"], said = served.check_answers(model, reference, self._served(model))
            return None, said
        with self._served(model) as url:
            self.found["http_figures"] = served.check_http(model, reference, url)
            self._held(self.found["http_figures"], model.manifest)
            self.found["latency"] = served.measure_latency(model, reference.cases[0].payload, url)
        latency = self.found["latency"]
        return None, f"p50 {latency.http_p50_ms:.1f} ms, p95 {latency.http_p95_ms:.1f} ms for the first input"

    def _served(self, model: Model) -> AbstractContextManager[str]:
        if not self.url:
            return server.running(model.manifest, SETTINGS, lambda: model)
        served.await_ready(self.url)
        return nullcontext(self.url.rstrip("/"))

    def _held(self, measured: Sequence[Figures], manifest: Manifest) -> None:
        misses = compare.misses(measured, manifest.bounds)
        self.found["misses"] = [str(miss) for miss in misses]
        _raise(misses)

    def _report(self, code: Exit) -> Report:
        manifest: Manifest | None = self.found.get("manifest")
        about = (
            {name: getattr(manifest, name) for name in ("target", "task", "mode", "bounds")} if manifest else _UNKNOWN
        )
        results = {
            name: self.found[name]
            for name in ("figures", "http_figures", "misses", "latency", "token_latency", "runtime", "cpus")
            if name in self.found
        }
        return Report(
            exit=code,
            model=manifest.model.id if manifest else "",
            checks=self.checks,
            peak_memory_bytes=threads.peak_memory(),
            **about,
            **results,
        )


_UNKNOWN = {"target": "", "task": "", "mode": "", "bounds": Bounds()}


def _raise(misses: Sequence[Miss]) -> None:
    if misses:
        raise OutputsDifferError("; ".join(str(miss) for miss in misses[:5]))
