"""A decoder with its key-value cache in ONNX Runtime on the CPU, many sequences together.

Two kinds of graph. One attends in place: its cache is a buffer that is past and present at once, rows have lengths of
their own. The other concatenates: it takes the past and returns past and present, all rows equally long, so shorter
rows are padded on the left.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnxruntime

from images.inside.errors import ArtifactError
from images.inside.generation.contract import Generator
from images.inside.records import Manifest
from targets.onnx_cpu.concatenating import Concatenating
from targets.onnx_cpu.graph import Graph
from targets.onnx_cpu.in_place import InPlace

CACHE = "modelyard.cache"
"""The graph's metadata says by this key how it holds its cache."""
KINDS: Mapping[str, Callable[[Graph, int, int], Generator]] = {"shared": InPlace, "concatenated": Concatenating}
"""By what it says there."""


def load(artifact: Path, manifest: Manifest, threads: int, slots: int) -> Generator:
    """Load the graph with room for so many sequences. Raises `ArtifactError` when ONNX Runtime cannot read it."""
    onnxruntime.disable_telemetry_events()
    try:
        session = onnxruntime.InferenceSession(
            artifact / manifest.entry, options(threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise ArtifactError(f"{manifest.entry}: ONNX Runtime cannot load it: {error}") from error
    graph = Graph.of(session, threads)
    kind = session.get_modelmeta().custom_metadata_map.get(CACHE, "")
    if kind not in KINDS:
        raise ArtifactError(f"{manifest.entry}: does not say how it holds its cache ({CACHE}: {', '.join(KINDS)})")
    return KINDS[kind](graph, slots, manifest.max_length)


def options(threads: int) -> onnxruntime.SessionOptions:
    """How ONNX Runtime is to run a decoder."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    # Spinning threads burn a shared core's time while they wait.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Every step has another shape: a memory plan by shape would never be used twice.
    chosen.enable_mem_pattern = False
    chosen.log_severity_level = 3
    return chosen
