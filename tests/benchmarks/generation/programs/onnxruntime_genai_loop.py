# mypy: ignore-errors
"""onnxruntime-genai's own loop over a folder of its model builder."""

import sys
from typing import Any

import numpy as np
import onnxruntime_genai

from tests.benchmarks.generation.programs import lines


def generate(model: Any, prompts: list[list[int]], tokens: int) -> lines.Answers:
    """Greedy answers of one batch; its prompts are equally long."""
    watch = lines.Watch()
    width = max(map(len, prompts))
    params = onnxruntime_genai.GeneratorParams(model)
    length = width + tokens
    params.set_search_options(batch_size=len(prompts), max_length=length, min_length=length, do_sample=False)
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(np.array(prompts, np.int32))
    for _ in range(tokens):
        generator.generate_next_token()
        watch.tick()
    return [(watch.seconds, generator.get_sequence(row)[width:].tolist()) for row in range(len(prompts))]


def main(folder: str, port: str) -> None:
    """Load the model and answer."""
    model = onnxruntime_genai.Model(folder)
    lines.serve(int(port), lambda prompts, tokens: generate(model, prompts, tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])
