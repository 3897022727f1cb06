"""The artifact in ONNX Runtime on the CPU."""

from pathlib import Path

import numpy as np
import onnxruntime

from images.inside.contract import Batch, FloatArray, Outputs
from images.inside.errors import ArtifactError
from images.inside.records import Manifest


class OnnxRunner:
    """An ONNX Runtime session; satisfies `images.inside.contract.Runner`."""

    def __init__(self, session: onnxruntime.InferenceSession, threads: int) -> None:
        self._session = session
        self._threads = threads
        self._inputs = [tensor.name for tensor in session.get_inputs()]
        self._outputs = [tensor.name for tensor in session.get_outputs()]

    def predict(self, batch: Batch) -> Outputs:
        """Every output of the graph; float32 with the batch first."""
        given = _with_positions(batch) if "position_ids" in self._inputs else batch
        arrays = self._session.run(self._outputs, {name: given[name] for name in self._inputs})
        return {name: _float32(array) for name, array in zip(self._outputs, arrays, strict=True)}

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return {"runtime": "onnxruntime", "version": onnxruntime.__version__, "threads": str(self._threads)}


def load(artifact: Path, manifest: Manifest, threads: int) -> OnnxRunner:
    """Load the graph. Raises `ArtifactError` when ONNX Runtime cannot read it."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn a shared core's time while they wait: it halved the throughput under a CPU quota.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(artifact / manifest.entry, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise ArtifactError(f"{manifest.entry}: ONNX Runtime cannot load it: {error}") from error
    return OnnxRunner(session, threads)


def _with_positions(batch: Batch) -> Batch:
    """Decoders used as encoders take positions too: they count the real tokens, from 0."""
    return {**batch, "position_ids": np.maximum(batch["attention_mask"].cumsum(axis=1) - 1, 0)}


def _float32(array: FloatArray) -> FloatArray:
    return array.astype(np.float32, copy=False)
