"""HTTP as every API here speaks it: routes as data, bodies with a cap, errors in the API's own shape.

A handler takes a `Request` and returns a Starlette response, so that a streaming one is no other case.
"""

import asyncio
import hmac
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from images.inside.batching import QueueFullError
from images.inside.errors import InputError, TooLargeError
from images.inside.logs import log, logger
from images.inside.metrics import Metrics

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
DISCONNECTED = 499
"""Logged and counted for a client that left before its answer; nobody is sent it."""
_PLACED = re.compile(r"(.*) - at (?:`key` in )?`\$\.?(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`")
"""What msgspec says of a field that is not there, or should not be, and so has no path."""
PLAIN = (b"", b"identity")
"""Content codings of a body that is sent as it is."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class ApiError(Exception):
    """An answer that is an error: what each API writes in its own shape.

    Attributes:
        status: the HTTP status.
        message: what is wrong, and what to do about it.
        code: a short name for programs, such as `model_not_found`.
        param: the field of the request that is wrong.
        headers: further response headers.

    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}


class Api(NamedTuple):
    """A family of routes that share a convention.

    Attributes:
        title: its name in the documentation.
        about: one sentence on it.
        error: the body of an error, in this API's shape.
        error_type: the struct that `error` makes.
        invalid: the status of a request that is JSON but not what the route takes.

    """

    title: str
    about: str
    error: Callable[[ApiError], msgspec.Struct]
    error_type: type[msgspec.Struct]
    invalid: int = 422


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation: how it is served and documented.

    Attributes:
        path: a Starlette path, such as `/v1/models/{id:path}`.
        handle: answers a request.
        api: whose conventions it follows.
        summary: one line for the documentation.
        request: type of the body, for the documentation; None for no body.
        raw: a media type of files that are a body as well, for the documentation; empty for none.
        response: type of the answer; a string is a media type.
        event: type of one event of a streamed answer; None when it cannot be streamed.
        example: a body, or values of the path's parameters, for a command to copy.
        errors: statuses that it may answer with beside success.
        open: whether it is answered without the API key.
        quiet: whether it is logged at debug only: probes come every few seconds.

    """

    method: str
    path: str
    handle: Handler
    api: Api
    summary: str
    request: Any = None
    raw: str = ""
    response: Any = None
    event: Any = None
    example: Mapping[str, Any] = field(default_factory=dict)
    errors: Sequence[int] = ()
    open: bool = False
    quiet: bool = False


@dataclass
class Trace:
    """What is noted of one request for its log line; handlers add their figures."""

    request_id: str
    route: str = "unmatched"
    quiet: bool = False
    figures: dict[str, int] = field(default_factory=dict)


class Json(Response):
    """A JSON response, encoded by msgspec."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The body of a struct or of plain values."""
        return msgspec.json.encode(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Those that every answer has, and more: what Starlette would find out of each anew."""
        more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), (b"content-type", b"application/json"), *more]


class Endpoint:
    """One route as an ASGI application. Whatever goes wrong inside becomes a response in the API's own shape."""

    def __init__(self, route: Route, api_key: str) -> None:
        self._route = route
        self._key = b"" if route.open else api_key.encode()
        self._methods = {route.method, "HEAD"} if route.method == "GET" else {route.method}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one whose client has left gets no answer."""
        trace: Trace = scope["modelyard"]
        trace.route, trace.quiet = self._route.path.replace(":path", ""), self._route.quiet
        try:
            response = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # uvicorn's way to end requests when the time after SIGTERM is up: one whose body is still to come, say.
            response = error_response(
                self._route.api, unavailable("the server ended before the answer was ready", "ended")
            )
        except Exception as error:  # noqa: BLE001  # the last line of defence, and the place that logs it
            response = error_response(self._route.api, explain(error, self._route.api, trace))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method not in self._methods:
            allowed = ", ".join(sorted(self._methods))
            message = f"{self._route.path} takes {allowed}, not {request.method}"
            raise ApiError(405, message, code="method_not_allowed", headers={"allow": allowed})
        self._authorize(request)
        return await self._route.handle(request)

    def _authorize(self, request: Request) -> None:
        if not self._key:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key):
            message = "a valid API key is needed: send the header `Authorization: Bearer <key>`"
            raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


class Edge:
    """Around everything: gives each request an id, counts it and writes its log line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, draining: Callable[[], bool]) -> None:
        self._app, self._metrics, self._draining = app, metrics, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), DISCONNECTED
        trace = scope["modelyard"] = Trace(_request_id(scope))

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(trace)]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        finally:
            self._note(trace, scope["method"], status, time.perf_counter() - started)

    def _headers(self, trace: Trace) -> Iterator[tuple[bytes, bytes]]:
        yield b"x-request-id", trace.request_id.encode()
        if self._draining():
            # Kept connections end with an answer: closed while it is idle, one would fail a request that is on its way.
            yield b"connection", b"close"

    def _note(self, trace: Trace, method: str, status: int, seconds: float) -> None:
        self._metrics.request(trace.route, method, status, seconds)
        level = logging.DEBUG if trace.quiet else logging.INFO
        facts = {"method": method, "route": trace.route, "status": status, "ms": round(seconds * 1000, 2)}
        log(level, "request", **facts, request_id=trace.request_id, **trace.figures)


def error_response(api: Api, error: ApiError) -> Response:
    """An error as its API writes it."""
    return Json(api.error(error), error.status, headers=dict(error.headers))


def unavailable(message: str, code: str) -> ApiError:
    """The answer of a server that is not ready yet, or not any more."""
    return ApiError(503, message, code=code, headers={"retry-after": "1"})


def explain(error: Exception, api: Api, trace: Trace) -> ApiError:
    """The answer to a request that raised `error`. What nobody foresaw is logged in full, and its id answered."""
    match error:
        case ApiError():
            return error
        case TooLargeError():
            return _invalid(str(error), 413, error.code)
        case InputError():
            return _invalid(str(error), api.invalid)
        case QueueFullError():
            retry = {"retry-after": str(error.retry_after)}
            return ApiError(429, str(error), code="queue_full", headers=retry)
    logger.error("request failed", exc_info=error, extra={"fields": {"request_id": trace.request_id}})
    return ApiError(500, f"the server failed; its log has the reason under request id {trace.request_id}")


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises a 413 `ApiError` as soon as it is known to be larger than `limit`, 415 when packed."""
    if (coding := _header(request.scope, b"content-encoding")) not in PLAIN:
        why = f"bodies are not unpacked here: send it as it is, without Content-Encoding: {coding.decode('latin-1')}"
        raise ApiError(415, why, code="unsupported_encoding")
    if int(_header(request.scope, b"content-length") or 0) > limit:
        raise _too_large(limit)
    chunks, size, more = [], 0, True
    while more:
        # Starlette's `Request.stream` gives the same, by a generator that the event loop keeps a list of.
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(chunk := message.get("body", b""))
        size, more = size + len(chunk), message.get("more_body", False)
        if size > limit:
            raise _too_large(limit)
    return b"".join(chunks)


def decode(body: bytes, kind: type[T]) -> T:
    """A JSON body as a typed value. Raises `InputError` for another form, and a 400 `ApiError` for what is not JSON."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        half = "; an emoji may be cut in half" if b"\\ud" in body.lower() else ""
        raise ApiError(400, f"the body is not JSON: {error}{half}", code="invalid_json") from error


def _invalid(message: str, status: int, code: str = "invalid_input") -> ApiError:
    """An error about a field, whose path msgspec (and every `InputError` that knows one) puts at the end."""
    found = _PLACED.fullmatch(message)
    what, path = found.groups() if found else (message, "")
    named = _FIELD.fullmatch(what)
    param = ".".join(part for part in (path, named[1] if named else "") if part) or None
    return ApiError(status, f"{path}: {what}" if path else what, code=code, param=param)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")


def _request_id(scope: Scope) -> str:
    """The id that the client sent, if it can be logged and sent back as it is; else a new one."""
    text = _header(scope, b"x-request-id").decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else os.urandom(12).hex()


def _header(scope: Scope, wanted: bytes) -> bytes:
    """The first header of that name, in lower case; empty for none. Starlette would make an object of all of them."""
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return b""
