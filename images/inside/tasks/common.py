"""What the tasks share: payload checks, softmax, and the comparison of answers."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from images.inside.contract import FloatArray
from images.inside.errors import InputError

T = TypeVar("T")
V = TypeVar("V")

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


def each(entries: Sequence[T], make: Callable[[T], V], path: str = "inputs", *, lone: bool = False) -> list[V]:
    """What is made of each entry of a request, whose errors name it by its place.

    Args:
        entries: texts, pictures, ...
        make: called with each.
        path: where they stand in the request.
        lone: whether there is one that stands there by itself, without a list around it.

    """
    made = []
    for place, entry in enumerate(entries):
        try:
            made.append(make(entry))
        except InputError as error:
            raise error.at(path if lone else f"{path}[{place}]")  # noqa: B904  # it is the very same error
    return made


def each_input(inputs: T | list[T], make: Callable[[T], V]) -> list[V]:
    """`each` of a task's `inputs`, which are one or several."""
    return each(as_list(inputs), make, lone=not isinstance(inputs, list))


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
