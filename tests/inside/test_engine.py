import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from images.inside.engine.process import Process
from images.inside.errors import CannotRunError, Exit
from tests.inside import engines, texting
from tests.inside.engines import Serving
from tests.inside.generating import EOS, ids
from tests.inside.serving import MODEL
from tests.inside.texting import HTTP, body, chunks, raw

pytestmark = pytest.mark.starts_programs


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with engines.served(tmp_path_factory.mktemp("engine"), stall_seconds=1, answer_seconds=3) as made:
        yield made


def post(serving: Serving, path: str = "chat/completions", **changes: Any) -> httpx.Response:
    return HTTP.post(f"{serving.url}/v1/{path}", json=body(**changes), timeout=20)


def complete(serving: Serving, prompt: str, **changes: Any) -> httpx.Response:
    asked = {"model": MODEL, "prompt": prompt, "max_tokens": 12, **changes}
    return HTTP.post(f"{serving.url}/v1/completions", json=asked, timeout=20)


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# Answers


def test_the_engine_is_asked_for_the_templates_tokens_and_its_ids_become_text(serving: Serving) -> None:
    answer = post(serving).json()

    assert answer["choices"][0]["message"]["content"] == "well"
    assert serving.asked()[-1]["ids"] == ids("u:hello;a:")


def test_an_answer_costs_its_tokens_and_the_one_that_ended_it(serving: Serving) -> None:
    answer = post(serving).json()

    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def test_a_shorter_answer_ends_for_its_length(serving: Serving) -> None:
    choice = post(serving, max_tokens=2).json()["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("we", "length")


def test_a_stop_string_is_watched_for_in_front_of_the_engine(serving: Serving) -> None:
    choice = post(serving, stop="l").json()["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("we", "stop")


def test_a_stream_ends_as_openais_do(serving: Serving) -> None:
    found = chunks(raw(serving.url, "chat/completions", body()))

    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in found) == "well"


def test_several_answers_are_asked_for_one_by_one(serving: Serving) -> None:
    answer = post(serving, n=3).json()

    assert [choice["message"]["content"] for choice in answer["choices"]] == ["well"] * 3


def test_the_way_to_sample_reaches_the_engine(serving: Serving) -> None:
    post(serving, temperature=0.5, top_p=0.25, top_k=7)

    last = serving.asked()[-1]
    assert [last[name] for name in ("temperature", "top_p", "top_k")] == [0.5, 0.25, 7]


def test_without_chance_only_the_likeliest_token_is_left(serving: Serving) -> None:
    post(serving, temperature=0)

    assert serving.asked()[-1]["top_k"] == 1


def test_an_answer_past_the_models_end_has_no_end(serving: Serving) -> None:
    post(serving, max_tokens=2, ignore_eos=True)

    assert serving.asked()[-1]["eos_token_id"] == [-1]


def test_tokens_are_counted(serving: Serving) -> None:
    post(serving)
    text = HTTP.get(f"{serving.url}/metrics").text

    assert "modelyard_time_to_first_token_seconds_count" in text
    assert "modelyard_generated_tokens_total 0.0" not in text


# What is refused before the engine hears of it


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"min_p": 0.5}, "min_p"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"repetition_penalty": 2}, "repetition_penalty"),
        ({"logit_bias": {"7": 5}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "abc"}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 10_000}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 300}]}, "messages"),
    ],
)
def test_what_the_engine_would_ignore_or_fail_on_is_named(serving: Serving, asked: dict[str, Any], param: str) -> None:
    before = len(serving.noted())
    answer = post(serving, **asked)

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == param or (asked.get("messages", 0) is None and param in answer.text)
    assert len(serving.noted()) == before


@pytest.mark.parametrize("path", ["load_model", "reset", "v1/audio/transcriptions", "v1/systemone"])
def test_no_other_route_of_the_engine_can_be_reached(serving: Serving, path: str) -> None:
    before = len(serving.noted())

    assert HTTP.post(f"{serving.url}/{path}", json={"model": "other"}).status_code == httpx.codes.NOT_FOUND
    assert len(serving.noted()) == before


def test_defaults_of_the_model_that_the_engine_ignores_do_not_refuse_every_request(tmp_path: Path) -> None:
    facts = msgspec.structs.replace(texting.FACTS, defaults={"temperature": 0.5, "repetition_penalty": 1.1})
    with engines.served(tmp_path, facts) as serving:
        assert post(serving).status_code == httpx.codes.OK
        assert serving.asked()[-1]["temperature"] == 0.5


# Time and room


def test_an_engine_that_says_nothing_is_not_waited_for_for_ever(serving: Serving) -> None:
    since = time.monotonic()
    answer = complete(serving, "?")

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert time.monotonic() - since < 5


def test_an_answer_that_does_not_end_in_time_is_given_up(serving: Serving) -> None:
    answer = complete(serving, "~", max_tokens=240)  # of 20 ms each

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_what_the_engine_refuses_is_an_error_of_the_server(serving: Serving) -> None:
    answer = complete(serving, "%")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_failed")


def test_more_answers_than_may_wait_are_turned_away_with_a_time_to_come_back(tmp_path: Path) -> None:
    room = {"slots": 1}
    with (
        engines.served(tmp_path, changes=room, max_queue_answers=1, answer_seconds=3) as serving,
        ThreadPoolExecutor(4) as pool,
    ):
        found = list(pool.map(lambda _: complete(serving, "~", max_tokens=200), range(4)))

    refused = [answer for answer in found if answer.status_code == httpx.codes.TOO_MANY_REQUESTS]
    assert len(refused) == 2
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_the_cache_is_never_promised_twice(tmp_path: Path) -> None:
    room = {"slots": 4, "kv_tokens": 64}
    with engines.served(tmp_path, changes=room) as serving, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: complete(serving, "hello", max_tokens=32), range(4)))

    assert [answer.json()["choices"][0]["text"] for answer in found] == ["well"] * 4


def test_a_client_that_leaves_ends_its_answer_in_the_engine(serving: Serving) -> None:
    before = sum(entry["event"] == "gone" for entry in serving.noted())
    asked = {"model": MODEL, "prompt": "~", "max_tokens": 200, "stream": True}
    with HTTP.stream("POST", f"{serving.url}/v1/completions", json=asked) as answer:
        next(answer.iter_bytes())

    assert until(lambda: sum(entry["event"] == "gone" for entry in serving.noted()) > before)


# Life and death


def test_an_engine_that_dies_is_started_again_once_and_then_the_server_ends(tmp_path: Path) -> None:
    with engines.served(tmp_path) as serving:
        broken = raw(serving.url, "completions", {"model": MODEL, "prompt": "!", "max_tokens": 12})
        assert b"engine_failed" in broken
        assert b"[DONE]" not in broken

        assert until(lambda: HTTP.get(f"{serving.url}/health").status_code == httpx.codes.OK)
        assert until(lambda: complete(serving, "hello").status_code == httpx.codes.OK)

        complete(serving, "!")
        assert until(lambda: serving.server.should_exit)
        assert serving.server.exit is Exit.CANNOT_RUN


def test_while_there_is_no_engine_the_server_says_that_it_is_not_ready(tmp_path: Path) -> None:
    with engines.served(tmp_path) as serving:
        serving.model.process.kill()
        assert until(lambda: HTTP.get(f"{serving.url}/health").status_code == httpx.codes.SERVICE_UNAVAILABLE)
        assert until(lambda: HTTP.get(f"{serving.url}/health").status_code == httpx.codes.OK)


def test_an_engine_that_hangs_is_replaced(tmp_path: Path) -> None:
    with engines.served(tmp_path, stall_seconds=1) as serving, ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: complete(serving, "?").status_code, range(3)))
        assert set(found) <= {504, 503}
        assert until(lambda: not serving.model.process.alive)
        assert until(lambda: complete(serving, "hello").status_code == httpx.codes.OK)


def test_one_stalled_answer_is_no_reason_to_end_those_of_others(tmp_path: Path) -> None:
    with engines.served(tmp_path, stall_seconds=1) as serving:
        assert complete(serving, "?").status_code == 504
        assert complete(serving, "hello").status_code == httpx.codes.OK
        assert serving.model.process.alive


def test_an_engine_that_is_unwell_is_replaced(tmp_path: Path) -> None:
    with engines.served(tmp_path) as serving:
        assert complete(serving, "#").status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert until(lambda: not serving.model.process.alive)
        assert until(lambda: complete(serving, "hello").status_code == httpx.codes.OK)


def test_the_engine_ends_with_the_server(tmp_path: Path) -> None:
    with engines.served(tmp_path) as serving:
        assert serving.model.process.alive

    assert not serving.model.process.alive


def test_an_engine_that_does_not_start_says_its_last_words(tmp_path: Path) -> None:
    argv = ["/bin/sh", "-c", "echo no such device; exit 3"]
    with pytest.raises(CannotRunError, match="exit code 3; its last words: no such device"):
        Process(engines.launch(tmp_path / "log", argv=argv))


def test_an_engine_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="in time"):
        Process(engines.launch(tmp_path / "log", argv=["/bin/sleep", "60"]), seconds=0.2)


def test_the_models_own_end_is_one_token(serving: Serving) -> None:
    post(serving)

    assert serving.asked()[-1]["eos_token_id"] == [EOS]
