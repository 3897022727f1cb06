"""A program of ExecuTorch that answers at once: an encoder of texts, or a network for pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from images.inside.compare import PIXELS
from images.inside.contract import Batch, FloatArray, Outputs
from images.inside.records import Manifest
from targets.executorch_xnnpack import program
from targets.executorch_xnnpack.program import Program


class ExecuTorchRunner:
    """A program for one text; satisfies `images.inside.contract.Runner`."""

    def __init__(self, loaded: Program, about: Mapping[str, str]) -> None:
        self._program, self._about = loaded, about

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the program, row by row without its padding; float32 with the batch first."""
        names, real = self._program.inputs, batch["attention_mask"].astype(bool)
        rows = [self._run({name: batch[name][row][mask] for name in names}) for row, mask in enumerate(real)]
        return {name: _together([row[name] for row in rows], real) for name in self._program.outputs}

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return dict(self._about)

    def _run(self, row: Batch) -> Outputs:
        outputs = self._program.run([row[name][np.newaxis] for name in self._program.inputs])
        return {name: np.array(array[0], np.float32) for name, array in outputs.items()}


class PictureRunner(ExecuTorchRunner):
    """A program for one picture."""

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the program, picture by picture; float32 with the batch first."""
        rows = [self._run({PIXELS: picture}) for picture in batch[PIXELS]]
        return {name: np.stack([row[name] for row in rows]) for name in self._program.outputs}


def load(artifact: Path, manifest: Manifest, threads: int) -> ExecuTorchRunner:
    """Load the program. Raises `ArtifactError` when ExecuTorch cannot read it."""
    runner = PictureRunner if manifest.image else ExecuTorchRunner
    return runner(program.load(artifact, manifest, threads), program.describe(manifest, threads))


def _together(rows: Sequence[FloatArray], real: FloatArray) -> FloatArray:
    """Rows as one array. Those of unequal length have an entry a token, which goes where the token is."""
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    whole = np.zeros((*real.shape, *rows[0].shape[1:]), np.float32)
    for target, mask, row in zip(whole, real, rows, strict=True):
        target[mask] = row
    return whole
