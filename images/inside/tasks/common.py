"""What the tasks share: payload checks, softmax, and the comparison of answers."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from images.inside.contract import FloatArray
from images.inside.errors import InputError

T = TypeVar("T")

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Ranking = list[dict[str, Any]]
Texts = str | Annotated[list[str], msgspec.Meta(min_length=1)]


def parse(payload: Mapping[str, Any], kind: type[T]) -> T:
    """The payload as a struct. Raises `InputError` with the path of what is wrong in it."""
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from error


def as_list(inputs: T | list[T]) -> list[T]:
    """One input or several, as a list."""
    return inputs if isinstance(inputs, list) else [inputs]


def like(inputs: object, answers: list[Any]) -> Any:
    """Answers in the form of the inputs: a list for a list, one for one."""
    return answers if isinstance(inputs, list) else answers[0]


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def rankings(ours: Any, original: Any) -> list[tuple[Ranking, Ranking]]:
    """The lists of scored answers in two answers, side by side; where one has fewer, empty lists stand in."""
    return list(zip_longest(_rankings(ours), _rankings(original), fillvalue=[]))


def same_best(ours: Ranking, original: Ranking, key: str) -> bool:
    """Whether two rankings begin with the same answer."""
    return bool(ours) and bool(original) and ours[0][key] == original[0][key]


def share(same: Collection[bool]) -> float:
    """Which part of the comparisons came out the same; 1 when there is nothing to compare."""
    return sum(same) / len(same) if same else 1.0


def largest_difference(pairs: Iterable[tuple[float, float]]) -> float:
    """The largest absolute difference in any pair; 0 when there is none."""
    return max((abs(ours - original) for ours, original in pairs), default=0.0)


def _rankings(answer: Any) -> Iterator[Ranking]:
    if all(isinstance(entry, dict) for entry in answer):
        yield answer
        return
    for entry in answer:
        yield from _rankings(entry)
