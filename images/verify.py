"""The smoke test in the finished image, as hardened as a cluster would run it: its report, or the error it means."""

from pathlib import Path

import msgspec

from images import devices
from images.engine import HARDENED, Engine
from images.errors import EngineError, GateError, ImageError, MachineError
from images.inside.errors import Exit
from images.inside.report import Report

ISOLATED = ("--network=none", *HARDENED)


def run(engine: Engine, image: str, *, device: str = "", weights: Path | None = None) -> Report:
    """Run the image's own smoke test without network. Raises `EngineError` when it does not end with a report.

    Args:
        engine: what runs it.
        image: by name or id.
        device: such as `cpu` or `cuda`; empty for what the image is made for, with what this machine has of it.
        weights: folder with the model's files, for an image without them.

    """
    told = devices.flags(engine, image, device=device, weights=weights)
    done = engine.run(image, "smoke-test", "--json", flags=(*ISOLATED, *told), timeout=1800)
    try:
        return msgspec.json.decode(done.stdout, type=Report)
    except msgspec.DecodeError as error:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise EngineError(f"the smoke test ended with exit code {done.returncode} and no report:\n{tail}") from error


def failure(report: Report) -> ImageError | None:
    """The error that a report stands for; None for a pass."""
    failed = next((check for check in report.checks if not check.passed), None)
    if report.passed and failed is None:
        return None
    if failed is None:
        return GateError(f"the smoke test says exit code {report.exit} and not what failed", "run `invoke smoke` again")
    if report.exit == Exit.CANNOT_RUN:
        return MachineError(
            f"this machine cannot run the image: {failed.detail}", "build and verify it on one that can"
        )
    if report.exit == Exit.DAMAGED:
        return GateError(
            f"the artifact is damaged: {failed.detail}", "build it again; if it stays, the disk may be failing"
        )
    worst = "; ".join(report.misses[:3]) or failed.detail
    return GateError(
        f"the artifact does not reproduce the original model ({failed.name}): {worst}",
        "nothing was tagged. Try another --quantize mode, or accept it with --accept-failed-gate REASON",
    )


def hold(report: Report, *, override: bool) -> None:
    """Raise what a failed report stands for. An override accepts outputs that differ, and nothing else."""
    error = failure(report)
    if error and not (override and report.exit == Exit.DIFFERS):
        raise error
