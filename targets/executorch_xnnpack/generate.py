"""A decoder with its key-value cache in ExecuTorch: one sequence at a time, for the program holds one cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from images.inside.contract import FloatArray
from images.inside.errors import ArtifactError
from images.inside.records import Manifest
from targets.executorch_xnnpack import program
from targets.executorch_xnnpack.program import Program, ProgramError

CONTEXT, STEP = "get_max_seq_len", "longest_step"
"""The program's methods that say how many tokens its cache has room for, and how many one run takes."""
LONGEST = 256
"""Tokens that are read at once: what a run needs beside its weights grows with them."""


class Decoder:
    """An ExecuTorch program with a decoder; satisfies `images.inside.generation.contract.Generator`."""

    slots = 1

    def __init__(self, loaded: Program, context: int, step: int, about: Mapping[str, str]) -> None:
        self._program, self._about = loaded, about
        self._step, self._length = step, 0
        self.context = context

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        """Feed tokens in; the logits behind the last of them."""
        del slot
        for start in range(0, len(ids), self._step):
            logits = self._feed(ids[start : start + self._step])
        return logits

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        """Feed one token in; the logits behind it."""
        del slots
        return self._feed(ids)[np.newaxis]

    def length(self, slot: int) -> int:
        """How many tokens the cache holds."""
        del slot
        return self._length

    def release(self, slot: int) -> None:
        """Forget them: what follows is written over them, and attends to nothing behind itself."""
        del slot
        self._length = 0

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return {**self._about, "cache": "one sequence"}

    def _feed(self, ids: Sequence[int]) -> FloatArray:
        positions = np.arange(self._length, self._length + len(ids), dtype=np.int64)
        logits = self._program.run([np.array([ids], np.int64), positions])["logits"]
        self._length += len(ids)
        return np.array(logits[0, -1], np.float32)


def load(artifact: Path, manifest: Manifest, threads: int, slots: int) -> Decoder:
    """Load the program; it has one slot, however many are asked for. Raises `ArtifactError`."""
    del slots
    loaded = program.load(artifact, manifest, threads)
    try:
        context, step = loaded.number(CONTEXT), loaded.number(STEP)
    except ProgramError as error:
        raise ArtifactError(f"{manifest.entry}: does not say its context: {error}") from error
    if context < manifest.max_length:
        raise ArtifactError(f"{manifest.entry}: has room for {context} tokens, the manifest says {manifest.max_length}")
    return Decoder(loaded, manifest.max_length, min(step, LONGEST), program.describe(manifest, threads))
