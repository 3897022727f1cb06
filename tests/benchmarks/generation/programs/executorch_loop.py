"""The way from a connection to the loop in C++, which runs prompts one after the other. Standard library only."""

import subprocess
import sys
import time
from typing import IO

from tests.benchmarks.generation.programs import lines


def main(loop: str, program: str, threads: str, operators: str, port: str) -> None:
    """Start the loop and answer."""
    with subprocess.Popen(
        [loop, program, threads, operators], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the loop has no pipes")
        given, said = process.stdin, process.stdout
        lines.serve(int(port), lambda prompts, tokens: generate(given, said, prompts, tokens))


def generate(given: IO[str], said: IO[str], prompts: list[list[int]], tokens: int) -> lines.Answers:
    """Greedy answers; the seconds of each count from when all prompts came."""
    since, answers = time.perf_counter(), []
    for prompt in prompts:
        waited = time.perf_counter() - since
        print(tokens, *prompt, file=given, flush=True)
        words = said.readline().split()
        if not words:
            raise EOFError("the loop ended")
        answers.append(([waited + float(word) for word in words[::2]], [int(word) for word in words[1::2]]))
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:])
