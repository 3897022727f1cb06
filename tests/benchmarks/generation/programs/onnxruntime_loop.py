"""ONNX Runtime without a server: a greedy loop over the model builder's graph, as fast as Python can have it.

The cache is one buffer that is past and present at once, everything is bound before the first token, and a step writes
two numbers a row: the token, and one more place that the row attends to.
"""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from tests.benchmarks.generation.programs import lines

GRAPH = "/artifact/model.onnx"
PAST, PRESENT = "past_key_values.", "present."


class Rows:
    """The cache of so many rows, bound for prompts and for steps."""

    def __init__(self, session: Any, rows: int, room: int) -> None:
        self._session = session
        given = [tensor for tensor in session.get_inputs() if tensor.name.startswith(PAST)]
        self._vocabulary = session.get_outputs()[0].shape[2]
        self._cells = {
            tensor.name: np.zeros((rows, tensor.shape[1], room, tensor.shape[3]), np.float32) for tensor in given
        }
        self.mask = np.zeros((rows, room), np.int64)
        self.ids = np.zeros((rows, 1), np.int64)
        self.logits = np.zeros((rows, 1, self._vocabulary), np.float32)
        self._step = self._bound(self.ids, self.mask, self.logits, slice(0, rows))

    def read(self, first: int, prompts: Sequence[Sequence[int]]) -> None:
        """Read equally long prompts into neighbouring rows, and have the logits behind them."""
        part = slice(first, first + len(prompts))
        self.mask[part, : len(prompts[0])] = 1
        ids = np.array(prompts, np.int64)
        # Rows are taken together only where the mask is no wider than they are. The binding keeps no array alive.
        mask = np.ones_like(ids)
        self._session.run_with_iobinding(self._bound(ids, mask, self.logits[part], part))

    def step(self) -> None:
        """Feed `ids`, one token a row, and have the logits."""
        self._session.run_with_iobinding(self._step)

    def _bound(self, ids: Any, mask: Any, logits: Any, part: slice) -> Any:
        binding = self._session.io_binding()
        for name, array in (("input_ids", ids), ("attention_mask", mask)):
            binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for name, cells in self._cells.items():
            rows = cells[part]
            binding.bind_input(name, "cpu", 0, np.float32, rows.shape, rows.ctypes.data)
            present = name.replace(PAST, PRESENT)
            binding.bind_output(present, "cpu", 0, np.float32, rows.shape, rows.ctypes.data)
        return binding


def main(threads: int, port: int) -> None:
    """Load the graph and answer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
    lines.serve(port, lambda prompts, tokens: generate(session, prompts, tokens))


def generate(session: Any, prompts: Sequence[Sequence[int]], tokens: int) -> lines.Answers:
    """Greedy answers, all rows together."""
    watch = lines.Watch()
    rows = Rows(session, len(prompts), max(map(len, prompts)) + tokens)
    first = 0
    for _, alike in itertools.groupby(prompts, len):
        together = list(alike)
        rows.read(first, together)
        first += len(together)
    chosen = rows.logits[:, 0].argmax(axis=1)
    watch.tick()
    every, places = np.arange(len(prompts)), np.array([len(prompt) for prompt in prompts])
    answers = [chosen]
    for step in range(tokens - 1):
        rows.ids[:, 0] = chosen
        rows.mask[every, places + step] = 1
        rows.step()
        chosen = rows.logits[:, 0].argmax(axis=1)
        answers.append(chosen)
        watch.tick()
    return [(watch.seconds, ids) for ids in np.stack(answers, axis=1).tolist()]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
