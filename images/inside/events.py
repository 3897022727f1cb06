"""Server-sent events: an answer that is sent while it is made."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "text/event-stream"
HEADERS = [
    (b"content-type", f"{MEDIA_TYPE}; charset=utf-8".encode()),
    (b"cache-control", b"no-cache"),
    # nginx would keep events back until it has some kilobytes of them.
    (b"x-accel-buffering", b"no"),
]


def event(data: bytes, name: str = "") -> bytes:
    """One event of one line of data, with a name where the API gives it one."""
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: " + data + b"\n\n"


class EventStream(Response):
    """Events, each sent as soon as it is there.

    Args:
        events: one or more events at a time.
        attending: entered while they are sent; it turns cancellation into what to say.
        failed: the events that tell the client of an error.

    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        attending: AbstractAsyncContextManager[None],
        failed: Callable[[Exception], bytes],
    ) -> None:
        super().__init__()
        self._events, self._attending, self._failed = events, attending, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events. An error cannot be a status any more, so it becomes the last of them."""
        del scope, receive
        try:
            async with self._attending, aclosing(self._events) as events:
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                async for data in events:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  # the last line of defence; `failed` logs it
            await send({"type": "http.response.body", "body": self._failed(error), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
