"""What a second build does: nothing, or only what changed."""

import time

from images import candidate
from images.build import Built
from tests.containers.yard import Yard


def test_the_same_build_again_builds_nothing(yard: Yard, minilm: Built) -> None:
    log = candidate.log_file(yard.config, minilm.record.reference)
    before, written = yard.things(), log.stat().st_mtime_ns
    again = yard.build("minilm", yard.config.example.model)
    assert not again.fresh
    assert again.record == minilm.record
    assert log.stat().st_mtime_ns == written
    assert yard.leaves_nothing(before)


def test_the_same_build_again_takes_less_than_two_seconds(yard: Yard, minilm: Built) -> None:
    since = time.monotonic()
    assert not yard.build("minilm", yard.config.example.model).fresh
    assert time.monotonic() - since < 2
    assert minilm.fresh


def test_another_model_shares_all_layers_but_the_last(yard: Yard, minilm: Built) -> None:
    another = yard.tiny("tiny-sentiment").record.layers
    assert another[:-1] == minilm.record.layers[:-1]
    assert another[-1] != minilm.record.layers[-1]


def test_another_mode_shares_all_layers_but_the_last(minilm: Built, minilm_int8: Built) -> None:
    assert minilm_int8.record.layers[:-1] == minilm.record.layers[:-1]


def test_an_image_that_is_gone_is_built_again(yard: Yard) -> None:
    model = str(yard.model("tiny-sentiment"))
    first = yard.build("gone", model)
    yard.engine.remove(first.record.reference)
    again = yard.build("gone", model)
    assert again.fresh
    assert again.record.layers == first.record.layers


def test_nothing_is_left_in_the_build_folder(yard: Yard, minilm: Built) -> None:
    assert minilm.record
    assert yard.build_folders() == []
