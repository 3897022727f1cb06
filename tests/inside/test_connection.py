import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from images.inside import server
from images.inside.connection import MAX_HEAD
from tests.inside.serving import MODEL, served

BODY = json.dumps({"model": MODEL, "input": "one"}).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that lets nobody keep it waiting."""
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.2)
    with served() as made:
        yield made


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5)


def head(headers: bytes) -> bytes:
    return b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n"


def status(connection: socket.socket) -> int:
    """The next answer's status, once it is read."""
    with HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def repeated(connection: socket.socket, part: bytes, pause: float = 0) -> None:
    """Send the same again and again, for as long as it is taken."""
    for _ in range(64):
        connection.sendall(part)
        time.sleep(pause)


def sent(connection: socket.socket, *parts: bytes) -> int:
    """How an answer to parts that arrive one by one ends."""
    for part in parts:
        connection.sendall(part)
        time.sleep(0.02)
    return status(connection)


CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
WHOLE = [(LENGTH, BODY), (CHUNKED, CHUNKS)]


@pytest.mark.parametrize(("framing", "body"), WHOLE)
def test_a_body_behind_a_wish_for_another_protocol_is_read(url: str, framing: bytes, body: bytes) -> None:
    with connected(url) as connection:
        assert sent(connection, head(UPGRADE + framing) + body) == 200


@pytest.mark.parametrize(("framing", "body"), WHOLE)
def test_it_may_come_in_parts(url: str, framing: bytes, body: bytes) -> None:
    with connected(url) as connection:
        assert sent(connection, head(UPGRADE + framing)[:50], head(UPGRADE + framing)[50:], body[:9], body[9:]) == 200


def test_each_request_of_a_connection_may_wish_for_another_protocol(url: str) -> None:
    with connected(url) as connection:
        assert [sent(connection, head(UPGRADE + LENGTH) + BODY) for _ in range(3)] == [200, 200, 200]


def test_a_wish_for_another_protocol_needs_no_body(url: str) -> None:
    with connected(url) as connection:
        assert sent(connection, b"GET /health HTTP/1.1\r\nhost: x\r\n" + UPGRADE + b"\r\n") == 200


def test_a_head_that_goes_on_and_on_is_refused(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(head(LENGTH)[:-2])
        with pytest.raises(OSError, match=r"reset|pipe"):
            repeated(connection, b"x-more: " + b"x" * MAX_HEAD)


def test_a_request_line_that_goes_on_and_on_is_refused(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /")
        with pytest.raises(OSError, match=r"reset|pipe"):
            repeated(connection, b"x" * MAX_HEAD)


def test_a_long_key_is_no_long_head(url: str) -> None:
    with connected(url) as connection:
        more = b"authorization: Bearer " + b"x" * (MAX_HEAD // 2) + b"\r\n"

        assert sent(connection, head(LENGTH + more)[:1000], head(LENGTH + more)[1000:] + BODY) == 200


def test_requests_that_come_in_one_piece_are_all_answered(url: str) -> None:
    with connected(url) as connection:
        connection.sendall((head(LENGTH) + BODY) * 2 + head(LENGTH + b"connection: close\r\n") + BODY)
        answers = connection.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("begun", [b"", b"POST /v1/emb", head(LENGTH), head(LENGTH) + BODY[:5]])
def test_a_client_that_stops_in_the_middle_is_left(impatient: str, begun: bytes) -> None:
    with connected(impatient) as connection:
        connection.sendall(begun)

        assert connection.recv(1) == b""


def test_a_head_that_comes_byte_by_byte_has_no_more_time_than_any(impatient: str) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"POST /")
        with pytest.raises(OSError, match=r"reset|pipe"):
            repeated(connection, b"x", pause=0.02)


def test_a_body_that_comes_slowly_but_steadily_is_read(impatient: str) -> None:
    with connected(impatient) as connection:
        connection.sendall(head(LENGTH))
        for byte in BODY[:-1]:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

        assert sent(connection, BODY[-1:]) == 200
