"""A decoder in LiteRT on the CPU."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from images.inside.errors import ArtifactError
from images.inside.records import Manifest
from targets.tflite import cached, run


def load(artifact: Path, manifest: Manifest, threads: int, slots: int) -> cached.Cached:
    """Load the file with room for so many sequences. Raises as `targets.tflite.run.load` does."""
    interpreter = run.opened(artifact / manifest.entry, threads)
    names = list(interpreter.get_signature_list())
    part = next((name for name in names if name.startswith(cached.READ)), "")
    if cached.STEP not in names or not part:
        raise ArtifactError(f"{manifest.entry}: no signatures of a decoder; it has: {', '.join(names) or 'none'}")
    step = interpreter.get_signature_runner(cached.STEP)
    empty = {
        name: np.zeros(tensor["shape"], tensor["dtype"])
        for name, tensor in step.get_input_details().items()
        if name.startswith(cached.CACHE)
    }
    return cached.Cached(
        interpreter.get_signature_runner(part),
        step,
        int(part.removeprefix(cached.READ)),
        slots,
        empty,
        {
            "runtime": "litert",
            "version": version("ai-edge-litert"),
            "threads": str(threads),
            "xnnpack": f"{run.delegated(interpreter):.3f}",
        },
    )
