"""Requirements to a new lock file of exactly what a target installs: pip's choice, less what is left out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from images import locks, pip, platforms
from images.errors import LockError
from images.locks import LockedWheel
from images.progress import Report, silent

BARE = "--no-deps"
"""Behind a requirement: it is taken without what it declares, where its bounds on others are wrong."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One distribution that pip's resolver chose.

    Attributes:
        wheel: as the lock names it.
        requires: its own requirements, of all extras and platforms.

    """

    wheel: LockedWheel
    requires: tuple[str, ...]


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
    walk = _Walk(in_path, platforms.markers(python, platform), frozenset(map(canonicalize_name, without)))
    flags = platforms.pip_flags(python, platform)
    try:
        releases = _resolve(walk, flags)
        if cpu and extra_index_url and _lacks_cpu_torch(releases):
            releases = _resolve(walk, [*flags, "--extra-index-url", extra_index_url])
    except pip.PipError as error:
        raise pip.explained(error, lock_path.parent, f"pip finds no wheels that fit {in_path}") from error
    reached, _ = walk.follow(releases)
    parents = {releases[name].wheel: names for name, names in reached.items()}
    if cpu:
        locks.require_cpu(lock_path, parents)
    lock_path.write_text(locks.text(in_path, python, platform, walk.without, parents))


def _lacks_cpu_torch(releases: Mapping[str, Release]) -> bool:
    return "torch" in releases and not releases["torch"].wheel.version.endswith("+cpu")


@dataclass(frozen=True)
class _Walk:
    """The way from a file's requirements through all that they require.

    Attributes:
        in_path: the file.
        environment: the values of environment markers on the target.
        without: names at which the way ends.

    """

    in_path: Path
    environment: Mapping[str, str]
    without: frozenset[str]

    def roots(self) -> tuple[list[str], list[str]]:
        """The file's requirements: those that are taken bare, and all others."""
        lines = locks.requirements(self.in_path)
        bare = [line.removesuffix(BARE).strip() for line in lines if line.endswith(f" {BARE}")]
        return bare, [line for line in lines if not line.endswith(f" {BARE}")]

    def follow(self, releases: Mapping[str, Release]) -> tuple[dict[str, set[str]], set[str]]:
        """Follow requirements from the roots.

        Returns:
            The names reached, each with those that require it (the file's name for a root), and the requirements of
            the target that no release satisfies.

        """
        parents: dict[str, set[str]] = defaultdict(set)
        missing: set[str] = set()
        seen: set[tuple[str, str]] = set()
        bare, others = self.roots()
        queue = [(self.in_path.name, _requirement(line), "") for line in [*bare, *others]]
        while queue:
            parent, requirement, extra = queue.pop()
            name = canonicalize_name(requirement.name)
            if not self._applies(requirement, extra):
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

    def _applies(self, requirement: Requirement, extra: str) -> bool:
        if canonicalize_name(requirement.name) in self.without:
            return False
        return requirement.marker is None or requirement.marker.evaluate({**self.environment, "extra": extra})


def _resolve(walk: _Walk, flags: Sequence[str]) -> Mapping[str, Release]:
    """What pip would install. Its markers are those of the Python it runs on: what the target needs beyond is added."""
    bare, wanted = walk.roots()
    alone = [replace(_release(entry), requires=()) for entry in pip.resolve(bare, [*flags, BARE])] if bare else []
    while True:
        found = [*map(_release, pip.resolve(wanted, flags)), *alone]
        releases = {release.wheel.name: release for release in found}
        _, missing = walk.follow(releases)
        if missing <= set(wanted):
            return releases
        wanted += sorted(missing)


def _release(entry: Mapping[str, Any]) -> Release:
    metadata = entry["metadata"]
    digest = entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
    if not digest:
        raise LockError(
            f"{metadata['name']} is no wheel with a sha256, so it cannot be locked", "name released versions only"
        )
    name = canonicalize_name(metadata["name"])
    wheel = LockedWheel(name=name, version=metadata["version"], hashes=frozenset({digest}))
    return Release(wheel=wheel, requires=tuple(metadata.get("requires_dist", ())))


def _requirement(line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise LockError(
            f"{line!r} is not a requirement: {error}", "write one `name==version` or `name` a line"
        ) from error
