# mypy: ignore-errors
"""PyTorch without a server, as it is: the original model by sentence-transformers. See `tests.benchmarks.loops`.

Its packages are in the benchmark's own environment only, so mypy knows none of them.
"""

import sys

import torch
from sentence_transformers import SentenceTransformer

from tests.benchmarks import loops


def main(model: str, threads: int) -> None:
    """Answer lines until there are no more."""
    torch.set_num_threads(threads)
    original = SentenceTransformer(model, device="cpu")
    with torch.inference_mode():
        loops.answer(
            lambda text: original.preprocess([text]),
            lambda given: original(dict(given))["sentence_embedding"][0].numpy(),
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
