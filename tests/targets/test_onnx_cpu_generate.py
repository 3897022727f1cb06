"""The two caches of decoders in ONNX Runtime: whatever slots, parts and batches, the logits are the network's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from images.inside.contract import FloatArray
from images.inside.errors import ArtifactError
from images.inside.generation.contract import Generator
from targets.onnx_cpu import generate, in_place
from targets.onnx_cpu.graph import Part
from tests.inside import decoders, texting

VOCABULARY, SLOTS, CONTEXT = 50, 4, 600
EVERY_KIND = pytest.mark.parametrize("kind", decoders.KINDS)
CLOSE = 1e-4
PART = Part("past", "present", decoders.HEADS, decoders.SIZE, np.float32)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    for kind in decoders.KINDS:
        decoders.write(folder / f"{kind}.onnx", kind, VOCABULARY)
        decoders.write(folder / f"{kind}-last.onnx", kind, VOCABULARY, last_only=True)
    return folder


@pytest.fixture(params=[f"{kind}{ending}" for kind in decoders.KINDS for ending in ("", "-last")])
def generator(request: pytest.FixtureRequest, graphs: Path) -> Generator:
    return loaded(graphs, request.param)


def loaded(folder: Path, name: str, slots: int = SLOTS) -> Generator:
    manifest = texting.manifest().__replace__(entry=f"{name}.onnx", max_length=CONTEXT)
    return generate.load(folder, manifest, 1, slots)


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng([seed, count]).integers(0, VOCABULARY, count)]


def expected(ids: Sequence[int]) -> FloatArray:
    """The network's logits behind the last token."""
    last: FloatArray = decoders.logits(ids, VOCABULARY)[-1]
    return last


def close(ours: FloatArray, ids: Sequence[int]) -> bool:
    return bool(np.allclose(ours, expected(ids), atol=CLOSE))


def test_the_network_tells_positions_and_pasts_apart() -> None:
    """Else no test here could fail."""
    ids = tokens(9)
    assert not np.allclose(expected(ids), expected([*ids[:3], ids[4], ids[3], *ids[5:]]), atol=0.05)
    assert not np.allclose(expected(ids), expected(ids[1:]), atol=0.05)


def test_a_prompt_is_read(generator: Generator) -> None:
    assert close(generator.prefill(0, tokens(9)), tokens(9))
    assert generator.length(0) == 9


@pytest.mark.parametrize("parts", [(1, 8), (8, 1), (3, 3, 3), (1,) * 9])
def test_a_prompt_in_parts_is_the_prompt(parts: Sequence[int], generator: Generator) -> None:
    ids, fed = tokens(9), 0
    for part in parts:
        said = generator.prefill(0, ids[fed : fed + part])
        fed += part
        assert close(said, ids[:fed])


def test_tokens_one_by_one_are_the_prompt(generator: Generator) -> None:
    ids = tokens(20)
    generator.prefill(2, ids[:5])
    for count in range(6, 21):
        assert close(generator.decode([2], [ids[count - 1]])[0], ids[:count])
    assert generator.length(2) == 20


def test_a_sequence_grows_past_every_width_of_the_mask_up_to_the_context(generator: Generator) -> None:
    ids = tokens(CONTEXT)
    generator.prefill(0, ids[: in_place.BLOCK - 2])
    for count in range(in_place.BLOCK - 1, in_place.BLOCK + 3):
        assert close(generator.decode([0], [ids[count - 1]])[0], ids[:count])
    generator.prefill(0, ids[in_place.BLOCK + 2 : -1])
    assert close(generator.decode([0], ids[-1:])[0], ids)
    assert generator.length(0) == CONTEXT


def test_rows_of_unequal_length_do_not_see_each_other(generator: Generator) -> None:
    held = {slot: tokens(count, slot) for slot, count in enumerate([3, 17, 1, 30])}
    for slot, ids in held.items():
        generator.prefill(slot, ids)
    for step in range(4):
        fed = {slot: tokens(1, 10 * step + slot) for slot in held}
        held = {slot: ids + fed[slot] for slot, ids in held.items()}
        said = generator.decode(list(held), [fed[slot][0] for slot in held])
        assert all(close(row, ids) for row, ids in zip(said, held.values(), strict=True))


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [2, 0], [3, 0, 1], [1]])
def test_the_answers_come_in_the_order_of_the_slots(order: list[int], generator: Generator) -> None:
    held = {slot: tokens(5 + slot, slot) for slot in range(SLOTS)}
    for slot, ids in held.items():
        generator.prefill(slot, ids)
    said = generator.decode(order, [slot + 1 for slot in order])
    assert all(close(row, [*held[slot], slot + 1]) for row, slot in zip(said, order, strict=True))
    assert [generator.length(slot) for slot in range(SLOTS)] == [5 + slot + (slot in order) for slot in range(SLOTS)]


def test_slots_that_did_not_run_hold_what_they_held(generator: Generator) -> None:
    held = {slot: tokens(4 + 3 * slot, slot) for slot in range(SLOTS)}
    for slot, ids in held.items():
        generator.prefill(slot, ids)
    for together in ([0, 3], [1], [2, 3, 0], [0, 1, 2, 3]):
        said = generator.decode(together, [7] * len(together))
        held |= {slot: [*held[slot], 7] for slot in together}
        assert all(close(row, held[slot]) for row, slot in zip(said, together, strict=True))


def test_a_slot_goes_on_reading_after_it_has_decoded_with_others(generator: Generator) -> None:
    generator.prefill(0, tokens(6))
    generator.prefill(1, tokens(2))
    generator.decode([0, 1], [3, 4])
    assert close(generator.prefill(1, [8, 9]), [*tokens(2), 4, 8, 9])
    assert close(generator.decode([0], [5])[0], [*tokens(6), 3, 5])


def test_nothing_is_left_of_a_sequence_that_was_released(generator: Generator) -> None:
    generator.prefill(1, tokens(40))
    generator.decode([1], [3])
    generator.release(1)
    assert generator.length(1) == 0
    assert close(generator.prefill(1, tokens(4)), tokens(4))


def test_a_slot_is_released_beside_others(generator: Generator) -> None:
    for slot in range(3):
        generator.prefill(slot, tokens(5, slot))
    generator.decode([0, 1, 2], [1, 1, 1])
    generator.release(1)
    generator.prefill(1, tokens(2))
    said = generator.decode([2, 1, 0], [6, 6, 6])
    pasts = [[*tokens(5, 2), 1], tokens(2), [*tokens(5), 1]]
    assert all(close(row, [*past, 6]) for row, past in zip(said, pasts, strict=True))


def test_an_empty_slot_may_be_released(generator: Generator) -> None:
    generator.release(3)
    generator.release(3)
    assert generator.length(3) == 0


def test_logits_that_were_given_do_not_change(generator: Generator) -> None:
    first = generator.prefill(0, tokens(3))
    kept = first.copy()
    generator.decode([0], [1])
    assert (first == kept).all()


@pytest.mark.parametrize("seed", range(3))
def test_any_use_of_the_slots_gives_what_each_sequence_would_get_alone(seed: int, generator: Generator) -> None:
    chance = np.random.default_rng(seed)
    held: dict[int, list[int]] = {}
    for _ in range(60):
        slot, action = int(chance.integers(SLOTS)), chance.integers(4)
        if action == 0 and slot in held:
            generator.release(slot)
            del held[slot]
        elif action == 1:
            part = tokens(int(chance.integers(1, 9)), int(chance.integers(1 << 30)))
            held[slot] = held.get(slot, []) + part
            assert close(generator.prefill(slot, part), held[slot])
        elif held:
            some = [int(one) for one in chance.permutation(sorted(held))[: int(chance.integers(1, len(held) + 1))]]
            fed = [int(one) for one in chance.integers(0, VOCABULARY, len(some))]
            held |= {one: [*held[one], token] for one, token in zip(some, fed, strict=True)}
            said = generator.decode(some, fed)
            assert all(close(row, held[one]) for row, one in zip(said, some, strict=True))
    assert {slot: generator.length(slot) for slot in held} == {slot: len(ids) for slot, ids in held.items()}


# In place


def test_what_nobody_wrote_to_takes_no_memory() -> None:
    room = in_place.Room(PART, rows=2, tokens=1 << 16)
    before = _resident()
    room.cells[0, :, :64] = 1
    assert _resident() - before < room.cells.nbytes // 8


def test_a_cleared_row_reads_as_zeros_and_its_neighbours_as_before() -> None:
    room = in_place.Room(PART, rows=3, tokens=in_place.PAGE)
    room.cells[:] = 1
    room.clear(1)
    assert [float(room.cells[row].sum()) for row in range(3)] == [room.cells[0].size, 0, room.cells[0].size]


def test_sequences_that_are_neighbours_are_not_moved() -> None:
    room = in_place.Room(PART, rows=4, tokens=in_place.PAGE)
    rows = in_place.Rows([room], 4)
    for slot in (2, 0, 3):
        room.cells[rows.of(slot)] = slot
        rows.lengths[slot] = 5
    assert rows.together([0, 2]) == 0
    assert [float(room.cells[row, 0, 0, 0]) for row in range(3)] == [2, 0, 3]


def test_as_few_as_can_be_are_moved_together() -> None:
    room = in_place.Room(PART, rows=4, tokens=in_place.PAGE)
    rows = in_place.Rows([room], 4)
    for slot in range(4):
        room.cells[rows.of(slot), :, :5] = slot
        rows.lengths[slot] = 5
    assert rows.together([0, 2, 3]) == 0
    assert [float(room.cells[row, 0, 4, 0]) for row in range(4)] == [0, 3, 2, 1]
    assert [rows.of(slot) for slot in range(4)] == [0, 3, 2, 1]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# Loading


@EVERY_KIND
def test_it_says_what_runs_it(kind: str, graphs: Path) -> None:
    said = loaded(graphs, kind).describe()
    assert (said["runtime"], said["threads"]) == ("onnxruntime", "1")
    assert said["cache"] == {"shared": "in place", "concatenated": "concatenated"}[kind]


@EVERY_KIND
def test_it_has_as_many_slots_as_it_was_asked_for(kind: str, graphs: Path) -> None:
    small = loaded(graphs, kind, slots=1)
    assert (small.slots, small.context) == (1, CONTEXT)


def test_a_graph_that_does_not_say_how_it_holds_its_cache_is_refused(graphs: Path, tmp_path: Path) -> None:
    model = onnx.load(graphs / "shared.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "silent.onnx")
    with pytest.raises(ArtifactError, match="does not say how it holds its cache"):
        loaded(tmp_path, "silent")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        loaded(tmp_path, "broken")
