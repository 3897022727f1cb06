"""What the runtime makes of the file: run in a process of its own, where nothing else takes memory."""

import argparse
import json
from pathlib import Path

import msgspec
import numpy as np

from images.inside.compare import PIXELS
from images.inside.records import Manifest
from targets.tflite import cached, generate, run


def main() -> None:
    """Load the file as the image does, run every shape, print what was seen as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    options = parser.parse_args()
    manifest = msgspec.json.decode(options.manifest.read_bytes(), type=Manifest)
    before = _peak()
    about = (_generate if manifest.generation else _predict)(options.artifact, manifest)
    print(json.dumps({"xnnpack": float(about["xnnpack"]), "memory": _peak() - before}))


def _predict(artifact: Path, manifest: Manifest) -> dict[str, str]:
    runner = run.load(artifact, manifest, threads=1)
    if manifest.image:
        runner.predict({PIXELS: np.zeros((1, 3, manifest.image.height, manifest.image.width), np.float32)})
    for length in runner.lengths:
        row = np.ones((1, length), np.int64)
        runner.predict({"input_ids": row, "attention_mask": row, "token_type_ids": 0 * row})
    return runner.describe()


def _generate(artifact: Path, manifest: Manifest) -> dict[str, str]:
    generator = generate.load(artifact, manifest, threads=1, slots=1)
    generator.prefill(0, [0] * cached.PART)
    generator.prefill(0, [0])
    return generator.describe()


def _peak() -> int:
    """The most bytes that this program has had in memory; `getrusage` would count the exporter that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
