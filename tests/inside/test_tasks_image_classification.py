import json
from typing import Any

import numpy as np
import pytest

from images.inside import modality, tasks
from images.inside.errors import InputError
from images.inside.vision import pictures
from tests.inside import seeing

TASK = tasks.load("image-classification")
RED, BLUE = seeing.text(), seeing.text(seeing.file("blue"))


def ask(inputs: Any, *, facts: dict[str, Any] | None = None, **parameters: Any) -> Any:
    payload = {"inputs": inputs, **({"parameters": parameters} if parameters else {})}
    return seeing.loaded(seeing.manifest(**(facts or {}))).ask(payload)[1]


def labels(ranking: list[dict[str, Any]]) -> list[str]:
    return [entry["label"] for entry in ranking]


def test_a_picture_gets_labels_best_first() -> None:
    answer = ask(RED)
    assert labels(answer)[0] == "red"
    assert [entry["score"] for entry in answer] == sorted((entry["score"] for entry in answer), reverse=True)
    assert sum(entry["score"] for entry in answer) == pytest.approx(1)


def test_several_pictures_get_a_list_each() -> None:
    assert [labels(ranking)[0] for ranking in ask([RED, BLUE])] == ["red", "blue"]


def test_top_k_is_how_many_labels() -> None:
    assert len(ask(RED, top_k=2)) == 2


def test_five_labels_are_the_default() -> None:
    names = [str(index) for index in range(9)]
    logits = {"logits": np.arange(9, dtype=np.float32)}
    prepared = seeing.loaded().prepare({"inputs": RED})
    assert labels(TASK.answer(prepared, [logits], seeing.manifest(labels=names))) == ["8", "7", "6", "5", "4"]


@pytest.mark.parametrize(
    ("parameters", "facts", "score"),
    [
        ({}, {}, np.exp(4) / (np.exp(4) + 2)),
        ({"function_to_apply": "none"}, {}, 4.0),
        ({"function_to_apply": "sigmoid"}, {}, 1 / (1 + np.exp(-4))),
        ({}, {"problem_type": "multi_label_classification"}, 1 / (1 + np.exp(-4))),
    ],
)
def test_logits_become_scores_as_the_pipeline_makes_them(
    parameters: dict[str, Any], facts: dict[str, Any], score: float
) -> None:
    assert ask(RED, facts=facts, **parameters)[0]["score"] == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({}, "inputs"),
        ({"inputs": 3}, "$.inputs"),
        ({"inputs": []}, "$.inputs"),
        ({"inputs": RED, "parameters": {"top_k": 0}}, "$.parameters.top_k"),
        ({"inputs": RED, "parameters": {"function_to_apply": "relu"}}, "$.parameters.function_to_apply"),
        ({"inputs": RED, "parameters": {"topk": 1}}, "$.parameters"),
        ({"inputs": "https://example.org/cat.jpg"}, "$.inputs"),
    ],
)
def test_a_bad_payload_is_told_where(payload: dict[str, Any], path: str) -> None:
    with pytest.raises(InputError) as error:
        seeing.loaded().prepare(payload)
    assert path in str(error.value)


def test_the_suite_is_small_and_every_picture_of_its_own() -> None:
    written = [json.dumps(payload) for _, payload in TASK.suite("")]
    assert len(set(written)) == 8
    assert sum(map(len, written)) < 100_000


def test_the_task_takes_its_own_suite() -> None:
    counts = [len(seeing.loaded().prepare(payload).items) for _, payload in TASK.suite("")]
    assert sorted(counts) == [1] * 7 + [3]


def test_the_suite_is_the_same_every_time() -> None:
    first = pictures.suite()
    pictures.suite.cache_clear()
    assert pictures.suite() == first


def test_pictures_go_to_the_runner_as_one_batch() -> None:
    runner = seeing.ColourRunner()
    seeing.loaded(runner=runner).ask({"inputs": [RED, BLUE]})
    assert runner.shapes == [(2, 3, 8, 6)]


def test_a_swapped_channel_shows_in_the_probes() -> None:
    items = seeing.loaded().prepare({"inputs": RED}).items
    inputs = modality.of(seeing.manifest()).inputs
    assert not np.array_equal(
        inputs(items[0])["pixel_values"], inputs(items[0]._replace(values=items[0].values[::-1]))["pixel_values"]
    )


@pytest.mark.parametrize("shape", [(3, 8, 6), (3, 224, 224), (3, 384, 384), (3, 299, 299)])
def test_probes_hit_every_channel_and_many_columns(shape: tuple[int, ...]) -> None:
    places = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    channel, _, column = np.unravel_index(modality.probes(places).astype(int), shape)
    assert set(channel.tolist()) == {0, 1, 2}
    assert len(set(column.tolist())) >= shape[2] // 2
