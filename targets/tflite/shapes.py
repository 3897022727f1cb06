"""Fixed shapes: which of them a sequence takes, how it is padded into it, and what of the answer is the sequence's.

Every shape is a signature of the same file, with a batch of 1. Pure: no runtime is needed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from images.inside import collate
from images.inside.contract import FloatArray, IntArray, Outputs
from images.inside.errors import ArtifactError, TooLongError
from images.inside.records import Manifest

PREFIX = "tokens_"
"""Before the length in a signature's name."""
PICTURE = "picture"
"""The one signature of a model that takes pictures: they are all of one size."""
DELEGATE = "DELEGATE"
"""What LiteRT calls the operator that stands for all that a delegate took over."""


class Fit(NamedTuple):
    """A sequence in the shape that it takes.

    Attributes:
        length: of the shape, in tokens.
        real: where the sequence stands in it; the rest is padding.
        given: the model's inputs, [1, length].

    """

    length: int
    real: slice
    given: Mapping[str, IntArray]


def name(length: int) -> str:
    """What the signature for inputs of so many tokens is called."""
    return f"{PREFIX}{length}"


def lengths(names: Sequence[str]) -> list[int]:
    """The lengths of a file's signatures, ascending. Raises `ArtifactError` when it has none of ours."""
    found = [text.removeprefix(PREFIX) for text in names if text.startswith(PREFIX)]
    if not found or not all(text.isdecimal() for text in found):
        raise ArtifactError(f"no signature {PREFIX}<length>; it has: {', '.join(names) or 'none'}")
    return sorted(map(int, found))


def pictures(names: Sequence[str]) -> list[str]:
    """The signature for pictures. Raises `ArtifactError` when a file does not have it."""
    if PICTURE not in names:
        raise ArtifactError(f"no signature {PICTURE}; it has: {', '.join(names) or 'none'}")
    return [PICTURE]


def wanted(text: str, limit: int) -> list[int]:
    """The lengths that `--seq-len` asks for, ascending; those beyond the model's limit make one at the limit."""
    return sorted({min(int(number), limit) for number in text.split(",")})


def smallest(known: Sequence[int], tokens: int) -> int:
    """The shortest of ascending lengths that holds so many tokens. Raises `TooLongError` when none does."""
    for length in known:
        if tokens <= length:
            return length
    raise TooLongError(tokens, known[-1])


def fit(row: Mapping[str, IntArray], known: Sequence[int], manifest: Manifest, dtype: type[Any] = np.int64) -> Fit:
    """Put one sequence of a batch into the smallest shape that holds it; what a batch padded it with is left out.

    Args:
        row: `input_ids`, `attention_mask` and `token_type_ids` of one sequence, int64.
        known: the lengths that there are, ascending.
        manifest: says what padding is, and on which side.
        dtype: what the model takes.

    """
    tokens = int(np.count_nonzero(row["attention_mask"]))
    length = smallest(known, tokens)
    source, real = collate.span(tokens, len(row["input_ids"]), manifest), collate.span(tokens, length, manifest)
    given = dict(zip(row, np.zeros((len(row), 1, length), dtype), strict=True))
    given["input_ids"].fill(manifest.pad_token_id)
    for each, array in given.items():
        array[0, real] = row[each][source]
    return Fit(length, real, given)


def cut(outputs: Mapping[str, FloatArray], placed: Fit, width: int, manifest: Manifest) -> Outputs:
    """One sequence's outputs as a batch `width` tokens wide has them: zeros where it is padded, float32."""
    return {each: _cut(array[0], placed, width, manifest) for each, array in outputs.items()}


def _cut(array: FloatArray, placed: Fit, width: int, manifest: Manifest) -> FloatArray:
    exact = array.astype(np.float32, copy=False)
    if not collate.per_token(exact, placed.length, manifest):
        return exact
    tokens = placed.real.stop - placed.real.start
    wide = np.zeros((width, *exact.shape[1:]), np.float32)
    wide[collate.span(tokens, width, manifest)] = exact[placed.real]
    return wide


def delegated(operators: Sequence[Mapping[str, Any]]) -> float:
    """The share, 0 to 1, of a graph's operators that its delegate runs.

    The interpreter lists the model's own operators and, behind them, one for each part that a delegate took over; those
    parts are found by going back from what the delegate makes to what it is given.

    Args:
        operators: each with its `op_name` and the tensors that are its `inputs` and `outputs`, in order.

    """
    own = [operator for operator in operators if operator["op_name"] != DELEGATE]
    makers = {tensor: place for place, operator in enumerate(own) for tensor in operator["outputs"]}
    taken: set[int] = set()
    for part in operators:
        if part["op_name"] == DELEGATE:
            given = set(part["inputs"])
            queue = [tensor for tensor in part["outputs"] if tensor not in given]
            while queue:
                place = makers.get(queue.pop())
                if place is not None and place not in taken:
                    taken.add(place)
                    queue += [tensor for tensor in own[place]["inputs"] if tensor not in given]
    return len(taken) / max(len(own), 1)
