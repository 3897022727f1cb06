"""How much of the machine this container may use: CPU threads and memory, from its control group.

A runtime that starts a thread for every core of the host is slowed down many times over by its container's CPU quota,
so thread counts follow the quota. All functions read below a root folder, `/` unless a test says otherwise.
"""

import math
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as a huge number near 2**63."""


def cpu_threads(root: Path = ROOT, affinity: int | None = None) -> int:
    """Threads worth starting: the CPU quota rounded up, within the CPUs this process may run on; at least 1.

    Args:
        root: the file system's root.
        affinity: how many CPUs the process may run on; asked from the kernel when None.

    """
    allowed = affinity or len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = ROOT) -> float | None:
    """The CPUs' worth of time that the control group may use, the least of it and its parents; None for no limit."""
    quotas = [_quota_v2(folder) for folder in _folders(root, "")]
    quotas += [_quota_v1(folder) for folder in _folders(root, "cpu")]
    return min((quota for quota in quotas if quota), default=None)


def memory_limit(root: Path = ROOT) -> int:
    """Bytes of memory that this container may use: the least of its limits and the machine's memory."""
    limits = [_number(folder / "memory.max") for folder in _folders(root, "")]
    limits += [_number(folder / "memory.limit_in_bytes") for folder in _folders(root, "memory")]
    return min(limit for limit in [*limits, _machine_memory(root)] if limit is not None and 0 < limit < UNLIMITED)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The control group's folder and its parents' up to the mount; version 2 has no controller in the path.

    A container often sees its own group mounted as the root and its path as the host knows it, so that the path leads
    nowhere: then only the mount is left, which is right.
    """
    for names, path in _memberships(root):
        if controller in names.split(","):
            mount = root / "sys/fs/cgroup" / names
            inner = mount / path.lstrip("/")
            yield from (folder for folder in [inner, *inner.parents] if folder.is_relative_to(mount))


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """Pairs of (controllers, path) in `/proc/self/cgroup`; its lines are `id:controllers:path`."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        yield names, path


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def peak_memory() -> int:
    """Bytes that this process held at its most, and, beside it, the largest of the programs that it has waited for."""
    own, programs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return (own.ru_maxrss + programs.ru_maxrss) * 1024  # getrusage(2) counts in KiB


def cpu_seconds(root: Path = ROOT) -> float:
    """CPU time that this container has taken, all its programs together; this process's own where nothing counts it."""
    counted = [_usage_v2(folder) for folder in _folders(root, "")]
    counted += [_usage_v1(folder) for folder in _folders(root, "cpuacct")]
    return min((seconds for seconds in counted if seconds is not None), default=time.process_time())


def _usage_v2(folder: Path) -> float | None:
    lines = dict(line.split(" ", 1) for line in _text(folder / "cpu.stat").splitlines() if " " in line)
    return int(lines["usage_usec"]) / 1e6 if "usage_usec" in lines else None


def _usage_v1(folder: Path) -> float | None:
    nanoseconds = _number(folder / "cpuacct.usage")
    return nanoseconds / 1e9 if nanoseconds is not None else None


def _machine_memory(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
