# mypy: ignore-errors
"""`text_generation` of optimum-executorch, given token ids where it would have encoded a text."""

import sys
from collections.abc import Sequence
from typing import Any

from executorch.extension.pybindings import portable_lib
from optimum.executorch import ExecuTorchModelForCausalLM
from transformers import AutoTokenizer

from tests.benchmarks.generation.programs import lines


class Ids:
    """A tokenizer whose texts are token ids; for all else, the model's own."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._tokenizer, self._prompt = tokenizer, prompt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, _text: str) -> list[int]:
        """The prompt."""
        return list(self._prompt)

    def decode(self, ids: Sequence[int], **_: object) -> list[int]:
        """The answer."""
        return list(ids)


def generate(model: Any, tokenizer: Any, prompts: Sequence[list[int]], tokens: int) -> lines.Answers:
    """Greedy answers, one after the other; the seconds of each count from when all prompts came."""
    watch, answers = lines.Watch(), []
    forward = type(model).forward

    def ticking(**given: Any) -> Any:
        logits = forward(model, **given)
        watch.tick()
        return logits

    model.forward = ticking
    for prompt in prompts:
        before = len(watch.seconds)
        ids = model.text_generation(Ids(tokenizer, prompt), "", echo=False, max_seq_len=len(prompt) + tokens)
        answers.append((watch.seconds[before:], ids))
    return answers


def main(folder: str, original: str, threads: str, port: str) -> None:
    """Load the program and answer."""
    model = ExecuTorchModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(original)
    portable_lib._unsafe_reset_threadpool(int(threads))
    lines.serve(int(port), lambda prompts, tokens: generate(model, tokenizer, prompts, tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])
