"""A service to Kubernetes manifests: a Kustomize base, and the folder that it is written to."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from images import render
from images.errors import UsageError
from images.service import OPTIONAL, Service

COMMON = ("serviceaccount", "configmap", "networkpolicy-smoke-test")
FILES = (*COMMON, "deployment", "service", "horizontalpodautoscaler", "poddisruptionbudget", "networkpolicy")
KSERVE_FILES = (*COMMON, "inferenceservice")
"""KServe makes the Deployment, its Service and its autoscaler itself; who may ask its pods is its own to say."""
SMOKE = "smoke-test"
KUSTOMIZATION = "kustomization"
WRITTEN = "written by `invoke manifests`"
"""What the kustomization says of itself; one that does not is somebody's own."""
OWN = {f"{name}.yaml" for name in (*FILES, *KSERVE_FILES, KUSTOMIZATION, SMOKE)}


def texts(service: Service) -> dict[str, str]:
    """The manifests by file name: the kustomization, what it lists, and the smoke test's Job beside it."""
    left_out = {name for word in service.without for name in OPTIONAL[word]}
    listed = [name for name in (KSERVE_FILES if service.kserve else FILES) if name not in left_out]
    names = [f"{each}.yaml" for each in listed]
    return {
        f"{name}.yaml": render.manifest(name, service=service, files=names) for name in (KUSTOMIZATION, *listed, SMOKE)
    }


def write(files: Mapping[str, str], out: Path) -> None:
    """Write the manifests: files of an older set are replaced, or removed; what somebody put beside them stays.

    Raises:
        UsageError: the folder is somebody else's, or cannot be written.

    """
    try:
        _require_own(out)
        out.mkdir(parents=True, exist_ok=True)
        for name in OWN - files.keys():
            (out / name).unlink(missing_ok=True)
        for name, text in files.items():
            _replace(out / name, text)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}", "name another folder with --out") from error


def _replace(file: Path, text: str) -> None:
    """In one step: somebody may be applying the folder."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)


def _require_own(out: Path) -> None:
    """Raise `UsageError` for a folder that is not empty and has no kustomization of ours."""
    kustomization = out / f"{KUSTOMIZATION}.yaml"
    if not out.exists() or not any(out.iterdir()) or (kustomization.exists() and WRITTEN in kustomization.read_text()):
        return
    raise UsageError(f"{out} holds files that `invoke manifests` did not write", "name a folder of its own")


@contextmanager
def folder(service: Service) -> Iterator[Path]:
    """The rendered manifests in a folder of their own, gone at the end."""
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / service.name
        write(texts(service), out)
        yield out
