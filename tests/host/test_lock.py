import os
import zipfile
from pathlib import Path

import pytest

from images import wheels
from images.errors import LockError

HASH = "0" * 64


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The find-links folder of a pip that knows nothing else."""
    folder, empty = tmp_path / "links", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    settings = {"CONFIG_FILE": os.devnull, "FIND_LINKS": str(folder), "INDEX_URL": empty.as_uri()}
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


def make(folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any", extra: str = "") -> Path:
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    metadata += [f"Provides-Extra: {extra}"] if extra else []
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def wanted(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.in"
    path.write_text("# why\napp  # because\n")
    return path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "requirements.txt"


def names(lock: Path) -> list[str]:
    return [f"{wheel.name}=={wheel.version}" for wheel in wheels.parse_lock(lock)]


# Reading


def test_a_line_gives_name_version_and_hashes(lock: Path) -> None:
    lock.write_text(f"# text\n\nMy_App==1.0+cpu --hash=sha256:{HASH} --hash=sha256:{'1' * 64}  # via x\n")
    expected = wheels.LockedWheel(name="my-app", version="1.0+cpu", hashes=frozenset({HASH, "1" * 64}))
    assert wheels.parse_lock(lock) == (expected,)


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
        wheels.parse_lock(lock)


def test_a_missing_lock_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="invoke lock --target onnx-cpu"):
        wheels.parse_lock(tmp_path / "targets" / "onnx_cpu" / "requirements.run.txt")


@pytest.mark.parametrize(("name", "version"), [("torch", "2.0"), ("torch", "2.0+cu128"), ("nvidia-cublas", "1.0")])
def test_a_lock_for_cpus_names_nothing_of_cuda(lock: Path, name: str, version: str) -> None:
    lock.write_text(f"{name}=={version} --hash=sha256:{HASH}\n")
    with pytest.raises(LockError, match=f"{name}=="):
        wheels.require_cpu(lock)


def test_a_cpu_build_of_torch_is_accepted(lock: Path) -> None:
    lock.write_text(f"torch==2.0+cpu --hash=sha256:{HASH}\ntorchmetrics==1 --hash=sha256:{HASH}\n")
    wheels.require_cpu(lock)


# Out of date


@pytest.fixture
def locked(links: Path, wanted: Path, lock: Path) -> Path:
    make(links, "app", "1.0")
    wheels.lock(wanted, lock, without=["other"])
    return lock


def test_a_fresh_lock_is_current(wanted: Path, locked: Path) -> None:
    wheels.check_current(wanted, locked, without=["Other"])


def test_a_comment_makes_no_lock_stale(wanted: Path, locked: Path) -> None:
    wanted.write_text("# another reason\napp\n")
    wheels.check_current(wanted, locked, without=["other"])


def test_a_changed_requirement_makes_the_lock_stale(wanted: Path, locked: Path) -> None:
    wanted.write_text("app<2\n")
    with pytest.raises(LockError, match="out of date"):
        wheels.check_current(wanted, locked, without=["other"])


@pytest.mark.parametrize("options", [{"without": ["x"]}, {"python": "3.12"}, {"platform": "linux/arm64"}])
def test_a_changed_option_makes_the_lock_stale(wanted: Path, locked: Path, options: dict[str, str]) -> None:
    with pytest.raises(LockError, match="invoke lock --target"):
        wheels.check_current(wanted, locked, **{"without": ["other"], **options})  # type: ignore[arg-type]


def test_a_lock_that_was_never_made_is_not_current(wanted: Path, lock: Path) -> None:
    with pytest.raises(LockError, match="is missing"):
        wheels.check_current(wanted, lock)


# Making


def test_a_lock_names_what_the_target_installs_and_why(links: Path, wanted: Path, lock: Path) -> None:
    make(links, "app", "1.0", "lib>=1", 'windows; sys_platform == "win32"')
    lib = make(links, "lib", "1.5")
    wheels.lock(wanted, lock)
    assert lock.read_text().splitlines()[-1] == f"lib==1.5 --hash=sha256:{wheels.sha256(lib)}  # via app"
    assert names(lock) == ["app==1.0", "lib==1.5"]


def test_a_lock_does_not_say_where_its_wheels_came_from(locked: Path, links: Path) -> None:
    assert str(links) not in locked.read_text()


def test_a_lock_is_the_same_when_it_is_made_again(wanted: Path, locked: Path) -> None:
    before = locked.read_text()
    wheels.lock(wanted, locked, without=["other"])
    assert locked.read_text() == before


def test_what_is_left_out_takes_its_own_requirements_along(links: Path, wanted: Path, lock: Path) -> None:
    make(links, "app", "1.0", "Hub_Client", "shared")
    make(links, "hub_client", "1.0", "http", "shared")
    make(links, "http", "1.0")
    make(links, "shared", "1.0")
    wheels.lock(wanted, lock, without=["hub-client"])
    assert names(lock) == ["app==1.0", "shared==1.0"]


def test_requirements_of_an_extra_are_followed(links: Path, wanted: Path, lock: Path) -> None:
    wanted.write_text("app[fast]\n")
    make(links, "app", "1.0", 'lib; extra == "fast"', 'slow; extra == "slow"', extra="fast")
    make(links, "lib", "1.0")
    wheels.lock(wanted, lock)
    assert names(lock) == ["app==1.0", "lib==1.0"]


def test_markers_are_read_for_the_targets_python(links: Path, wanted: Path, lock: Path) -> None:
    make(links, "app", "1.0", 'new; python_version >= "3.99"', 'old; python_version < "3.99"')
    make(links, "new", "1.0", "deeper")
    make(links, "old", "1.0")
    make(links, "deeper", "1.0")
    wheels.lock(wanted, lock, python="3.99")
    assert names(lock) == ["app==1.0", "deeper==1.0", "new==1.0"]


def test_wheels_are_locked_for_the_targets_platform(links: Path, wanted: Path, lock: Path) -> None:
    arm = make(links, "app", "1.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    make(links, "app", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    wheels.lock(wanted, lock, platform="linux/arm64")
    assert wheels.sha256(arm) in lock.read_text()


def test_torch_for_cpus_must_be_a_cpu_build(links: Path, wanted: Path, lock: Path) -> None:
    wanted.write_text("torch\n")
    make(links, "torch", "2.0")
    with pytest.raises(LockError, match=r"torch==2\.0"):
        wheels.lock(wanted, lock, cpu=True)
    assert not lock.exists()


def test_a_cpu_build_is_found_in_the_extra_index(links: Path, wanted: Path, lock: Path, tmp_path: Path) -> None:
    wanted.write_text("torch==2.0\n")
    make(links, "torch", "2.0")
    project = tmp_path / "extra" / "torch"
    project.mkdir(parents=True)
    file = make(project, "torch", "2.0+cpu")
    (project / "index.html").write_text(f'<a href="{file.name.replace("+", "%2B")}">{file.name}</a>')
    wheels.lock(wanted, lock, cpu=True, extra_index_url=project.parent.as_uri())
    assert names(lock) == ["torch==2.0+cpu"]


def test_a_requirement_that_nothing_satisfies_is_named(links: Path, wanted: Path, lock: Path) -> None:
    make(links, "app", "1.0", "nowhere")
    with pytest.raises(LockError, match="nowhere"):
        wheels.lock(wanted, lock)


def test_a_line_that_is_no_requirement_is_refused(links: Path, wanted: Path, lock: Path) -> None:
    make(links, "app", "1.0")
    wanted.write_text("app\n--pre\n")
    with pytest.raises(LockError, match="--pre"):
        wheels.lock(wanted, lock)


def test_the_hosts_lock_is_made_of_pyproject(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\ndependencies = ["b", "a"]\n[dependency-groups]\ndev = ["c>=1"]\n')
    assert wheels.requirements(path) == ("a", "b", "c>=1")
