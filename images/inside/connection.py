"""A client's connection: uvicorn's, with a bound on what its sender may make large or slow, and deaf to upgrades."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 1 << 16
"""Bytes of a request's line and headers: the parser itself keeps whatever comes, before any key is asked for."""
FRAMING = (b"content-length", b"transfer-encoding")


class Connection(HttpToolsProtocol):
    """A connection that ends when its client keeps it waiting for longer than an idle one may stay open.

    A head must be there as a whole within `timeout_keep_alive`, the next part of a body within as much again.
    """

    _head = -1
    """Bytes of the head that is being read, without those that came along with its first; -1 between heads."""
    _begun = 0.0
    _just_begun = False
    _in_body = False
    _again = False

    def connection_made(self, transport: object) -> None:
        """Wait for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and wait for what is missing of a request."""
        self._unset_keepalive_if_required()
        self._just_begun = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._head >= 0:
            self._wait_for_head(0 if self._just_begun else len(data))
        elif self._in_body:
            self._wait(self.timeout_keep_alive)

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._again:
            self._head, self._begun, self._just_begun = 0, self.loop.time(), True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of its path."""
        if not self._again:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        if not self._again:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there as a whole."""
        if not self._again:
            self._head, self._in_body = -1, True
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is there as a whole; not when the parser leaves the rest to another protocol."""
        if not self.parser.should_upgrade():
            self._in_body = False
            super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection whose client lets it wait; not one that is not read from while an answer is made."""
        if self.flow.read_paused:
            self._wait(self.timeout_keep_alive)
        else:
            super().timeout_keep_alive_handler()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            self._ignore_upgrade(data[asked.args[0] :])

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read on as if nothing but HTTP/1.1 were asked for, as RFC 9110 lets a server do.

        Java's client asks for HTTP/2 with each request that it sends in plain text, and means its body for both. The
        parser gives up at the head's end, so another one goes on, by as much of the head as says where the body ends.
        """
        self.parser = httptools.HttpRequestParser(self)
        framing = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] in FRAMING)
        self._again = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
        self._again = False
        self._feed(rest)

    def _wait_for_head(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            self.send_400_response(f"The request's line and headers are larger than {MAX_HEAD} bytes.")
        else:
            self._wait(self._begun + self.timeout_keep_alive - self.loop.time())

    def _wait(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
