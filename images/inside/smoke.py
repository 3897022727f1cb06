"""The smoke test: files, hardware, reference, HTTP, latency, in this order; the first failure decides the exit code."""

import http.client
import json
import logging
import os
import platform
import statistics
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np

from images.inside import compare, gate, loaded, server, threads
from images.inside.compare import Figures, Miss, Reference
from images.inside.contract import Outputs
from images.inside.engine import proof as of_engines
from images.inside.engine.contract import Wish
from images.inside.errors import ArtifactError, CannotRunError, Exit, FatalError, OutputsDifferError
from images.inside.export import digests
from images.inside.generation import bench, proof
from images.inside.loaded import Loaded, LoadedEngine, LoadedGenerator, Model, describe
from images.inside.logs import log
from images.inside.records import REFERENCE, Bounds, Manifest, read_manifest
from images.inside.report import Check, Latency, Report, TokenLatency
from images.inside.settings import Settings, from_environment

MIB = 2**20
REPEATS = 40
"""Requests behind a latency figure: few enough for a smoke test, enough for a 95th percentile."""
PATIENCE = 60.0
"""Seconds in which a server that was there before the test says that it is ready."""
ANSWERS, ANSWER = 10, 16
"""Answers behind the latency of a model that generates, and the tokens of each."""
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


def check_http(model: Loaded, reference: Reference, url: str) -> list[Figures]:
    """The same through the served API: `/predict`, and `/v1/embeddings` where the model makes embeddings."""
    measured = []
    for case in reference.cases:
        answer = _post(f"{url}/predict", case.payload)
        outputs = _outputs(model, url, case.payload, answer)
        # By the task and not by what came back: a server that answers nothing is compared, too.
        original = reference.outputs[case.name] if model.task.name == "feature-extraction" else []
        measured.append(compare.figures(model.task, case, original, outputs, answer))
    return measured


def check_answers(
    model: LoadedGenerator | LoadedEngine, reference: Reference, served: AbstractContextManager[str]
) -> tuple[TokenLatency, str]:
    """What a model that generates answers through the served API, and when. Raises `OutputsDifferError`."""
    # The server is the generator's only user, so it is asked before.
    own = (of_engines if isinstance(model, LoadedEngine) else proof).answers(model, reference)
    with served as url:
        said = proof.check_http(model, reference, own, lambda path, body: _post(f"{url}{path}", body))
        latency = measure_tokens(model, proof.prompt(reference), url)
    first, after = f"first token p50 {latency.first_p50_ms:.1f} ms", f"next {latency.next_p50_ms:.1f} ms"
    return latency, f"{said}; {first}, {after}"


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
            self.found["token_latency"], said = check_answers(model, reference, self._served(model))
            return None, said
        with self._served(model) as url:
            self.found["http_figures"] = check_http(model, reference, url)
            self._held(self.found["http_figures"], model.manifest)
            self.found["latency"] = measure_latency(model, reference.cases[0].payload, url)
        latency = self.found["latency"]
        return None, f"p50 {latency.http_p50_ms:.1f} ms, p95 {latency.http_p95_ms:.1f} ms for the first input"

    def _served(self, model: Model) -> AbstractContextManager[str]:
        if not self.url:
            return server.running(model.manifest, SETTINGS, lambda: model)
        await_ready(self.url)
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


def await_ready(url: str, seconds: float = PATIENCE) -> None:
    """Wait until a server says that it is ready: a Service sends requests on a little later than its pods are.

    Raises `OutputsDifferError` when it does not in this time: nothing came that could be compared.
    """
    until = time.monotonic() + seconds
    while said := _unready(url):
        if time.monotonic() > until:
            raise OutputsDifferError(f"{url} is not ready after {seconds:.0f} s: {said}")
        time.sleep(0.5)


def _unready(url: str) -> str:
    """Why a server is not ready; empty when it is."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v2/health/ready", timeout=5):  # noqa: S310 - the caller names it
            return ""
    except (OSError, http.client.HTTPException) as error:
        return str(error)


def measure_latency(model: Loaded, payload: Mapping[str, Any], url: str) -> Latency:
    """Wall time of one input, in process and over HTTP on loopback."""
    runner = _milliseconds(lambda: model.ask(payload))
    http = _milliseconds(lambda: _post(f"{url}/predict", payload))
    return Latency(runner_p50_ms=runner[0], runner_p95_ms=runner[1], http_p50_ms=http[0], http_p95_ms=http[1])


def measure_tokens(model: LoadedGenerator | LoadedEngine, prompt: Sequence[int], url: str) -> TokenLatency:
    """Wall time of streamed answers to one prompt, one after the other, over HTTP on loopback."""
    body = bench.body(model.manifest.model.id, prompt, ANSWER)
    where = urlsplit(url)
    with closing(http.client.HTTPConnection(where.hostname or "", where.port)) as connection:
        answers = [bench.ask(connection, body, _authorization()) for _ in range(ANSWERS)]
    first, gaps = [answer.first for answer in answers], [gap for answer in answers for gap in answer.gaps]
    return TokenLatency(
        first_p50_ms=statistics.median(first) * 1000,
        first_p95_ms=bench.p95(first) * 1000,
        next_p50_ms=statistics.median(gaps) * 1000,
        next_p95_ms=bench.p95(gaps) * 1000,
    )


def _milliseconds(action: Callable[[], object]) -> tuple[float, float]:
    times = []
    for _ in range(REPEATS):
        since = time.perf_counter()
        action()
        times.append((time.perf_counter() - since) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


def _raise(misses: Sequence[Miss]) -> None:
    if misses:
        raise OutputsDifferError("; ".join(str(miss) for miss in misses[:5]))


def _outputs(model: Loaded, url: str, payload: Mapping[str, Any], answer: Any) -> list[Outputs]:
    """The raw outputs as far as the API shows them: vectors of texts or of tokens; other answers have none."""
    if model.manifest.embedding:
        return _vectors(model, url, payload)
    vectors = answer if model.task.name == "feature-extraction" else []
    return [{"last_hidden_state": np.array(rows, np.float32)} for rows in vectors]


def _vectors(model: Loaded, url: str, payload: Mapping[str, Any]) -> list[Outputs]:
    body = {"model": model.manifest.model.id, "input": payload["inputs"], "truncate": True}
    data = _post(f"{url}/v1/embeddings", body)["data"]
    return [{"sentence_embedding": np.array(entry["embedding"], np.float32)} for entry in data]


def _authorization() -> Mapping[str, str]:
    """What a server that is closed by the container's own key asks for; the test's own server is open."""
    key = from_environment(os.environ).api_key
    return {"authorization": f"Bearer {key}"} if key else {}


def _post(url: str, body: Mapping[str, Any]) -> Any:
    headers = {"content-type": "application/json", **_authorization()}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the caller names it
    try:
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
            return json.load(response)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: what it says is no JSON
        raise OutputsDifferError(f"the served API failed: POST {url}: {error}") from error
