from pathlib import Path

import pytest

from images import locks
from images.errors import LockError
from images.locks import LockedWheel

HASH = "0" * 64


def test_a_line_gives_name_version_and_hashes(lock: Path) -> None:
    lock.write_text(f"# text\n\nMy_App==1.0+cpu --hash=sha256:{HASH} --hash=sha256:{'1' * 64}  # via x\n")
    expected = LockedWheel(name="my-app", version="1.0+cpu", hashes=frozenset({HASH, "1" * 64}))
    assert locks.parse(lock) == (expected,)


@pytest.mark.parametrize(
    "line",
    [
        "app==1.0",
        "app",
        f"app>=1.0 --hash=sha256:{HASH}",
        f"app==1.0 --hash=md5:{HASH}",
        f"app==1.0 --hash=sha256:{HASH[:63]}",
        "--index-url https://example.org",
        "app @ https://example.org/app.whl",
    ],
)
def test_a_line_that_is_not_hash_locked_is_refused_by_its_number(lock: Path, line: str) -> None:
    lock.write_text(f"ok==1 --hash=sha256:{HASH}\n{line}\n")
    with pytest.raises(LockError, match="line 2"):
        locks.parse(lock)


def test_a_missing_lock_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="invoke lock --target onnx-cpu"):
        locks.parse(tmp_path / "targets" / "onnx_cpu" / "requirements.run.txt")


@pytest.mark.parametrize(("name", "version"), [("torch", "2.0"), ("torch", "2.0+cu128"), ("nvidia-cublas", "1.0")])
def test_a_lock_for_cpus_names_nothing_of_cuda(lock: Path, name: str, version: str) -> None:
    lock.write_text(f"{name}=={version} --hash=sha256:{HASH}\n")
    with pytest.raises(LockError, match=f"{name}=="):
        locks.require_cpu(lock, locks.parse(lock))


def test_a_cpu_build_of_torch_is_accepted(lock: Path) -> None:
    lock.write_text(f"torch==2.0+cpu --hash=sha256:{HASH}\ntorchmetrics==1 --hash=sha256:{HASH}\n")
    locks.require_cpu(lock, locks.parse(lock))


@pytest.fixture
def locked(wanted: Path, lock: Path) -> Path:
    wheel = LockedWheel(name="app", version="1.0", hashes=frozenset({HASH}))
    lock.write_text(locks.text(wanted, "3.11", "linux/amd64", ["other"], {wheel: [wanted.name]}))
    return lock


def test_what_is_written_is_read_again(locked: Path) -> None:
    assert [wheel.requirement for wheel in locks.parse(locked)] == [f"app==1.0 --hash=sha256:{HASH}"]


def test_a_fresh_lock_is_current(wanted: Path, locked: Path) -> None:
    locks.check_current(wanted, locked, without=["Other"])


def test_a_comment_makes_no_lock_stale(wanted: Path, locked: Path) -> None:
    wanted.write_text("# another reason\napp\n")
    locks.check_current(wanted, locked, without=["other"])


def test_a_changed_requirement_makes_the_lock_stale(wanted: Path, locked: Path) -> None:
    wanted.write_text("app<2\n")
    with pytest.raises(LockError, match="out of date"):
        locks.check_current(wanted, locked, without=["other"])


@pytest.mark.parametrize("options", [{"without": ["x"]}, {"python": "3.12"}, {"platform": "linux/arm64"}])
def test_a_changed_option_makes_the_lock_stale(wanted: Path, locked: Path, options: dict[str, str]) -> None:
    with pytest.raises(LockError, match="invoke lock --target"):
        locks.check_current(wanted, locked, **{"without": ["other"], **options})  # type: ignore[arg-type]


def test_a_lock_that_was_never_made_is_not_current(wanted: Path, lock: Path) -> None:
    with pytest.raises(LockError, match="is missing"):
        locks.check_current(wanted, lock)


def test_the_hosts_lock_is_made_of_pyproject(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\ndependencies = ["b", "a"]\n[dependency-groups]\ndev = ["c>=1"]\n')
    assert locks.requirements(path) == ("a", "b", "c>=1")
