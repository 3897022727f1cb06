"""ONNX Runtime without a server: the image's own session in a plain loop, told over standard input what to run.

A line in is a JSON list: whether to tokenise in the loop, and the texts. A line out is the seconds that each text took
and the last text's vector.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from images.inside.contract import read_manifest
from targets.onnx_cpu import run

Inputs = Mapping[str, Any]


def main(artifact: Path, threads: int) -> None:
    """Answer lines until there are no more."""
    # The runner makes the session, so that its options are the image's; the loop calls nothing else of the runner.
    session: Any = run.load(artifact, read_manifest(artifact), threads)._session
    tokenizer = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for line in sys.stdin:
        tokenise, texts = json.loads(line)
        print(json.dumps(_loop(session, tokenizer, texts, tokenise=tokenise)), flush=True)


def _loop(session: Any, tokenizer: tokenizers.Tokenizer, texts: Sequence[str], *, tokenise: bool) -> list[Any]:
    names = [tensor.name for tensor in session.get_inputs()]
    ready = {} if tokenise else {text: _inputs(tokenizer, text, names) for text in set(texts)}
    seconds, vector = [], np.empty(0)
    for text in texts:
        since = time.perf_counter()
        (vector,) = session.run(None, ready.get(text) or _inputs(tokenizer, text, names))
        seconds.append(time.perf_counter() - since)
    return [seconds, vector[0].tolist()]


def _inputs(tokenizer: tokenizers.Tokenizer, text: str, names: Sequence[str]) -> Inputs:
    encoding = tokenizer.encode(text)
    rows = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
    return {name: np.array([rows[name]], np.int64) for name in names}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
