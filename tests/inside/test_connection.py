"""Answers in one packet: head and body together, and nothing held back that has no body."""

from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest

from images.inside.connection import Joining
from tests.inside.serving import served

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
STREAMED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Recording:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.packets.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def joining(recording: Recording) -> Joining:
    return Joining(cast("Any", recording))


def test_head_and_body_are_one_packet(joining: Joining, recording: Recording) -> None:
    joining.write(HEAD)
    joining.write(b"{}")
    assert recording.packets == [HEAD + b"{}"]


def test_a_streams_head_does_not_wait_for_its_first_event(joining: Joining, recording: Recording) -> None:
    joining.write(STREAMED)
    assert recording.packets == [STREAMED]


def test_a_body_that_looks_like_a_head_is_not_kept(joining: Joining, recording: Recording) -> None:
    joining.write(STREAMED)
    joining.write(HEAD)
    assert recording.packets == [STREAMED, HEAD]


def test_an_answer_without_a_body_is_sent_when_it_ends(joining: Joining, recording: Recording) -> None:
    joining.write(HEAD)
    joining.end()
    joining.end()
    assert recording.packets == [HEAD]


def test_every_answer_of_a_connection_is_joined(joining: Joining, recording: Recording) -> None:
    for _ in range(2):
        joining.write(HEAD)
        joining.write(b"{}")
        joining.end()
    assert recording.packets == [HEAD + b"{}"] * 2


def test_what_is_kept_is_sent_before_the_end(joining: Joining, recording: Recording) -> None:
    joining.write(HEAD)
    joining.close()
    assert recording.packets == [HEAD]
    assert joining.is_closing()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served() as url, httpx.Client(base_url=url, trust_env=False) as http:
        yield http


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_connection_goes_on_after_an_answer_of_any_form(method: str, client: httpx.Client) -> None:
    statuses = [client.request(method, path).status_code for path in ("/health", "/nowhere", "/health")]
    assert statuses == [200, 404, 200]
