"""What is in a finished image: measured from it, checked against the target's budget, written beside and into it."""

import fnmatch
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from images.engine import Engine
from images.errors import EngineError, GateError, UsageError
from images.inside import compare
from images.inside.records import FileDigest, Manifest, Struct
from images.inside.report import Report
from images.plan import Plan
from images.spec import TargetSpec

MIB = 2**20
FILE = "record.json"
ARTIFACT = "artifact/"


class Sizes(Struct, kw_only=True):
    """Uncompressed bytes of the image's files: all of them, the artifact's, and the rest, which the budget holds.

    Attributes:
        wheels: for comparison, the files of the runtime's locked wheels as they are installed anywhere else.

    """

    total: int
    artifact: int
    without_artifact: int
    wheels: int = 0


class Info(Struct, kw_only=True):
    """What the image says of itself: `info --json`.

    Attributes:
        packages: Python distributions in the image.
        python: its Python's version.
        os: its operating system, from os-release.

    """

    manifest: Manifest
    packages: dict[str, str]
    python: str
    os: str


class Override(Struct, kw_only=True):
    """A failed gate that the user accepted."""

    reason: str
    misses: list[str]


class Materials(Struct, kw_only=True):
    """What a build was made of, beside its plan.

    Attributes:
        files: the original's files with their digests.
        wheels: by environment (the exporter's, `run`): `name==version` to the wheel's sha256 in hex.
        revision: the commit of this project, `-dirty` where files differed from it; empty where that is not known.

    """

    files: list[FileDigest]
    wheels: dict[str, dict[str, str]] = {}
    revision: str = ""


class Pushed(Struct, kw_only=True):
    """One push of an image to a registry.

    Attributes:
        reference: `host/path:tag`, as it was pushed.
        digest: `sha256:...` of the manifest, as the registry has it: what to deploy by.
        at: when.
        unverified: whether it was pushed without a passed verdict, because that was asked for.
        attached: digests of what was attached, by kind.
        key: of the signature: `SHA256:...` of the public key; empty for none.

    """

    reference: str
    digest: str
    at: str
    unverified: bool
    attached: dict[str, str]
    key: str = ""


class Record(Struct, kw_only=True):
    """Everything that is known about one image; `dist/<image>/record.json`.

    Attributes:
        reference: its name.
        image: its id, `sha256:...` of its configuration.
        layers: diff ids, the runtime base's first.
        model_files: the original's files with their digests.
        wheels: `name==version` to sha256, by environment.
        revision: this project's commit.
        verdict: the smoke test's report in this very file system.
        pushed: where it went since, the last push of each reference.

    """

    schema: int = 1
    reference: str
    image: str
    plan: str
    created: str
    layers: list[str]
    bases: dict[str, str]
    model_files: list[FileDigest]
    wheels: dict[str, dict[str, str]] = {}
    revision: str = ""
    sizes: Sizes
    info: Info
    verdict: Report
    override: Override | None = None
    pushed: list[Pushed] = []


def measure(engine: Engine, image: str, target: TargetSpec, wheels: int = 0) -> Sizes:
    """Sizes from the image's files. Raises `GateError` for a denied file or a budget that is exceeded."""
    total, artifact, denied = 0, 0, []
    with engine.files(image) as files:
        for member in files:
            total += member.size
            artifact += member.size if member.name.startswith(ARTIFACT) else 0
            if _denied(f"/{member.name}", target.deny):
                denied.append(f"/{member.name}")
    sizes = Sizes(total=total, artifact=artifact, without_artifact=total - artifact, wheels=wheels)
    _hold(target, sizes, denied)
    return sizes


def info(engine: Engine, image: str) -> Info:
    """What the image says of itself. Raises `EngineError`."""
    done = engine.run(image, "info", "--json", flags=("--network=none",))
    try:
        return msgspec.json.decode(done.stdout, type=Info)
    except msgspec.DecodeError as error:
        raise EngineError(f"the image does not describe itself: {done.stderr.strip()[-500:]}") from error


def figures(verdict: Report, sizes: Sizes, facts: Info, override: str) -> dict[str, str]:
    """The labels that verification adds: verdict, worst figures, latency, size, memory and CPUs."""
    worst = {f"gate.{name}": f"{getattr(entry, name):.6g}" for name, entry in compare.worst(verdict.figures).items()}
    gate = {"gate": "overridden", "gate.override": override} if not verdict.passed else {"gate": "passed"}
    return {
        **gate,
        **worst,
        **_latency(verdict),
        "size.without-model": str(sizes.without_artifact),
        "memory.peak": str(verdict.peak_memory_bytes),
        "cpu.used": f"{verdict.cpus:.2f}",
        "memory.needed": str(facts.manifest.memory_bytes),
    }


def _latency(verdict: Report) -> dict[str, str]:
    """What was measured, in milliseconds; nothing of a verdict that came to no measurement."""
    if verdict.latency:
        return {
            "latency.p50-ms": f"{verdict.latency.http_p50_ms:.2f}",
            "latency.p95-ms": f"{verdict.latency.http_p95_ms:.2f}",
        }
    given = msgspec.to_builtins(verdict.token_latency) if verdict.token_latency else {}
    return {f"latency.{name.replace('_', '-')}": f"{value:.2f}" for name, value in given.items()}


def write(dist: Path, record: Record) -> Path:
    """Write the record into its folder below `dist` and return the file."""
    file = path(dist, record.reference)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    fresh.rename(file)
    return file


def read(dist: Path, reference: str) -> Record | None:
    """The record of an image built here, or None."""
    return _read(path(dist, reference))


def newest(dist: Path, target: str) -> str:
    """The reference of the newest image of a target that was built here. Raises `UsageError` when there is none."""
    found = [
        known for file in dist.glob(f"*/{FILE}") if (known := _read(file)) and known.info.manifest.target == target
    ]
    if not found:
        raise UsageError(
            f"no image of {target} was built here", f"run `invoke build --target {target}`, or name one with --image"
        )
    return max(found, key=lambda known: known.created).reference


def by_image(dist: Path, image: str) -> Record | None:
    """The record of the image with that id, whatever its name, or None."""
    return next(
        (known for file in sorted(dist.glob(f"*/{FILE}")) if (known := _read(file)) and known.image == image), None
    )


def path(dist: Path, reference: str) -> Path:
    """Where the record of an image lies."""
    return dist / slug(reference) / FILE


def slug(reference: str) -> str:
    """An image reference as a folder name; no two references share one, since neither sign may stand in them."""
    return reference.replace("/", "+").replace(":", "@")


def now() -> str:
    """The time, RFC 3339, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def make(
    plan: Plan,
    engine: Engine,
    image: str,
    *,
    materials: Materials,
    sizes: Sizes,
    facts: Info,
    verdict: Report,
    created: str,
) -> Record:
    """The record of a named image."""
    found = engine.image(image)
    if found is None:
        raise EngineError(f"the image {image} is gone", "run the build again")
    override = Override(reason=plan.override, misses=verdict.misses) if not verdict.passed else None
    return Record(
        reference=plan.tag,
        image=found.id,
        plan=plan.digest,
        created=created,
        layers=list(found.layers),
        bases=dict(plan.bases),
        model_files=list(materials.files),
        wheels=materials.wheels,
        revision=materials.revision,
        sizes=sizes,
        info=facts,
        verdict=verdict,
        override=override,
    )


def with_push(record: Record, push: Pushed) -> Record:
    """The record with one more push, in the place of an earlier one of the same reference."""
    others = [each for each in record.pushed if each.reference != push.reference]
    return msgspec.structs.replace(record, pushed=[*others, push])


def as_json(record: Record) -> str:
    """The record as `--json` prints it."""
    return json.dumps(msgspec.to_builtins(record), indent=2)


def _read(file: Path) -> Record | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def _denied(path: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, glob) for glob in globs)


def _hold(target: TargetSpec, sizes: Sizes, denied: Sequence[str]) -> None:
    if denied:
        raise GateError(
            f"the image holds files that {target.name} forbids: {', '.join(denied[:5])}",
            f"see `deny` in targets/{target.module}/target.toml",
        )
    if sizes.without_artifact > target.size_budget_mib * MIB:
        raise GateError(
            f"the image without its model has {sizes.without_artifact / MIB:.1f} MiB; "
            f"{target.name} has a budget of {target.size_budget_mib} MiB",
            f"see `size_budget_mib` and `trim` in targets/{target.module}/target.toml",
        )
