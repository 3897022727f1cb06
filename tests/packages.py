"""Python packages made for tests, and indexes on disk that have them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *requires: str,
    tag: str = "py3-none-any",
    extra: str = "",
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """A wheel in that folder, with requirements, the name of an extra, and files by their path in it."""
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    metadata += [f"Provides-Extra: {extra}"] if extra else []
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in (files or {}).items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def index(folder: Path, *wheels: Path) -> str:
    """The URL of a package index on disk, into which these wheels are moved."""
    for wheel in wheels:
        project = folder / wheel.name.split("-")[0]
        project.mkdir(parents=True)
        wheel.rename(project / wheel.name)
        (project / "index.html").write_text(f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')
    return folder.as_uri()
