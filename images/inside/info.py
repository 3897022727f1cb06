"""What the image says of itself: manifest, packages, Python, operating system."""

import platform
from pathlib import Path
from typing import Any

import msgspec

from images.inside.export import installed
from images.inside.records import read_manifest


def collect(artifact: Path) -> dict[str, Any]:
    """The facts as JSON-ready values. Raises `ArtifactError` when there is no manifest."""
    return {
        "manifest": msgspec.to_builtins(read_manifest(artifact)),
        "packages": installed(),
        "python": platform.python_version(),
        "os": platform.freedesktop_os_release()["PRETTY_NAME"],
    }


def _input(manifest: dict[str, Any]) -> str:
    if manifest["image"]:
        return "images, made {width} x {height} pixels ({channels}) as by {processor}".format(**manifest["image"])
    return f"at most {manifest['max_length']} tokens"


def table(facts: dict[str, Any]) -> str:
    """The facts for a person at a terminal."""
    manifest = facts["manifest"]
    model = manifest["model"]
    rows = {
        "model": f"{model['id']} ({model['source']} {model['revision']})".replace(" )", ")"),
        "digest": model["digest"],
        "task": manifest["task"],
        "target": f"{manifest['target']}, mode {manifest['mode']}, exporter {manifest['exporter']}",
        "input": _input(manifest),
        "embedding": manifest["embedding"]
        and "{dimension} dimensions, pooling {pooling}, normalized {normalized}".format(**manifest["embedding"]),
        "deprecated": manifest["deprecated"],
        "labels": ", ".join(manifest["labels"][:12]),
        "bounds": ", ".join(f"{name} {value:g}" for name, value in manifest["bounds"].items() if value is not None),
        "system": f"{facts['os']}, Python {facts['python']}, {manifest['architecture']}",
        "packages": ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
    }
    return "\n".join(f"{name:<10} {value}" for name, value in rows.items() if value)
