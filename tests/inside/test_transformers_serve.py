import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tokenizers

from images.inside.engine.contract import Ask, EngineError, Heard, Launch, Wish
from images.inside.errors import CannotRunError
from images.inside.generation.request import Sampling
from images.inside.records import FileDigest, Manifest
from images.inside.transformers_serve import launch, snapshot
from images.inside.transformers_serve.launch import MIB, PAGE, Memory
from images.inside.transformers_serve.wire import Completions
from tests.inside import texting

WIRE = Completions(100)
WISH = Wish(threads=3, slots=4)
GIB = 1 << 30
KV = 1 << 10


def manifest(**changes: Any) -> Manifest:
    facts = msgspec.structs.replace(texting.FACTS, kv_bytes=KV, context=1024)
    weights = FileDigest(path="model/model.safetensors", size=100 * MIB, sha256="")
    return msgspec.structs.replace(texting.manifest(facts), max_length=1024, files=[weights], **changes)


def launched(memory: int = 8 * GIB, wish: Wish = WISH, device: str = "cpu", **changes: Any) -> Launch:
    return launch.launch(Path("/artifact"), manifest(**changes), wish, device, Memory(memory, "memory", 0.5))


def options(found: Launch) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(found.argv[-1].replace("{port}", "1"))
    return told


def asked(**sampling: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        json.loads(WIRE.body(Ask([5, 6], 7, Sampling(**sampling), [2])))["generation_config"]
    )
    return config


# The wire


def test_a_prompt_is_its_ids_as_text() -> None:
    assert json.loads(WIRE.body(Ask([5, 60, 7], 7, Sampling(), [2])))["prompt"] == "5 60 7"


def test_all_tokens_may_be_drawn_when_none_are_left_out() -> None:
    assert asked()["top_k"] == 100


def test_more_candidates_than_there_are_tokens_are_all_of_them() -> None:
    assert asked(top_k=1000)["top_k"] == 100


def test_what_an_event_says_are_ids() -> None:
    assert WIRE.hear('data: {"choices": [{"text": " 17 4"}]}') == Heard((17, 4))


def test_the_last_event_says_that_it_is_the_last() -> None:
    assert WIRE.hear('data: {"choices": [{"text": "", "finish_reason": "stop"}]}') == Heard((), ended=True)


def test_between_events_nothing_is_said() -> None:
    assert WIRE.hear("") is None


@pytest.mark.parametrize(
    "line", ['data: {"error": "no room"}', 'data: {"error": "no "room""}', 'data: {"choices": []}']
)
def test_an_error_is_heard_even_if_it_is_no_json(line: str) -> None:
    with pytest.raises(EngineError):
        WIRE.hear(line)


# Its start


def test_the_cache_has_room_for_every_slot_where_there_is_memory() -> None:
    assert launched().kv_tokens == 4 * 1024


def test_the_cache_is_what_the_memory_has_room_for() -> None:
    room = 100 * MIB + snapshot.OVERHEAD + 2 * 1500 * KV
    assert launched(room).kv_tokens == 1500 // PAGE * PAGE


def test_the_cache_can_be_told() -> None:
    assert launched(wish=Wish(threads=1, slots=4, kv_tokens=600)).kv_tokens == 3 * PAGE


def test_numbers_of_half_the_size_take_half_the_room() -> None:
    room = 100 * MIB + snapshot.OVERHEAD + 2 * 600 * KV
    assert launched(room, dtype="bfloat16").kv_tokens == 2 * launched(room).kv_tokens


def test_a_small_cache_shortens_the_context() -> None:
    room = 100 * MIB + snapshot.OVERHEAD + 2 * 600 * KV
    assert launched(room).context == 2 * PAGE


def test_too_little_memory_is_said_with_what_is_needed_and_what_is_free() -> None:
    with pytest.raises(
        CannotRunError, match="1125 MiB of memory are needed for the weights and one sequence; 1000 MiB are free"
    ):
        launched(1000 * MIB)


def test_the_engine_is_told_what_the_face_counts_on() -> None:
    found = launched()
    told = options(found)
    assert (told["pages"] * told["page"], told["slots"]) == (found.kv_tokens, found.slots)


def test_threads_follow_the_quota_and_do_not_spin() -> None:
    environment = launched().environment
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("3", "PASSIVE")


@pytest.mark.parametrize(("device", "told"), [("cpu", True), ("cuda:0", False)])
def test_only_a_cpu_is_told_what_helps_a_cpu(device: str, *, told: bool) -> None:
    assert (launch.ON_A_CPU.items() <= launched(device=device).environment.items()) == told


# The snapshot


def test_safetensors_are_taken_before_pickles(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in snapshot.weights(tmp_path, allow_pickle=True)] == ["model.safetensors"]


def test_pickles_alone_are_refused_with_the_flag_that_takes_them(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="--allow-pickle"):
        snapshot.weights(tmp_path, allow_pickle=False)


def test_the_engines_tokenizer_reads_and_writes_ids(tmp_path: Path) -> None:
    snapshot.write_tokenizer(tmp_path, 50)
    numbers = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert numbers.encode("7 49 0").ids == [7, 49, 0]
    assert numbers.decode([7, 49, 0]) == "7 49 0"
