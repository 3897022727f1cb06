"""LiteRT without a server: the image's own file in an Interpreter. See `tests.benchmarks.loops`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from images.inside.records import read_manifest
from targets.tflite import run, shapes
from tests.benchmarks import loops


def main(artifact: Path, threads: int) -> None:
    """Answer lines until there are no more."""
    # Inputs are laid out as the runner does; what is called is the Interpreter's own signature.
    manifest, tokenizer = read_manifest(artifact), loops.tokenizer(artifact)
    runner: Any = run.load(artifact, manifest, threads)

    def prepare(text: str) -> tuple[str, Mapping[str, Any]]:
        row = {name: np.array(ids, np.int64) for name, ids in loops.rows(tokenizer.encode(text)).items()}
        placed = shapes.fit(row, runner.lengths, manifest, runner._dtype)
        signature = shapes.name(placed.length)
        types = runner._types[signature]
        return signature, {name: placed.given[name].astype(kind, copy=False) for name, kind in types.items()}

    def call(given: tuple[str, Mapping[str, Any]]) -> Any:
        (vector,) = runner._signatures[given[0]](**given[1]).values()
        return vector[0]

    loops.answer(prepare, call)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
