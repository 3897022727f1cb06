import json
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest

from images import present, recommend
from images.build import Built
from images.engine import Engine
from images.inside import tasks
from images.inside.compare import Figures
from images.inside.records import Bounds, Embedding
from images.inside.report import Report, TokenLatency
from images.model import Sketch
from images.record import Override
from images.spec import Place
from tests.host import samples

ENGINE = Engine(program="/usr/bin/docker", version="20.10")
EMBEDDING = Embedding(dimension=4, pooling="mean", normalized=True)


def built(*, fresh: bool = True, **record: Any) -> str:
    result = Built(record=samples.record(**record), file=Path("dist/x/record.json"), fresh=fresh)
    return present.built(result, ENGINE)


def commands(machine: Engine = ENGINE, flags: tuple[str, ...] = (), **manifest: Any) -> list[str]:
    record = samples.record(info=samples.info(**manifest))
    return present.next_commands(Built(record=record, file=Path("record.json"), fresh=True, flags=flags), machine)


def curl(**manifest: Any) -> tuple[str, dict[str, Any]]:
    words = shlex.split(commands(**manifest)[1])
    return words[2].removeprefix("http://127.0.0.1:8080"), json.loads(words[-1])


# What was built


def test_the_first_line_is_the_name_and_the_second_the_id() -> None:
    assert built().splitlines()[:2] == ["modelyard/tiny-model:some-cpu", "  image     sha256:final"]


def test_an_image_that_was_there_is_said_to_be_up_to_date() -> None:
    assert built(fresh=False).splitlines()[0].endswith("(up to date: nothing was built)")


def test_the_size_is_told_with_and_without_the_model() -> None:
    assert "3.0 MiB: 2.0 MiB and the artifact's 1.0 MiB" in built()


def test_the_gate_is_told_by_its_worst_figures_and_their_inputs() -> None:
    assert (
        "gate      2 inputs against the original: max_abs_diff 3e-05 (long, bound 0.0001), agreement 1 (short, bound 1)"
    ) in built()


def test_a_figure_without_a_bound_is_told_without_one() -> None:
    assert "max_abs_diff 3e-05 (long)," in built(verdict=samples.report(bounds=Bounds(agreement=1.0)))


def test_an_accepted_failure_cannot_be_overlooked() -> None:
    text = built(override=Override(reason="ticket 7", misses=[]), verdict=samples.failed())
    assert "OVERRIDE  the gate FAILED and was accepted: ticket 7" in text


def test_what_upstream_gives_up_is_said_with_what_to_take_instead() -> None:
    assert "  note      TensorWhat is deprecated: take b" in built(
        info=samples.info(deprecated="TensorWhat is deprecated: take b")
    )
    assert "note" not in built()


def test_without_latency_there_is_no_line_of_it() -> None:
    verdict: Report = samples.failed(latency=None)
    assert "latency" not in built(verdict=verdict)


def test_a_model_that_generates_has_the_latency_of_its_tokens() -> None:
    tokens = TokenLatency(first_p50_ms=80, first_p95_ms=90, next_p50_ms=8, next_p95_ms=9.5)
    text = built(verdict=samples.report(latency=None, token_latency=tokens))
    assert "latency   first token p50 80.0 ms, p95 90.0 ms; next p50 8.0 ms, p95 9.5 ms (first input, HTTP)" in text


def test_the_figures_over_all_inputs_are_no_input() -> None:
    figures = [Figures(case="short", greedy=1.0), Figures(case="all inputs", agreement=1.0)]
    assert "gate      1 inputs against the original" in built(verdict=samples.report(figures=figures))


def test_a_model_without_a_revision_is_told_by_its_digest() -> None:
    model = msgspec.structs.replace(samples.MODEL, source="folder", revision="")
    assert "acme/Tiny_Model (folder) sha256:4d0de1" in built(info=samples.info(model=model))


# What to type next


def test_the_next_commands_serve_ask_and_prove() -> None:
    serve, ask, prove = commands()
    assert serve == "/usr/bin/docker run --rm -p 127.0.0.1:8080:8080 modelyard/tiny-model:some-cpu"
    assert ask.startswith("curl -s http://127.0.0.1:8080/")
    assert prove == "/usr/bin/docker run --rm modelyard/tiny-model:some-cpu smoke-test"


def test_the_commands_tell_a_container_what_it_needs_on_this_machine() -> None:
    serve, _, prove = commands(flags=("--env=MODELYARD_DEVICE=cpu", "--volume=/path to:/weights:ro"))
    told = "--env=MODELYARD_DEVICE=cpu '--volume=/path to:/weights:ro' modelyard/tiny-model:some-cpu"
    assert serve.endswith(f" {told}")
    assert prove.endswith(f" {told} smoke-test")


def test_the_commands_find_the_engine_that_we_started() -> None:
    machine = Engine(program="docker", version="20.10", environment={"DOCKER_HOST": "unix:///c/docker.sock"})
    assert commands(machine)[0].startswith("DOCKER_HOST=unix:///c/docker.sock docker run ")


@pytest.mark.parametrize("task", tasks.TEXTS)
def test_the_first_request_of_every_task_is_one_that_it_takes(task: str) -> None:
    route, body = curl(task=task, mask_token="[MASK]")  # noqa: S106 - a token of text
    assert route == "/predict"
    msgspec.convert(body, tasks.load(task).payload_type)


@pytest.mark.parametrize("task", tasks.PICTURES)
def test_a_model_for_pictures_is_sent_a_file(task: str) -> None:
    ask = commands(task=task)[1]
    assert ask.endswith("/predict -H 'content-type: image/jpeg' --data-binary @picture.jpg")


def test_an_embedding_model_is_asked_for_embeddings() -> None:
    assert curl(task="feature-extraction", embedding=EMBEDDING) == (
        "/v1/embeddings",
        {"model": "acme/Tiny_Model", "input": "Hello, world"},
    )


def test_the_models_own_mask_is_in_the_first_request() -> None:
    assert curl(task="fill-mask", mask_token="<mask>")[1] == {"inputs": "Paris is the capital of <mask>."}  # noqa: S106


@pytest.mark.parametrize("name", ["it's mine", 'so "called"', "100% $HOME"])
def test_no_models_name_breaks_the_command(name: str) -> None:
    model = msgspec.structs.replace(samples.MODEL, id=name)
    assert curl(task="feature-extraction", embedding=EMBEDDING, model=model)[1]["model"] == name


# Plans and targets


def test_a_plan_is_one_line_a_decision() -> None:
    lines = present.plan(samples.plan()).splitlines()
    assert lines[0] == "target    some-cpu"
    assert "tag       modelyard/tiny-model:some-cpu" in lines
    assert "EXPORTER  exact" in lines


def test_targets_are_told_with_tasks_modes_and_platforms() -> None:
    assert present.targets([samples.target(), samples.target(name="b")]) == (
        "some-cpu\n"
        "  a target of the tests\n"
        "  platforms  linux/amd64\n"
        "  text-classification    --quantize none | int8\n"
        "  fill-mask              --quantize none | int8\n"
        "b\n"
        "  a target of the tests\n"
        "  platforms  linux/amd64\n"
        "  text-classification    --quantize none | int8\n"
        "  fill-mask              --quantize none | int8"
    )


def advised(place: str = "", **changes: Any) -> list[str]:
    """What is printed for a model, of a target and of one that is made for another place."""
    places = (Place(name="server", reason="it is fast"), Place(name="phone", reason="it is small", fallback=True))
    targets = [samples.target(places=places, **changes), samples.target(name="b", places=places[1:])]
    sketch = Sketch(
        id="acme/tiny",
        source="hub",
        revision="c0ffee",
        task="fill-mask",
        config={"model_type": "bert"},
        weights=4 << 20,
    )
    return present.advice(
        recommend.make(targets, sketch, recommend.Wanted(model="acme/tiny", place=place))
    ).splitlines()


def test_a_model_is_told_before_what_suits_it() -> None:
    first = "acme/tiny (hub c0ffee): fill-mask, bert, 1.0 million parameters, 4.0 MiB of weights"
    assert advised()[0] == first


def test_without_a_wish_there_is_a_list_for_every_place() -> None:
    lines = advised()
    assert [line for line in lines if line.startswith("for ")] == ["for phone:", "for server:"]
    assert "  1. some-cpu: it is fast" in lines
    assert lines[-1] == "modes, bounds and sizes: --for phone | server"


def test_for_one_place_modes_are_told_with_what_they_are_held_to_and_others_with_the_reason() -> None:
    lines = [line.strip() for line in advised("server")]
    assert "mode    int8 by small (--quantize int8): agreement >= 0.9; weights from 4.0 MiB" in lines
    assert "image   at most 1 MiB without the model; linux/amd64" in lines
    assert lines[-1].split() == ["b", "is", "for", "phone"]


def test_a_recommendation_says_what_upstream_gives_up_once() -> None:
    old = [msgspec.structs.replace(mode, deprecated="given up: take b") for mode in samples.target().modes]
    lines = advised("server", modes=tuple(msgspec.structs.replace(mode, exporter="old") for mode in old))
    assert lines.count("     note    old: given up: take b") == 1


def test_a_recommendation_says_which_exporter_was_tried_with_others_only() -> None:
    modes = tuple(msgspec.structs.replace(mode, tried=("gpt2",)) for mode in samples.target().modes[:1])
    lines = advised("server", modes=modes)
    assert "     note    exact was tried with other kinds of models only; the gate decides" in lines


def test_a_target_says_which_of_its_exporters_is_deprecated() -> None:
    old = msgspec.structs.replace(samples.target().modes[0], exporter="old", deprecated="given up: take new")
    text = present.targets([samples.target(modes=(old, *samples.target().modes))])
    assert "  deprecated             old: given up: take new" in text.splitlines()
