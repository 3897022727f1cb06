import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from images import base
from images.errors import EngineError
from tests.host import samples

STATUS = """Package: tiny
Status: install ok installed
Version: 1.0

Package: big
Status: install ok installed
Version: 2.0
"""
FILES = {
    "./etc/passwd": "root:x:0:0:host\n",
    "./etc/resolv.conf": "nameserver 10.0.0.1\n",
    "./etc/hostname": "builder-17\n",
    "./etc/hosts": "127.0.0.1 builder-17\n",
    "./etc/machine-id": "17\n",
    "./etc/apt/sources.list": "deb http://mirror.internal/debian bookworm main\n",
    "./etc/apt/sources.list.d/own.sources": "URIs: http://mirror.internal\n",
    "./etc/apt/apt.conf.d/99proxy": 'Acquire::http::Proxy "http://proxy.internal";\n',
    "./etc/tiny.conf": "size = tiny\n",
    "./usr/bin/python3.11": "ELF python",
    "./usr/bin/big": "ELF big",
    "./usr/lib/libtiny.so.1": "ELF tiny",
    "./usr/share/doc/tiny/copyright": "MIT\n",
    "./usr/share/doc/tiny/README": "read me\n",
    "./var/lib/dpkg/status": STATUS,
    "./var/lib/dpkg/info/tiny:amd64.list": "/.\n/bin\n/bin/python3.11\n/lib/libtiny.so.1\n/usr/lib/libtiny.so\n"
    "/usr/share/doc/tiny/copyright\n/usr/share/doc/tiny/README\n/etc/tiny.conf\n",
    "./var/lib/dpkg/info/big.list": "/usr/bin/big\n",
    "./var/log/bootstrap.log": "by builder-17\n",
}
NOTHING: Mapping[str, str] = {}
RECIPE = msgspec.structs.replace(
    samples.config(Path()).bootstrap, runtime_drop=("/usr/share/doc/*/[!c]*", "*/libdrop*")
)


def debian(mtime: int = 1, more: Mapping[str, str] = NOTHING) -> bytes:
    """A root file system with a merged /usr, as mmdebstrap writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, kind, to in [
            ("./", tarfile.DIRTYPE, ""),
            ("./bin", tarfile.SYMTYPE, "usr/bin"),
            ("./lib", tarfile.SYMTYPE, "usr/lib"),
            ("./tmp", tarfile.DIRTYPE, ""),
            ("./usr/lib/libtiny.so", tarfile.SYMTYPE, "libtiny.so.1"),
        ]:
            out.addfile(entry(name, mtime, type=kind, linkname=to, mode=0o1777 if name == "./tmp" else 0o755))
        for name, text in {**FILES, **more}.items():
            out.addfile(
                entry(name, mtime, size=len(text), pax_headers={"mtime": f"{mtime}.5"}), io.BytesIO(text.encode())
            )
    return buffer.getvalue()


def entry(name: str, mtime: int, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in ({"mtime": mtime} | fields).items():
        setattr(member, field, value)
    return member


def opened(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content))


def builder() -> dict[str, bytes | None]:
    return {member.name: content for member, content in base.builder_members(opened(debian()))}


def runtime(recipe: Any = RECIPE) -> dict[str, bytes | None]:
    return {member.name: content for member, content in base.runtime_members(opened(debian()), recipe)}


# The builder base


@pytest.mark.parametrize("name", [name for name in FILES if "apt/" in name or "etc/h" in name or "log/" in name])
def test_the_builder_knows_nothing_of_the_machine_that_made_it(name: str) -> None:
    assert name not in builder()


def test_no_file_of_the_builder_names_that_machine() -> None:
    contents = b"".join(content or b"" for content in builder().values())
    assert b"internal" not in contents
    assert b"builder-17" not in contents


def test_the_builder_keeps_everything_else() -> None:
    kept = builder()
    assert kept["./usr/bin/big"] == b"ELF big"
    assert {"./bin", "./tmp", "./var/lib/dpkg/status"} <= set(kept)


# The runtime base


def test_the_runtime_has_the_files_of_its_packages_and_no_others() -> None:
    files = {name for name, content in runtime().items() if content is not None}
    assert files == {
        *("./usr/bin/python3.11", "./usr/lib/libtiny.so.1", "./usr/share/doc/tiny/copyright", "./etc/tiny.conf"),
        *("etc/passwd", "etc/group", "etc/nsswitch.conf", "var/lib/dpkg/status.d/tiny"),
    }


def test_files_that_packages_list_at_their_old_place_are_found_in_the_merged_usr() -> None:
    assert runtime()["./usr/bin/python3.11"] == b"ELF python"


def test_links_come_along() -> None:
    members = {member.name: member for member, _ in base.runtime_members(opened(debian()), RECIPE)}
    assert {name: member.linkname for name, member in members.items() if member.issym()} == {
        "./bin": "usr/bin",
        "./lib": "usr/lib",
        "./usr/lib/libtiny.so": "libtiny.so.1",
        "usr/bin/python3": "python3.11",
    }


def test_the_only_folder_is_a_tmp_for_everybody() -> None:
    folders = [member for member, _ in base.runtime_members(opened(debian()), RECIPE) if member.isdir()]
    assert [(member.name, member.mode) for member in folders] == [(".", 0o755), ("./tmp", 0o1777)]


def test_what_the_configuration_drops_is_not_there() -> None:
    assert "./usr/share/doc/tiny/README" not in runtime()


def test_the_package_record_is_where_sbom_tools_look_for_it() -> None:
    assert runtime()["var/lib/dpkg/status.d/tiny"] == STATUS.partition("\n\n")[0].encode() + b"\n"


def test_the_users_are_root_and_nonroot_alone() -> None:
    lines = (runtime()["etc/passwd"] or b"").decode().splitlines()
    assert [line.split(":")[0:3:2] for line in lines] == [["root", "0"], ["nonroot", str(base.USER)]]


def test_a_runtime_package_that_is_not_installed_is_named() -> None:
    recipe = msgspec.structs.replace(RECIPE, runtime_packages=("tiny", "huge"))
    with pytest.raises(EngineError, match="the Debian package huge is not in the builder base"):
        runtime(recipe)


def test_a_package_is_not_taken_for_one_whose_name_it_begins() -> None:
    with pytest.raises(EngineError, match="package tin is not"):
        runtime(msgspec.structs.replace(RECIPE, runtime_packages=("tin",)))


def test_every_file_lies_in_folders_that_have_entries() -> None:
    """Else SBOM tools that read layers do not see what is in them."""
    members = [member for member, _ in base.with_folders(base.runtime_members(opened(debian()), RECIPE))]
    folders = {member.name.strip("./") for member in members if member.isdir()}
    parents = {str(PurePosixPath(member.name).parent).strip("./") for member in members}
    assert "var/lib/dpkg/status.d" in folders
    assert parents <= folders | {""}


def test_a_folder_has_one_entry_before_its_files() -> None:
    files = [(entry(f"a/b/{name}", 0), b"") for name in "cd"]
    assert [member.name for member, _ in base.with_folders(files)] == ["a", "a/b", "a/b/c", "a/b/d"]


# The tars on disk


def write(folder: Path, content: bytes) -> str:
    folder.mkdir()
    (folder / "debian.tar").write_bytes(content)
    base._write(folder, "runtime", lambda source: base.runtime_members(source, RECIPE), folder / "debian.tar")
    return (folder / "runtime.sha256").read_text()


def test_the_bytes_do_not_depend_on_when_files_were_written(tmp_path: Path) -> None:
    assert write(tmp_path / "one", debian(mtime=1)) == write(tmp_path / "two", debian(mtime=1_700_000_000))


def test_the_bytes_depend_on_what_is_in_the_files(tmp_path: Path) -> None:
    changed = debian(more={"./etc/tiny.conf": "size = tini\n"})
    assert write(tmp_path / "one", debian()) != write(tmp_path / "two", changed)


def test_the_digest_is_that_of_the_whole_tar(tmp_path: Path) -> None:
    digest = write(tmp_path / "one", debian())
    assert digest == hashlib.sha256((tmp_path / "one/runtime.tar").read_bytes()).hexdigest()


def test_every_file_has_the_same_time(tmp_path: Path) -> None:
    write(tmp_path / "one", debian(mtime=5))
    with tarfile.open(tmp_path / "one/runtime.tar") as made:
        assert {member.mtime for member in made} == {0}


def store(cache: Path) -> None:
    where = base.folder(samples.config(cache))
    where.mkdir(parents=True)
    for kind in ("builder", "runtime"):
        (where / f"{kind}.tar").write_bytes(samples.tar({kind: 1}))
        (where / f"{kind}.sha256").write_text(f"{kind[0] * 64}\n")


def test_bases_on_disk_are_used_again_and_nothing_is_said(tmp_path: Path) -> None:
    store(tmp_path)
    said: list[str] = []
    assert [each.kind for each in base.bootstrap(samples.config(tmp_path), said.append)] == ["builder", "runtime"]
    assert said == []


def test_the_digest_is_part_of_a_bases_name(tmp_path: Path) -> None:
    store(tmp_path)
    found = base.cached(samples.config(tmp_path))
    assert found
    assert (found[0].reference, found[0].digest) == (f"localhost/modelyard/builder:{'b' * 16}", f"sha256:{'b' * 64}")


def test_half_a_pair_of_bases_is_none(tmp_path: Path) -> None:
    store(tmp_path)
    (base.folder(samples.config(tmp_path)) / "runtime.tar").unlink()
    assert base.cached(samples.config(tmp_path)) is None


def test_another_recipe_has_another_folder(tmp_path: Path) -> None:
    config = samples.config(tmp_path)
    other = msgspec.structs.replace(config, bootstrap=RECIPE)
    assert base.folder(config) != base.folder(other)


# mmdebstrap


def test_mmdebstrap_writes_the_suite_with_the_packages_to_the_tar() -> None:
    argv = base.mmdebstrap_command(RECIPE, Path("/x/debian.tar"), [Path("/etc/apt/sources.list")])
    assert argv[:1] + argv[-3:] == ["mmdebstrap", "bookworm", "/x/debian.tar", "/etc/apt/sources.list"]
    assert "--include=python3" in argv


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_machine_of_the_suite_lends_its_mirrors(quote: str, tmp_path: Path) -> None:
    assert base.apt_sources("bookworm", machine(tmp_path, f"{quote}bookworm{quote}")) == [
        tmp_path / "etc/apt/sources.list"
    ]


def test_a_machine_of_another_suite_does_not(tmp_path: Path) -> None:
    assert base.apt_sources("bookworm", machine(tmp_path, "bookworm-next")) == []


def test_an_empty_sources_file_is_no_mirror(tmp_path: Path) -> None:
    root = machine(tmp_path, "bookworm")
    (root / "etc/apt/sources.list").write_text("")
    assert base.apt_sources("bookworm", root) == []


def test_a_machine_that_is_no_debian_has_no_mirrors(tmp_path: Path) -> None:
    assert base.apt_sources("bookworm", tmp_path) == []


def machine(root: Path, codename: str) -> Path:
    (root / "etc/apt").mkdir(parents=True)
    (root / "etc/os-release").write_text(f"NAME=Debian\nVERSION_CODENAME={codename}\n")
    (root / "etc/apt/sources.list").write_text("deb http://mirror.internal/debian bookworm main\n")
    return root
