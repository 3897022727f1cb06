"""The export step in the builder: calls the target's exporter and seals the artifact with its manifest.

The artifact folder: the exporter's own files, `tokenizer.json` where texts go in, `reference/`, and `manifest.json`
with every digest.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import platform
import shutil
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import msgspec

from images.inside import compare, modality, original
from images.inside.contract import Export, Exported, Exporting
from images.inside.records import (
    KV_TOKENS,
    MANIFEST,
    REFERENCE,
    ExportJob,
    FileDigest,
    Manifest,
    Source,
    SourceJob,
    write_json,
)
from images.inside.vision import decoding

MIB = 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Export `--model` as the job in `--job` says, with the reference in `--work`, to `--out`."""
    parser = argparse.ArgumentParser()
    for option in ("--job", "--model", "--work", "--out"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args(argv)
    source_job = msgspec.json.decode((options.job / "source/source.json").read_bytes(), type=SourceJob)
    job = msgspec.json.decode((options.job / "export/export.json").read_bytes(), type=ExportJob)
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True)
    given = Exporting(options.model, options.out, options.work, options.job / "export", source_job, job)
    made = _export(given)
    hold(job, made)
    seal(given, made)


def hold(job: ExportJob, made: Exported) -> None:
    """End the step with an error when something that the exporter measured is less than the mode allows."""
    for name, least in job.least.items():
        if made.measures[name] < least:
            original.refuse(
                f"{name.replace('_', ' ')} of the artifact is {made.measures[name]:.3f}; "
                f"{job.target} ({job.mode}) allows no less than {least:g}",
                "nothing was tagged: this model's operators do not suit the target; try another target or mode",
            )


def _export(given: Exporting) -> Exported:
    export: Export = importlib.import_module(f"targets.{given.job.target.replace('-', '_')}.export").export
    try:
        return export(given)
    except Exception as error:  # noqa: BLE001 - exporters raise anything
        traceback.print_exc()  # for the log
        original.refuse(
            f"{given.job.exporter} cannot export {given.source.model.id} for {given.source.task}: "
            f"{original.first_line(error)}",
            "its architecture or task may be unknown to this exporter: "
            "try another --exporter, --quantize mode, --task or target",
        )


def manifest_of(given: Exporting, made: Exported) -> Manifest:
    """The manifest of what is in the artifact's folder now."""
    source = read_source(given)
    return Manifest(
        target=given.job.target,
        task=given.source.task,
        exporter=given.job.exporter,
        mode=given.job.mode,
        model=given.source.model,
        entry=made.entry,
        recipe=made.recipe,
        measures=dict(made.measures),
        options=given.job.options,
        deprecated=given.job.deprecated,
        bounds=given.job.bounds,
        architecture=platform.machine(),
        memory_bytes=_memory(given.out, made, source),
        packages=installed(),
        files=sorted([*digests(given.out), *made.elsewhere], key=lambda file: file.path),
        **{name: getattr(source, name) for name in source.__struct_fields__},
    )


def _memory(artifact: Path, made: Exported, source: Source) -> int:
    """Whole MiB: a control group rounds its limit down to pages, and a limit of what is stated must be enough."""
    loaded = [*artifact.glob(f"{made.entry}*"), *artifact.glob(f"{made.entry}/*")]
    weights = sum(file.stat().st_size for file in loaded if file.is_file()) + sum(file.size for file in made.elsewhere)
    cache = min(source.generation.context, KV_TOKENS) * source.generation.kv_bytes if source.generation else 0
    picture = decoding.MEMORY if source.image else 0
    return -(-(max(made.memory, weights) + cache + picture + made.overhead) // MIB) * MIB


def seal(given: Exporting, made: Exported) -> None:
    """Add what prepares inputs, and the reference, then write the manifest over everything."""
    carry(given)
    shutil.copytree(given.work / REFERENCE, given.out / REFERENCE)
    write_json(given.out / MANIFEST, manifest_of(given, made))
    for path in (path for path in given.out.rglob("*") if not path.is_symlink()):
        path.chmod(0o755 if path.is_dir() else 0o644)


def carry(given: Exporting) -> None:
    """Bring what prepares the model's inputs from the reference step, unless the exporter wrote its own."""
    for name in modality.of(read_source(given)).files:
        if not (given.out / name).exists():
            shutil.copy(given.work / name, given.out)


def output_names(given: Exporting) -> tuple[str, ...]:
    """What the original's outputs are called, as the reference step recorded them."""
    recorded = next(iter(compare.load(given.work / REFERENCE).outputs.values()))[0]
    return tuple(name for name in recorded if name not in {compare.ROWS, compare.PIXELS})


def read_source(given: Exporting) -> Source:
    """What the reference step found out about the original."""
    return msgspec.json.decode((given.work / "source.json").read_bytes(), type=Source)


def digests(folder: Path) -> list[FileDigest]:
    """Every file of an artifact but its manifest, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return [
        FileDigest(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=sha256(path))
        for path in files
    ]


def sha256(path: Path) -> str:
    """The file's sha256 as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed() -> dict[str, str]:
    """Every distribution of this environment and its version."""
    found = {distribution.metadata["Name"]: distribution.version for distribution in importlib.metadata.distributions()}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    main()
