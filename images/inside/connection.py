"""uvicorn's HTTP connection, whose answers leave in one packet: head and body by themselves are two wake-ups."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SIZED = b"\r\ncontent-length: "
"""In the head of an answer that is there as a whole; a streamed one's head must not wait for the first event."""


class Joining:
    """A transport that sends an answer's head together with what is written next. All else is the transport's."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._is_head = True

    def __getattr__(self, name: str) -> Any:
        """What is not joined."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or keep the head of an answer whose body follows at once."""
        if self._is_head and SIZED in data:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""
        self._is_head = False

    def end(self) -> None:
        """Send what is kept: an answer to HEAD has no body. The next thing written is a head."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._is_head = True

    def close(self) -> None:
        """Send what is kept, then close."""
        self.end()
        self._transport.close()


class Connection(HttpToolsProtocol):
    """uvicorn's, on a transport that joins."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a client's connection."""
        super().connection_made(transport)
        self._joining = Joining(transport)
        self.transport = self._joining  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """Send what is kept before the next request of the connection is begun."""
        self._joining.end()
        super().on_response_complete()
