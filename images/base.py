"""The two base images, bootstrapped from Debian packages with mmdebstrap: no registry is asked.

The builder base is Debian's essential packages with python3 and venv. The runtime base is a subset of its files:
those of the packages that the configuration names, less what no server opens. Both tars are bit-identical from run to
run on one state of the Debian archive.
"""

import fnmatch
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from images.config import Bootstrap, Config
from images.errors import EngineError, disk_full, disk_guard

EPOCH = "0"
"""SOURCE_DATE_EPOCH of the bases: every file's time stamp."""
MERGED = {"bin", "lib", "lib32", "lib64", "libx32", "sbin"}
"""Top-level links into /usr in a merged-/usr Debian; package lists still name the old places."""
OF_THIS_MACHINE = {"etc/resolv.conf", "etc/hostname", "etc/hosts", "etc/machine-id", "etc/mtab"}
"""Files that mmdebstrap copies from the machine it runs on; a base carries nothing of it."""
USER = 65532
"""The unprivileged user of the runtime images, by distroless convention."""
ETC = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Base:
    """One base image as a tar on disk.

    Attributes:
        kind: `builder` or `runtime`.
        tar: the root file system, uncompressed: its sha256 is the image layer's diff id.
        digest: `sha256:...` of the tar.

    """

    kind: str
    tar: Path
    digest: str

    @property
    def reference(self) -> str:
        """The local image name; the digest is part of it."""
        return f"localhost/modelyard/{self.kind}:{self.digest.removeprefix('sha256:')[:16]}"


def folder(config: Config) -> Path:
    """Where this recipe's tars lie; another recipe gets another folder."""
    recipe = repr((config.bootstrap, sorted(ETC.items()), platform.machine(), 2))
    return config.cache / "bases" / hashlib.sha256(recipe.encode()).hexdigest()[:16]


def cached(config: Config) -> tuple[Base, Base] | None:
    """(builder, runtime) when they are on disk already."""
    where = folder(config)
    try:
        return _base("builder", where), _base("runtime", where)
    except FileNotFoundError:
        return None


def bootstrap(config: Config, report: Report) -> tuple[Base, Base]:
    """(builder, runtime), made when missing: about 30 s and 80 MB of downloads. Raises `EngineError`."""
    if bases := cached(config):
        return bases
    where = folder(config)
    where.parent.mkdir(parents=True, exist_ok=True)
    report(f"bootstrapping the base images from Debian {config.bootstrap.suite} packages (mmdebstrap, about 30 s)")
    with disk_guard(where.parent), tempfile.TemporaryDirectory(dir=where.parent, prefix=".new-") as temporary:
        fresh = Path(temporary) / "bases"
        fresh.mkdir()
        debian = Path(temporary) / "debian.tar"
        _mmdebstrap(config.bootstrap, debian)
        _write(fresh, "builder", builder_members, debian)
        _write(fresh, "runtime", lambda source: with_folders(runtime_members(source, config.bootstrap)), debian)
        shutil.rmtree(where, ignore_errors=True)
        fresh.rename(where)
    return _base("builder", where), _base("runtime", where)


def mmdebstrap_command(recipe: Bootstrap, tar: Path, sources: Iterable[Path]) -> list[str]:
    """The argv; `sources` are apt's own files where this machine runs the suite, else the default mirror is used."""
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(recipe.builder_packages)}",
        recipe.suite,
        str(tar),
        *map(str, sources),
    ]


def apt_sources(suite: str, root: Path = Path("/")) -> list[Path]:
    """This machine's apt sources, when it runs the suite itself: they name the mirror that is reachable from here."""
    release = root / "etc/os-release"
    same = release.exists() and re.search(rf'^VERSION_CODENAME="?{suite}"?$', release.read_text(), re.MULTILINE)
    files = [root / "etc/apt/sources.list.d/debian.sources", root / "etc/apt/sources.list"]
    return [file for file in files if same and file.exists() and file.stat().st_size]


def builder_members(source: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Everything but what was copied from this machine: its name, its resolver, its mirrors."""
    for member in source:
        path = _path(member.name)
        if path not in OF_THIS_MACHINE and not path.startswith(
            ("etc/apt/sources.list", "etc/apt/apt.conf", "var/log/")
        ):
            yield member, _content(source, member)


def runtime_members(source: tarfile.TarFile, recipe: Bootstrap) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The files of the runtime packages, the package records that SBOM tools read, and a minimal /etc."""
    database = _dpkg(source)
    owned = {_path(line) for name in recipe.runtime_packages for line in _owned(database, name)}
    for member in source.getmembers():
        path = _path(member.name)
        skeleton = path in MERGED or path in {"tmp", ""}
        if skeleton or (path in owned and not member.isdir() and not _dropped(path, recipe.runtime_drop)):
            yield member, _content(source, member)
    yield _link("usr/bin/python3", f"python{recipe.python}")
    stanzas = _stanzas(database["var/lib/dpkg/status"])
    records = {f"var/lib/dpkg/status.d/{name}": stanzas[name] for name in recipe.runtime_packages}
    for path, text in sorted((ETC | records).items()):
        yield _file(path, text)


def with_folders(
    members: Iterable[tuple[tarfile.TarInfo, bytes | None]],
) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The members, each after the folders that it lies in: SBOM tools do not look into a folder that has no entry."""
    seen = {PurePosixPath()}
    for member, content in members:
        path = PurePosixPath(member.name)
        for folder in [each for each in reversed(path.parents) if each not in seen]:
            seen.add(folder)
            yield _folder(str(folder))
        seen.add(path)
        yield member, content


def _write(
    fresh: Path,
    kind: str,
    members: Callable[[tarfile.TarFile], Iterable[tuple[tarfile.TarInfo, bytes | None]]],
    debian: Path,
) -> None:
    tar = fresh / f"{kind}.tar"
    with tarfile.open(debian) as source, tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as out:
        for member, content in members(source):
            member.mtime, member.pax_headers = int(EPOCH), {}
            out.addfile(member, io.BytesIO(content) if content is not None else None)
    with tar.open("rb") as file:
        (fresh / f"{kind}.sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())


def _base(kind: str, where: Path) -> Base:
    digest = (where / f"{kind}.sha256").read_text().strip()
    (where / f"{kind}.tar").stat()
    return Base(kind=kind, tar=where / f"{kind}.tar", digest=f"sha256:{digest}")


def _mmdebstrap(recipe: Bootstrap, tar: Path) -> None:
    argv = mmdebstrap_command(recipe, tar, apt_sources(recipe.suite))
    try:
        subprocess.run(argv, check=True, text=True, capture_output=True, env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH})
    except FileNotFoundError as error:
        raise EngineError(
            "mmdebstrap is not installed; it makes the base images",
            "run `invoke setup` as root on Debian or Ubuntu, or name base images: see Configuration in the README",
        ) from error
    except subprocess.CalledProcessError as error:
        if "No space left on device" in error.stderr:
            raise disk_full(tar.parent) from error
        tail = "\n".join(error.stderr.strip().splitlines()[-12:])
        raise EngineError(
            f"mmdebstrap could not make a Debian {recipe.suite} base:\n{tail}",
            "check that a Debian mirror is reachable (apt-get update), or name base images in the configuration",
        ) from error


def _path(name: str) -> str:
    """The path in a merged-/usr root, without the leading slash or dot."""
    parts = PurePosixPath(name.strip().removeprefix(".").removeprefix("/")).parts
    merged = len(parts) > 1 and parts[0] in MERGED
    return "/".join(("usr", *parts) if merged else parts)


def _content(source: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    file = source.extractfile(member) if member.isreg() else None
    return file.read() if file else None


def _dropped(path: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(f"/{path}", glob) for glob in globs)


def _dpkg(source: tarfile.TarFile) -> Mapping[str, str]:
    wanted = re.compile(r"var/lib/dpkg/(status|info/.*\.list)$")
    members = {_path(member.name): member for member in source.getmembers() if member.isreg()}
    return {path: (_content(source, member) or b"").decode() for path, member in members.items() if wanted.match(path)}


def _owned(database: Mapping[str, str], package: str) -> list[str]:
    pattern = re.compile(rf"var/lib/dpkg/info/{re.escape(package)}(:\w+)?\.list$")
    lists = [text for path, text in database.items() if pattern.match(path)]
    if not lists:
        raise EngineError(
            f"the Debian package {package} is not in the builder base",
            "correct runtime_packages or builder_packages in pyproject.toml",
        )
    return lists[0].splitlines()


def _stanzas(status: str) -> Mapping[str, str]:
    blocks = [block + "\n" for block in status.split("\n\n") if block.startswith("Package: ")]
    return {block.split("\n", 1)[0].removeprefix("Package: "): block for block in blocks}


def _file(path: str, text: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(text.encode()), 0o644
    return member, text.encode()


def _folder(path: str) -> tuple[tarfile.TarInfo, None]:
    member = tarfile.TarInfo(path)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member, None


def _link(path: str, to: str) -> tuple[tarfile.TarInfo, None]:
    member = tarfile.TarInfo(path)
    member.type, member.linkname, member.mode = tarfile.SYMTYPE, to, 0o777
    return member, None
