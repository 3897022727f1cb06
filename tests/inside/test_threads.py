import os
import time
from pathlib import Path

import pytest

from images.inside.threads import cpu_quota, cpu_seconds, cpu_threads, memory_limit, peak_memory

MEMINFO = "MemTotal:        8000000 kB\nMemFree: 1 kB\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("cpu_max", "threads"), [("150000 100000", 2), ("100000 100000", 1), ("20000 100000", 1)])
def test_threads_are_the_quota_rounded_up(tmp_path: Path, cpu_max: str, threads: int) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": cpu_max + "\n"})

    assert cpu_threads(root, affinity=8) == threads


def test_threads_stay_within_the_cpus_that_the_process_may_run_on(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "800000 100000\n"})

    assert cpu_threads(root, affinity=3) == 3


def test_without_a_quota_threads_are_the_cpus_that_the_process_may_run_on(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})

    assert cpu_threads(root, affinity=3) == 3


def test_a_nested_group_has_the_least_quota_of_its_parents(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/pod/app\n", "sys/fs/cgroup/pod/cpu.max": "200000 100000\n"}
    root = tree(tmp_path, {**files, "sys/fs/cgroup/pod/app/cpu.max": "400000 100000\n"})

    assert cpu_quota(root) == 2


def test_version_1_has_its_quota_in_two_files(tmp_path: Path) -> None:
    mount = "sys/fs/cgroup/cpu,cpuacct"
    files = {f"{mount}/cpu.cfs_quota_us": "250000\n", f"{mount}/cpu.cfs_period_us": "100000\n"}
    root = tree(tmp_path, {"proc/self/cgroup": "4:cpu,cpuacct:/docker/0a1b\n0::/\n", **files})

    assert cpu_quota(root) == 2.5


def test_version_1_says_minus_one_for_no_quota(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    root = tree(tmp_path, {"proc/self/cgroup": "4:cpu:/\n", **files})

    assert cpu_quota(root) is None


def test_a_machine_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_memory_is_limited_by_the_group(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n", "proc/meminfo": MEMINFO}

    assert memory_limit(tree(tmp_path, files)) == 1 << 30


def test_an_unlimited_group_leaves_the_machines_memory(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:memory:/\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "proc/meminfo": MEMINFO,
    }

    assert memory_limit(tree(tmp_path, files)) == 8_000_000 * 1024


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.stat": "usage_usec 2500000\nuser_usec 1\n"},
        {
            "proc/self/cgroup": "2:cpuacct:/docker/abc\n0::/docker/abc\n",
            "sys/fs/cgroup/cpuacct/cpuacct.usage": "2500000000\n",
        },
    ],
    ids=["version 2", "version 1"],
)
def test_cpu_time_is_the_containers(files: dict[str, str], tmp_path: Path) -> None:
    assert cpu_seconds(tree(tmp_path, files)) == 2.5


def test_cpu_time_that_no_group_counts_is_the_processs_own(tmp_path: Path) -> None:
    before = time.process_time()
    assert cpu_seconds(tree(tmp_path, {})) >= before


def test_the_peak_is_at_least_what_the_process_holds_now() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])

    assert peak_memory() >= pages * os.sysconf("SC_PAGE_SIZE") * 0.9
