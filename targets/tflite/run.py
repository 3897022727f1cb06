"""The artifact in LiteRT on the CPU: one file, a signature for each length of texts, or one for a picture."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from images.inside.contract import Batch, Outputs
from images.inside.errors import ArtifactError, CannotRunError
from images.inside.records import Manifest
from targets.tflite import shapes


class LiteRtRunner:
    """A LiteRT interpreter; satisfies `images.inside.contract.Runner`.

    Attributes:
        lengths: of texts, in tokens, ascending; empty for a model that takes pictures.
        delegated: the share of operators in XNNPACK.

    """

    def __init__(self, interpreter: Interpreter, manifest: Manifest, threads: int) -> None:
        self._manifest, self._threads = manifest, threads
        known = list(interpreter.get_signature_list())
        self.lengths = [] if manifest.image else shapes.lengths(known)
        names = shapes.pictures(known) if manifest.image else map(shapes.name, self.lengths)
        self._signatures = {name: interpreter.get_signature_runner(name) for name in names}
        self._types = {name: _types(signature) for name, signature in self._signatures.items()}
        # Tokens are put where they go in the numbers that the model takes: converted later, they would be copied.
        self._dtype = next(iter(next(iter(self._types.values())).values()))
        self.delegated = delegated(interpreter)

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the model, each sequence by the smallest shape that holds it; float32 with the batch first.

        Raises:
            TooLongError: a sequence has more tokens than the longest shape.

        """
        ask = self._picture if self._manifest.image else self._sequence
        count = len(next(iter(batch.values())))
        rows = [ask({name: array[row] for name, array in batch.items()}) for row in range(count)]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads, the lengths that it has, the share of operators in XNNPACK."""
        return {
            "runtime": "litert",
            "version": version("ai-edge-litert"),
            "threads": str(self._threads),
            **({"lengths": ",".join(map(str, self.lengths))} if self.lengths else {}),
            "xnnpack": f"{self.delegated:.3f}",
        }

    def _sequence(self, row: Mapping[str, Any]) -> Outputs:
        placed = shapes.fit(row, self.lengths, self._manifest, self._dtype)
        outputs = self._call(shapes.name(placed.length), placed.given)
        return shapes.cut(outputs, placed, len(row["input_ids"]), self._manifest)

    def _picture(self, row: Mapping[str, Any]) -> Outputs:
        outputs = self._call(shapes.PICTURE, {name: array[None] for name, array in row.items()})
        return {name: array[0].astype(np.float32, copy=False) for name, array in outputs.items()}

    def _call(self, signature: str, given: Mapping[str, Any]) -> Outputs:
        types = self._types[signature]
        called: Outputs = self._signatures[signature](
            **{name: given[name].astype(kind, copy=False) for name, kind in types.items()}
        )
        return called


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


def _types(signature: Any) -> dict[str, Any]:
    """The number format of each input."""
    return {name: tensor["dtype"] for name, tensor in signature.get_input_details().items()}
