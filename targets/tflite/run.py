"""The artifact in LiteRT on the CPU: one file, a signature for each length of input."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from images.inside.contract import ArtifactError, Batch, CannotRunError, IntArray, Manifest, Outputs
from targets.tflite import shapes


class LiteRtRunner:
    """A LiteRT interpreter; satisfies `images.inside.contract.Runner`."""

    def __init__(self, interpreter: Interpreter, manifest: Manifest, threads: int) -> None:
        self._manifest, self._threads = manifest, threads
        self.lengths = shapes.lengths(list(interpreter.get_signature_list()))
        self._signatures = {length: interpreter.get_signature_runner(shapes.name(length)) for length in self.lengths}
        self._types = {
            length: {name: tensor["dtype"] for name, tensor in signature.get_input_details().items()}
            for length, signature in self._signatures.items()
        }
        self.delegated = delegated(interpreter)

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the model, each sequence by the smallest shape that holds it; float32 with the batch first.

        Raises:
            TooLongError: a sequence has more tokens than the longest shape.

        """
        rows = [self._row({name: batch[name][row] for name in batch}) for row in range(len(batch["input_ids"]))]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads, the lengths that it has, the share of operators in XNNPACK."""
        return {
            "runtime": "litert",
            "version": version("ai-edge-litert"),
            "threads": str(self._threads),
            "lengths": ",".join(map(str, self.lengths)),
            "xnnpack": f"{self.delegated:.3f}",
        }

    def _row(self, row: Mapping[str, IntArray]) -> Outputs:
        placed = shapes.fit(row, self.lengths, self._manifest)
        types = self._types[placed.length]
        outputs = self._signatures[placed.length](
            **{name: placed.given[name].astype(kind, copy=False) for name, kind in types.items()}
        )
        return shapes.cut(outputs, placed, len(row["input_ids"]), self._manifest)


def load(artifact: Path, manifest: Manifest, threads: int) -> LiteRtRunner:
    """Load the file. Raises as `opened` does, and `ArtifactError` when it has none of our signatures."""
    return LiteRtRunner(opened(artifact / manifest.entry, threads), manifest, threads)


def opened(file: Path, threads: int) -> Interpreter:
    """The file in an interpreter.

    Raises:
        ArtifactError: LiteRT cannot read it.
        CannotRunError: XNNPACK did not take it: it would be ten times slower.

    """
    try:
        interpreter = Interpreter(model_path=file, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"{file.name}: LiteRT cannot load it: {error}") from error
    if not delegated(interpreter):
        raise CannotRunError("XNNPACK did not take the model: every operator would run ten times slower")
    return interpreter


def delegated(interpreter: Interpreter) -> float:
    """The share of the first signature's operators that XNNPACK runs; the others are the same at other lengths."""
    return shapes.delegated(interpreter._get_ops_details())  # noqa: SLF001  # there is no other way to ask
