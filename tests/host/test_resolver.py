from pathlib import Path

import pytest

from images import digests, locks, resolver
from images.errors import LockError
from tests.packages import index, make_wheel

pytestmark = pytest.mark.starts_programs  # pip


def names(lock: Path) -> list[str]:
    return [f"{wheel.name}=={wheel.version}" for wheel in locks.parse(lock)]


def test_a_lock_names_what_the_target_installs_and_why(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0", "lib>=1", 'windows; sys_platform == "win32"')
    lib = make_wheel(links, "lib", "1.5")
    resolver.lock(wanted, lock)
    assert lock.read_text().splitlines()[-1] == f"lib==1.5 --hash=sha256:{digests.sha256(lib)}  # via app"
    assert names(lock) == ["app==1.0", "lib==1.5"]


def test_a_lock_does_not_say_where_its_wheels_came_from(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0")
    resolver.lock(wanted, lock)
    assert str(links) not in lock.read_text()


def test_a_lock_is_current_for_the_options_that_it_was_made_with(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0")
    resolver.lock(wanted, lock, without=["Other_Thing"])
    locks.check_current(wanted, lock, without=["other-thing"])


def test_a_lock_is_the_same_when_it_is_made_again(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0")
    resolver.lock(wanted, lock, without=["other"])
    before = lock.read_text()
    resolver.lock(wanted, lock, without=["other"])
    assert lock.read_text() == before


def test_what_is_left_out_takes_its_own_requirements_along(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0", "Hub_Client", "shared")
    make_wheel(links, "hub_client", "1.0", "http", "shared")
    make_wheel(links, "http", "1.0")
    make_wheel(links, "shared", "1.0")
    resolver.lock(wanted, lock, without=["hub-client"])
    assert names(lock) == ["app==1.0", "shared==1.0"]


def test_what_is_taken_bare_binds_nothing_else(links: Path, wanted: Path, lock: Path) -> None:
    wanted.write_text("app\nold --no-deps  # because\n")
    make_wheel(links, "app", "1.0", "shared>=4")
    make_wheel(links, "old", "1.0", "shared<4", "sound")
    make_wheel(links, "shared", "3.0")
    make_wheel(links, "shared", "4.0")
    resolver.lock(wanted, lock)
    assert names(lock) == ["app==1.0", "old==1.0", "shared==4.0"]


def test_requirements_of_an_extra_are_followed(links: Path, wanted: Path, lock: Path) -> None:
    wanted.write_text("app[fast]\n")
    make_wheel(links, "app", "1.0", 'lib; extra == "fast"', 'slow; extra == "slow"', extra="fast")
    make_wheel(links, "lib", "1.0")
    resolver.lock(wanted, lock)
    assert names(lock) == ["app==1.0", "lib==1.0"]


def test_markers_are_read_for_the_targets_python(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0", 'new; python_version >= "3.99"', 'old; python_version < "3.99"')
    make_wheel(links, "new", "1.0", "deeper")
    make_wheel(links, "old", "1.0")
    make_wheel(links, "deeper", "1.0")
    resolver.lock(wanted, lock, python="3.99")
    assert names(lock) == ["app==1.0", "deeper==1.0", "new==1.0"]


def test_wheels_are_locked_for_the_targets_platform(links: Path, wanted: Path, lock: Path) -> None:
    arm = make_wheel(links, "app", "1.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(links, "app", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    resolver.lock(wanted, lock, platform="linux/arm64")
    assert digests.sha256(arm) in lock.read_text()


def test_torch_for_cpus_must_be_a_cpu_build(links: Path, wanted: Path, lock: Path) -> None:
    wanted.write_text("torch\n")
    make_wheel(links, "torch", "2.0")
    with pytest.raises(LockError, match=r"torch==2\.0"):
        resolver.lock(wanted, lock, cpu=True)
    assert not lock.exists()


def test_a_cpu_build_is_found_in_the_extra_index(links: Path, wanted: Path, lock: Path, tmp_path: Path) -> None:
    wanted.write_text("torch==2.0\n")
    make_wheel(links, "torch", "2.0")
    extra = index(tmp_path / "extra", make_wheel(tmp_path, "torch", "2.0+cpu"))
    resolver.lock(wanted, lock, cpu=True, extra_index_url=extra)
    assert names(lock) == ["torch==2.0+cpu"]


def test_a_requirement_that_nothing_satisfies_is_named(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0", "nowhere")
    with pytest.raises(LockError, match="nowhere"):
        resolver.lock(wanted, lock)


def test_a_line_that_is_no_requirement_is_refused(links: Path, wanted: Path, lock: Path) -> None:
    make_wheel(links, "app", "1.0")
    wanted.write_text("app\n--pre\n")
    with pytest.raises(LockError, match="--pre"):
        resolver.lock(wanted, lock)
