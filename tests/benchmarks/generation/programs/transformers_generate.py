# mypy: ignore-errors
"""`generate` of transformers, over PyTorch or over Optimum's ONNX Runtime model, as its documentation shows it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from tests.benchmarks.generation.programs import lines


class Ticking(StoppingCriteria):
    """Stops nothing: it is called behind every token."""

    def __init__(self, watch: lines.Watch) -> None:
        self._watch = watch

    def __call__(self, input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        """Note the time."""
        self._watch.tick()
        return torch.zeros(len(input_ids), dtype=torch.bool)


def pytorch(folder: Path, threads: int) -> Any:
    """The original model."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - slow, and in one of the two environments

    torch.set_num_threads(threads)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def optimum(folder: Path, threads: int) -> Any:
    """Optimum's export of it, with threads that do not spin: they would double its CPU time."""
    import onnxruntime  # noqa: PLC0415 - in one of the two environments
    from optimum.onnxruntime import ORTModelForCausalLM  # noqa: PLC0415 - as above

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    torch.set_num_threads(threads)
    return ORTModelForCausalLM.from_pretrained(folder, session_options=options, local_files_only=True)


def generate(model: Any, prompts: Sequence[list[int]], tokens: int) -> lines.Answers:
    """Greedy answers of one batch, padded on the left, whatever the model would end with."""
    watch = lines.Watch()
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    found = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        stopping_criteria=StoppingCriteriaList([Ticking(watch)]),
    )
    return [(watch.seconds, answer) for answer in found[:, width:].tolist()]


def main(kind: str, folder: str, threads: str, port: str) -> None:
    """Load the model and answer."""
    model = {"pytorch": pytorch, "optimum": optimum}[kind](Path(folder), int(threads))
    with torch.inference_mode():
        lines.serve(int(port), lambda prompts, tokens: generate(model, prompts, tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])
