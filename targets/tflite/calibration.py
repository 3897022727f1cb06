"""The user's own texts as the inputs of every length: what static scales are measured with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from images.inside import collate, modality, original, suite, tasks
from images.inside.contract import Exporting, IntArray, Item
from images.inside.errors import InputError
from images.inside.records import Manifest
from targets.tflite import shapes

FLAG = "calibration"
"""The target's own flag."""
Inputs = Mapping[str, Sequence[Mapping[str, IntArray]]]
"""By signature, what it is asked: its inputs by name, int64 [1, length]."""


def inputs(given: Exporting, manifest: Manifest, lengths: Sequence[int]) -> Inputs:
    """Every text of the file for every length that holds it. Ends the step when a length has none."""
    asked = placed(list(_items(given, manifest)), lengths, manifest)
    for length in lengths:
        if not asked[shapes.name(length)]:
            original.refuse(
                f"no line of --{FLAG} has at most {length} tokens, so nothing is known of that length's numbers",
                f"give texts of every length that is to be served, or leave {length} out of --seq-len",
            )
    return asked


def placed(items: Sequence[Item], lengths: Sequence[int], manifest: Manifest) -> Inputs:
    """Items padded to every length that holds them, by the name of its signature."""
    rows = [{name: array[0] for name, array in collate.batch([item], manifest).items()} for item in items]
    return {
        shapes.name(length): [
            shapes.fit(row, [length], manifest).given
            for row, item in zip(rows, items, strict=True)
            if item.length <= length
        ]
        for length in lengths
    }


def _items(given: Exporting, manifest: Manifest) -> Iterator[Any]:
    """What the requests are made of; one that does not fit into the model is left out."""
    task = tasks.load(given.source.task)
    processor = modality.of(manifest).processor(given.work, manifest)
    for _, payload in suite.read((given.told / f"{FLAG}.jsonl").read_bytes(), task):
        try:
            yield from task.prepare(payload, processor, manifest).items
        except InputError:
            continue
