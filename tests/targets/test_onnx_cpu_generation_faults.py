"""A decoder that is not the original: the smoke test refuses it, whatever is wrong with it.

The graph is tiny, all else is what runs in an image: ONNX Runtime, both caches, the gate, the server. The original is
the same network in numpy.
"""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from images.inside import compare, export, smoke
from images.inside.compare import Reference
from images.inside.contract import FloatArray, IntArray
from images.inside.errors import Exit
from images.inside.generation import fidelity, inputs, proof
from images.inside.prompts import Prompts
from images.inside.records import MANIFEST, REFERENCE, Bounds, Case, GenerationFacts, read_manifest, write_json
from images.inside.report import Report
from images.inside.text import TOKENIZER
from targets.onnx_cpu import in_place
from targets.onnx_cpu.concatenating import Concatenating
from targets.onnx_cpu.graph import Cells, Graph
from targets.onnx_cpu.in_place import InPlace
from tests.inside import decoders, texting, tiny
from tests.inside.generating import VOCABULARY

BOUNDS = {
    "exact": Bounds(max_abs_diff=1e-4, agreement=1.0, greedy=1.0),
    "quantised": Bounds(agreement=0.95, kl=0.008, perplexity=1.03),
}
"""The kinds of bounds that targets have."""
TOKENS = 5
FACTS = msgspec.structs.replace(texting.FACTS, context=decoders.POSITIONS)
LONG = 1000
"""Tokens of a prompt that would take the numpy network too long."""

Spoil = Callable[[pytest.MonkeyPatch], None]


def _answer(prompt: Sequence[int]) -> fidelity.Record:
    """What the original says."""
    tokens, rows = list[int](), list[FloatArray]()
    while len(tokens) < TOKENS:
        rows.append(decoders.logits([*prompt, *tokens], VOCABULARY)[-1])
        tokens.append(int(rows[-1].argmax()))
    return fidelity.record(np.stack(rows), tokens)


@pytest.fixture(scope="module")
def reference() -> Reference:
    prompts = Prompts(tiny.bytelevel(), FACTS)
    made = [(one, list(inputs.prompt(one.payload, prompts))) for one in inputs.suite(chat=True)]
    taken = [(one, ids) for one, ids in made if len(ids) < LONG]
    assert len(taken) > proof.TOGETHER
    return Reference(
        cases=tuple(Case(name=one.name, payload=one.payload, answer={"finish_reason": "length"}) for one, _ in taken),
        outputs={one.name: [{proof.PROMPT: np.array(ids, np.int32), **_answer(ids).arrays()}] for one, ids in taken},
    )


@pytest.fixture(params=[(kind, bounds) for kind in decoders.KINDS for bounds in BOUNDS], ids="-".join)
def artifact(request: pytest.FixtureRequest, reference: Reference, tmp_path: Path) -> Path:
    kind, bounds = request.param
    decoders.write(tmp_path / "model.onnx", kind, VOCABULARY, last_only=bounds == "quantised")
    tiny.bytelevel().save(str(tmp_path / TOKENIZER))
    compare.save(tmp_path / REFERENCE, reference)
    write_json(tmp_path / MANIFEST, texting.manifest(FACTS))
    made = {"target": "onnx-cpu", "entry": "model.onnx", "recipe": kind, "architecture": platform.machine()}
    seal(tmp_path, **made, max_length=decoders.POSITIONS, bounds=BOUNDS[bounds])
    return tmp_path


def seal(artifact: Path, **changes: object) -> None:
    """Make the manifest true to the files, so that only the gate can see what is wrong."""
    manifest = msgspec.structs.replace(read_manifest(artifact), **changes)
    write_json(artifact / MANIFEST, msgspec.structs.replace(manifest, files=export.digests(artifact)))


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.passed]


def test_the_original_passes(artifact: Path) -> None:
    report = smoke.run(artifact)
    assert (report.exit, report.misses) == (Exit.PASS, []), report.checks
    assert report.token_latency
    assert not report.latency


# Faults of the runtime


def a_slot_keeps_what_it_held(patch: pytest.MonkeyPatch) -> None:
    """A stale cache: the next sequence goes on behind the last one's."""
    patch.setattr(InPlace, "release", lambda *_: None)
    patch.setattr(Concatenating, "release", lambda *_: None)


def a_row_keeps_its_keys_and_values(patch: pytest.MonkeyPatch) -> None:
    """A stale cache: steps read the past as it was before the step."""
    patch.setattr(Graph, "run", _forgetting(Graph.run))
    patch.setattr(in_place._Step, "run", _rewound(in_place._Step.run))


def _forgetting(run: Callable[..., tuple[FloatArray, list[Cells]]]) -> Callable[..., tuple[FloatArray, list[Cells]]]:
    def spoiled(self: Graph, ids: IntArray, mask: IntArray, pasts: Sequence[Cells]) -> tuple[FloatArray, list[Cells]]:
        logits, presents = run(self, ids, mask, pasts)
        if pasts[0].shape[2]:
            # The newest token's keys and values are those of the token before.
            for present in presents:
                present[:, :, -1] = present[:, :, -2]
        return logits, presents

    return spoiled


def _rewound(run: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    def spoiled(self: in_place._Step, ids: IntArray, lengths: Sequence[int]) -> FloatArray:
        logits = run(self, ids, lengths)
        if ids.shape[1] == 1:
            for room in self._owner._rooms:
                for row, length in enumerate(lengths, start=self.first):
                    room.cells[row, :, length] = room.cells[row, :, length - 1]
        return logits

    return spoiled


def rows_are_mixed_up(patch: pytest.MonkeyPatch) -> None:
    """Sequences that decode together get each other's logits."""
    for kind in (InPlace, Concatenating):
        patch.setattr(kind, "decode", _turned(kind.decode))


def _turned(decode: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    def spoiled(self: object, slots: Sequence[int], ids: Sequence[int]) -> FloatArray:
        return np.roll(decode(self, slots, ids), 1, axis=0)

    return spoiled


def shorter_rows_see_their_padding(patch: pytest.MonkeyPatch) -> None:
    """Nothing is masked of what a batch is filled up with."""
    patch.setattr(Graph, "run", _unmasked(Graph.run))
    patch.setattr(in_place._Step, "run", _as_long_as_the_longest(in_place._Step.run))


def _unmasked(run: Callable[..., tuple[FloatArray, list[Cells]]]) -> Callable[..., tuple[FloatArray, list[Cells]]]:
    def spoiled(self: Graph, ids: IntArray, mask: IntArray, pasts: Sequence[Cells]) -> tuple[FloatArray, list[Cells]]:
        return run(self, ids, np.ones_like(mask), pasts)

    return spoiled


def _as_long_as_the_longest(run: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    def spoiled(self: in_place._Step, ids: IntArray, lengths: Sequence[int]) -> FloatArray:
        return run(self, ids, [max(lengths)] * len(lengths))

    return spoiled


@pytest.mark.parametrize(
    "spoil",
    [
        a_slot_keeps_what_it_held,
        a_row_keeps_its_keys_and_values,
        rows_are_mixed_up,
        shorter_rows_see_their_padding,
    ],
)
def test_a_runtime_that_mishandles_its_cache_is_refused(
    spoil: Spoil, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    report = smoke.run(artifact)
    assert (report.exit, failed(report)) == (Exit.DIFFERS, ["reference"])
    assert any(f"input {proof.SUITE!r}" in miss for miss in report.misses)


# Faults of the artifact


@pytest.mark.parametrize("late", [1, -1])
def test_positions_off_by_one_behind_the_prompt_are_refused(late: int, artifact: Path) -> None:
    manifest = read_manifest(artifact)
    decoders.write(artifact / "model.onnx", manifest.recipe, VOCABULARY, last_only=bool(manifest.bounds.kl), late=late)
    seal(artifact)
    report = smoke.run(artifact)
    assert (report.exit, failed(report)) == (Exit.DIFFERS, ["reference"])


def other_end(facts: GenerationFacts, reference: Reference) -> GenerationFacts:
    said = int(reference.outputs["short"][0]["tokens"][1])
    return msgspec.structs.replace(facts, eos=[said])


def other_template(facts: GenerationFacts, _: Reference) -> GenerationFacts:
    return msgspec.structs.replace(facts, chat_template=facts.chat_template.replace("a:", "bot:"))


def other_start(facts: GenerationFacts, _: Reference) -> GenerationFacts:
    return msgspec.structs.replace(facts, bos=0)


@pytest.mark.parametrize("change", [other_end, other_template, other_start])
def test_facts_of_another_model_are_refused(
    change: Callable[[GenerationFacts, Reference], GenerationFacts], artifact: Path, reference: Reference
) -> None:
    seal(artifact, generation=change(FACTS, reference))
    report = smoke.run(artifact)
    assert (report.exit, failed(report)) == (Exit.DIFFERS, ["reference"])
