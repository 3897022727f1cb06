"""The artifact in libtorch: a TorchScript archive, or an AOTInductor package with its machine code."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from images.inside import collate
from images.inside.contract import Batch, FloatArray, Outputs
from images.inside.errors import ArtifactError, CannotRunError
from images.inside.records import Manifest
from targets.torchscript import libtorch
from targets.torchscript.signature import Signature

CPU = Path("/proc/cpuinfo")
Call = Callable[[Sequence[Any]], Sequence[FloatArray]]
"""A module: arrays in the order of `Signature.inputs` to arrays in the order of `Signature.outputs`."""


class ModuleRunner:
    """A module that is right at all shapes; satisfies `images.inside.contract.Runner`."""

    def __init__(self, module: Call, signature: Signature, threads: int) -> None:
        self._module, self._signature, self._threads = module, signature, threads

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the module; float32 with the batch first."""
        arrays = self._module([batch[name] for name in self._signature.inputs])
        return dict(zip(self._signature.outputs, arrays, strict=True))

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return {"runtime": "libtorch", "version": libtorch.version(), "threads": str(self._threads)}


class FixedRunner(ModuleRunner):
    """A module that is right at one shape: each row is padded to it and runs alone."""

    def __init__(self, module: Call, signature: Signature, threads: int, manifest: Manifest) -> None:
        super().__init__(module, signature, threads)
        self._length, self._manifest = signature.fixed, manifest

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the module for each row, cut back to the batch's own length where it has one row a token."""
        count, length = batch["input_ids"].shape
        rows = [self._row({name: array[row : row + 1] for name, array in batch.items()}) for row in range(count)]
        return {name: np.stack([self._cut(row[name][0], length) for row in rows]) for name in self._signature.outputs}

    def _row(self, batch: Batch) -> Outputs:
        fill = {"input_ids": self._manifest.pad_token_id}
        return super().predict({name: self._padded(array, fill.get(name, 0)) for name, array in batch.items()})

    def _padded(self, array: Any, fill: int) -> Any:
        missing = self._length - array.shape[1]
        return np.pad(array, ((0, 0), (missing, 0) if self._left else (0, missing)), constant_values=fill)

    def _cut(self, array: FloatArray, length: int) -> FloatArray:
        if not collate.per_token(array, self._length, self._manifest):
            return array
        return array[self._length - length :] if self._left else array[:length]

    @property
    def _left(self) -> bool:
        return self._manifest.padding_side == "left"


def load(artifact: Path, manifest: Manifest, threads: int) -> ModuleRunner:
    """Load the module.

    Raises:
        ArtifactError: libtorch cannot read it.
        CannotRunError: its machine code is not for this processor.

    """
    signature = Signature.load(artifact)
    require_cpu(signature)
    try:
        module = libtorch.Module(artifact / manifest.entry, threads)
    except libtorch.LibtorchError as error:
        raise ArtifactError(f"{manifest.entry}: libtorch cannot load it: {error}") from error
    return runner(module, signature, manifest, threads)


def runner(module: Call, signature: Signature, manifest: Manifest, threads: int) -> ModuleRunner:
    """A module behind the shapes that it takes."""
    return (
        FixedRunner(module, signature, threads, manifest)
        if signature.fixed
        else ModuleRunner(module, signature, threads)
    )


def require_cpu(signature: Signature, file: Path = CPU) -> None:
    """Raise `CannotRunError` when this processor lacks what the machine code needs: it would end the process."""
    flags = next((line for line in file.read_text().splitlines() if line.startswith("flags")), "").split()
    if missing := [feature for feature in signature.cpu if feature not in flags]:
        raise CannotRunError(f"the artifact's machine code needs {', '.join(missing)}, which this processor lacks")
