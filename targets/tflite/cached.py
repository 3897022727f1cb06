"""A decoder whose signatures take the key-value cache and return it: what they are fed, step by step.

Pure: a signature is a function of arrays by name, so no runtime is needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from images.inside.contract import FloatArray

PART = 64
"""Tokens of a prompt that one call reads."""
FEW = 6
"""Tokens that are read as fast one by one."""
HIDDEN = -1e9
"""Added to the score of a place that must not be seen."""
READ, STEP = "prefill_", "decode"
CACHE = "kv_cache_"
"""Begins the names of a cache's parts."""

Arrays = Mapping[str, NDArray[Any]]
Signature = Callable[..., Arrays]


class Call(NamedTuple):
    """One call of a signature.

    Attributes:
        start: place of its first token.
        stop: behind its last real token.
        wide: whether the signature for a part of a prompt is called.

    """

    start: int
    stop: int
    wide: bool


def calls(held: int, total: int, part: int) -> Iterator[Call]:
    """How the tokens from `held` to `total` of a sequence are read; the last call gives the last token's logits.

    A part's logits are those behind its last place. So the last part ends where the sequence does, and what it shares
    with the part before is read again, to the same cache. A sequence shorter than a part is filled up behind its end,
    where later tokens will overwrite the cache, and its last token is read once more.
    """
    place = held
    while total - place >= part:
        yield Call(place, place + part, wide=True)
        place += part
    if total - place > FEW:
        start = max(total - part, 0)
        yield Call(start, total, wide=True)
        place = total if total >= part else total - 1
    yield from (Call(at, at + 1, wide=False) for at in range(place, total))


def mask(start: int, count: int, context: int) -> FloatArray:
    """What tokens from `start` on see of the cache, [1, 1, count, context]: all places up to their own."""
    seen = np.arange(context) <= np.arange(start, start + count)[:, None]
    return np.where(seen, np.float32(0), np.float32(HIDDEN))[None, None]


class Cached:
    """Sequences in slots, each with a cache of its own; satisfies `images.inside.generation.contract.Generator`."""

    def __init__(
        self, read: Signature, step: Signature, part: int, slots: int, empty: Arrays, about: Mapping[str, str]
    ) -> None:
        """Take the two signatures.

        Args:
            read: for a part of a prompt.
            step: for one token.
            part: how many tokens `read` takes.
            slots: how many sequences may live at once.
            empty: the cache that holds nothing, by its parts' names.
            about: the runtime's name, version and threads.

        """
        self._read, self._step, self._part = read, step, part
        self._empty, self._about = empty, about
        self.slots = slots
        self.context = next(iter(empty.values())).shape[2]
        self._tokens: dict[int, list[int]] = {}
        self._caches: dict[int, Arrays] = {}

    def prefill(self, slot: int, ids: Sequence[int]) -> FloatArray:
        """Feed tokens into a slot; the logits behind the last of them."""
        held = self._tokens.setdefault(slot, [])
        before = len(held)
        held.extend(ids)
        for call in calls(before, len(held), self._part):
            logits = self._call(slot, call, held[call.start : call.stop])
        return logits

    def decode(self, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        """Feed one token into each of several slots, one after another; the logits behind each."""
        return np.stack([self.prefill(slot, [token]) for slot, token in zip(slots, ids, strict=True)])

    def length(self, slot: int) -> int:
        """How many tokens a slot holds."""
        return len(self._tokens.get(slot, ()))

    def release(self, slot: int) -> None:
        """Empty a slot."""
        self._tokens.pop(slot, None)
        self._caches.pop(slot, None)

    def describe(self) -> dict[str, str]:
        """The runtime, its version and threads."""
        return dict(self._about)

    def _call(self, slot: int, call: Call, ids: Sequence[int]) -> FloatArray:
        count = self._part if call.wide else 1
        tokens = np.zeros((1, count), np.int32)
        tokens[0, : len(ids)] = ids
        places = np.arange(call.start, call.start + count, dtype=np.int32)
        cache = self._caches.get(slot, self._empty)
        run = self._read if call.wide else self._step
        found = run(tokens=tokens, input_pos=places, mask=mask(call.start, count, self.context), **cache)
        self._caches[slot] = {name: array for name, array in found.items() if name.startswith(CACHE)}
        logits: FloatArray = found["logits"][0, -1].astype(np.float32, copy=False)
        return logits
