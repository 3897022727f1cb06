import json
from typing import Any

import pytest

from images.inside.generation.json_object import MAX_SPACES, State, follow
from images.inside.generation.request import Finish
from tests.inside.generating import ChainGenerator, asked, ids, started

OBJECTS = [
    "{}",
    ' {"a": [1, -0.5e+3, 0, 12E9, true, false, null, [], {}, [[{}]]], "b" : {"c":"d"}} \n',
    '{"Grüße 世界 🙂": "\\" \\\\ \\/ \\b\\f\\n\\r\\t \\u00e9 \x7f"}',
]
BROKEN = [
    "[]",
    "1",
    '"a"',
    "a",
    "{a",
    "{,",
    '{"a"}',
    '{"a",',
    '{"a":}',
    '{"a":1,}',
    '{"a":[1,]',
    '{"a":[1}',
    '{"a":01',
    '{"a":-}',
    '{"a":1.}',
    '{"a":.5',
    '{"a":1e}',
    '{"a":+1',
    '{"a":tru}',
    '{"a":nul1',
    '{"a":"\n',
    '{"a":"\\x',
    '{"a":"\\u00g',
    "{}{",
    "{}x",
    "{" + " " * (MAX_SPACES + 1),
]


@pytest.mark.parametrize("text", OBJECTS)
def test_an_object_is_complete_at_its_end_and_not_before(text: str) -> None:
    data = text.encode()
    closed = len(data.rstrip())
    for end in range(len(data) + 1):
        place = follow(State(), data[:end])
        assert place is not None
        assert (place.at == "end") == (end >= closed)


@pytest.mark.parametrize("text", BROKEN)
def test_what_cannot_become_an_object_is_refused(text: str) -> None:
    assert follow(State(), text.encode()) is None


@pytest.mark.parametrize(
    "data", [b"\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3a"]
)
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    assert follow(State(), b'{"' + data) is None


@pytest.mark.parametrize("how", [{}, {"temperature": 1, "seed": 1}, {"temperature": 1, "top_p": 0.5, "seed": 3}])
async def test_an_answer_is_a_json_object(how: dict[str, Any]) -> None:
    loop = started(ChainGenerator())
    pushed = {ids(character)[0]: 6.0 for character in '"}:,'}
    answer = loop.submit(asked("a", 200, json_object=True, logit_bias=pushed, **how))
    assert isinstance(json.loads(await answer.text()), dict)
    assert answer.finish is Finish.STOP
    loop.stop()


async def test_a_json_object_may_be_cut_by_the_most_tokens() -> None:
    loop = started(ChainGenerator())
    answer = loop.submit(asked("a", 2, json_object=True, logit_bias=dict.fromkeys(ids('{"'), 99)))
    assert await answer.text() == '{"'
    assert answer.finish is Finish.LENGTH
    loop.stop()
