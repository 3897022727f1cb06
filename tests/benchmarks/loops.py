"""A runtime without a server: a plain loop over texts, told over standard input what to run.

A line in is a JSON list: whether to tokenise in the loop, and the texts. A line out is the seconds that each text took
and the last text's vector.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tokenizers

Inputs = TypeVar("Inputs")


def answer(prepare: Callable[[str], Inputs], call: Callable[[Inputs], Any]) -> None:
    """Answer lines until there are no more.

    Args:
        prepare: what the model takes of a text.
        call: the text's vector; all that the runtime does.

    """
    for line in sys.stdin:
        tokenise, texts = json.loads(line)
        print(json.dumps(timed(prepare, call, texts, tokenise=tokenise)), flush=True)


def timed(
    prepare: Callable[[str], Inputs], call: Callable[[Inputs], Any], texts: Sequence[str], *, tokenise: bool
) -> list[Any]:
    """The seconds that each text took, and the last one's vector."""
    ready = {} if tokenise else {text: prepare(text) for text in set(texts)}
    seconds, vector = [], np.empty(0)
    for text in texts:
        since = time.perf_counter()
        vector = call(ready[text] if text in ready else prepare(text))
        seconds.append(time.perf_counter() - since)
    return [seconds, vector.tolist()]


def tokenizer(artifact: Path) -> tokenizers.Tokenizer:
    """An artifact's tokenizer, which neither pads nor cuts."""
    found = tokenizers.Tokenizer.from_file(str(artifact / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


def rows(encoding: tokenizers.Encoding) -> dict[str, list[int]]:
    """A text's tokens by the names that encoders have for them."""
    return {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
