"""ONNX Runtime without a server: the image's own session. See `tests.benchmarks.loops`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from images.inside.records import read_manifest
from targets.onnx_cpu import run
from tests.benchmarks import loops


def main(artifact: Path, threads: int) -> None:
    """Answer lines until there are no more."""
    # The runner makes the session, so that its options are the image's; the loop calls nothing else of the runner.
    session: Any = run.load(artifact, read_manifest(artifact), threads)._session
    names, tokenizer = [tensor.name for tensor in session.get_inputs()], loops.tokenizer(artifact)

    def prepare(text: str) -> Mapping[str, Any]:
        rows = loops.rows(tokenizer.encode(text))
        return {name: np.array([rows[name]], np.int64) for name in names}

    loops.answer(prepare, lambda given: session.run(None, given)[0][0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
