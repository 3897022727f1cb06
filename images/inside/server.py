"""The server: the APIs put together, its start behind the checks, its end after the last answer."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple

import uvicorn
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from images.inside import huggingface, logs
from images.inside.connection import Connection
from images.inside.errors import Exit, FatalError
from images.inside.generating import Generating
from images.inside.huggingface import HuggingFace
from images.inside.loaded import Model, describe
from images.inside.logs import log
from images.inside.openai import common
from images.inside.openai.chat import Chat
from images.inside.openai.completions import Completions
from images.inside.openai.embeddings import Embeddings
from images.inside.openai.models import Models
from images.inside.openai.responses import Responses
from images.inside.openinference import OpenInference, Probes
from images.inside.operations import Operations
from images.inside.predicting import Predicting
from images.inside.records import GenerationFacts, Manifest
from images.inside.service import Service, State, Work
from images.inside.settings import Settings
from images.inside.web import ApiError, Edge, Endpoint, Route, error_response

Load = Callable[[], Model]
KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers keep an idle connection, or they would send a request into one that is being closed.

So long a client may keep the server waiting for a request's head, too, and for the next part of its body.
"""


def serve(manifest: Manifest, settings: Settings, load: Load) -> Exit:
    """Serve until SIGTERM or SIGINT; the exit code.

    Args:
        manifest: the artifact's.
        settings: the server's.
        load: loads the model and checks it, on a thread while the port already answers; what it raises ends the server.

    """
    logs.configure(settings.log_level)
    try:
        listening = listen(settings.host, settings.port)
    except OSError as error:
        log(logging.ERROR, "cannot listen", host=settings.host, port=settings.port, reason=str(error))
        return Exit.CANNOT_RUN
    server = Server(manifest, settings, load)
    host, port = listening.getsockname()[:2]
    log(logging.INFO, "listening", host=host, port=port, model=manifest.model.id)
    server.run(sockets=[listening])
    log(logging.INFO, "stopped", exit_code=server.exit)
    return server.exit


@contextmanager
def running(manifest: Manifest, settings: Settings, load: Load) -> Iterator[str]:
    """The server on a thread and a free port of the loopback, once it is ready: its URL."""
    listening = listen("127.0.0.1", 0)
    server = Server(manifest, settings, load)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        server.settled.wait()
        if server.failure:
            raise server.failure
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError` when the address is taken or is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=host == "::")
    # Connections inherit it. asyncio sets it on sockets of its own making only, and without it the second packet of an
    # answer waits 40 ms until the first is acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class Served(NamedTuple):
    """What a server is made of.

    Attributes:
        service: what every model has.
        work: how this model answers.
        routes: all that is served, in the documentation's order.

    """

    service: Service
    work: Work[Any]
    routes: list[Route]


def compose(manifest: Manifest, settings: Settings) -> Served:
    """The APIs that a model can speak, by what its manifest says of it."""
    service = Service(manifest, settings)
    work, routes = _generating(service, manifest.generation) if manifest.generation else _predicting(service)
    return Served(service, work, [*routes, *Operations(service, routes).routes()])


def _predicting(service: Service) -> tuple[Work[Any], list[Route]]:
    model, probes = Predicting(service), Probes(service)
    apis = (
        *((Embeddings(service, model),) if service.manifest.image is None else ()),
        Models(service),
        HuggingFace(service, model),
        probes,
        OpenInference(service, model, probes),
    )
    return model, [route for api in apis for route in api.routes()]


def _generating(service: Service, facts: GenerationFacts) -> tuple[Work[Any], list[Route]]:
    model = Generating(service, facts)
    apis = (
        Chat(service, model),
        Completions(service, model),
        Responses(service, model),
        Models(service),
        Probes(service),
    )
    return model, [route for api in apis for route in api.routes()]


def app(served: Served) -> ASGIApp:
    """The ASGI application."""
    key = served.service.settings.api_key
    # A model's name may hold slashes, so longer paths come first: `/v2/models/a/b/infer` is not a model `a/b/infer`.
    longest_first = sorted(served.routes, key=lambda route: -route.path.count("/"))
    routes = [StarletteRoute(route.path, Endpoint(route, key)) for route in longest_first if "{" in route.path]
    others = Router(routes, redirect_slashes=False, default=_Unmatched())
    exact = {route.path: Endpoint(route, key) for route in served.routes if "{" not in route.path}
    return Edge(_Paths(exact, others), served.service.metrics, lambda: served.service.state is State.DRAINING)


class Server(uvicorn.Server):
    """uvicorn's server, which starts unready and ends politely.

    Attributes:
        settled: set when the model is ready, or has failed.
        failure: what loading the model raised.

    """

    def __init__(self, manifest: Manifest, settings: Settings, load: Load) -> None:
        served = compose(manifest, settings)
        super().__init__(_config(served))
        self.settled = threading.Event()
        self.failure: BaseException | None = None
        self._service, self._work, self._load = served.service, served.work, load
        self._draining = False
        served.service.failed = self._fail

    @property
    def exit(self) -> Exit:
        """The process's exit code."""
        match self.failure:
            case None:
                return Exit.PASS
            case FatalError(exit_code=code):
                return code
        return Exit.CANNOT_RUN

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end."""
        # A daemon: a long check must not hold up a process that is told to end.
        loading = threading.Thread(target=self._start, args=[asyncio.get_running_loop()], name="start", daemon=True)
        loading.start()
        try:
            await super().serve(sockets)
        finally:
            await self._work.end()
            self._service.end()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT. uvicorn's own way raises the signal again at the end: no exit code 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say "not ready", then stop accepting; a second signal ends at once."""
        del frame
        asyncio.get_running_loop().call_soon_threadsafe(self._drain, signal.Signals(sig).name)

    def _drain(self, name: str) -> None:
        log(logging.INFO, "draining", signal=name)
        self.force_exit = self._draining
        self._draining = True
        self._service.drain()
        asyncio.get_running_loop().call_later(
            0 if self.force_exit else self._service.settings.drain_seconds, self._stop
        )

    def _stop(self) -> None:
        self.should_exit = True

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load and check the model; on a thread of its own."""
        try:
            model = self._load()
            self._work.probe(model)
        except BaseException as error:  # noqa: BLE001  # the thread must say how it ended, whatever it was
            _tell(loop, self._fail, error)
        else:
            _tell(loop, self._begin, model)

    def _begin(self, model: Model) -> None:
        self._work.begin(model)
        self._service.begin()
        log(logging.INFO, "ready", **describe(model))
        self.settled.set()

    def _fail(self, error: BaseException) -> None:
        expected = isinstance(error, FatalError)
        fields = {"reason": str(error), "kind": type(error).__name__}
        logs.logger.error("not ready", exc_info=None if expected else error, extra={"fields": fields})
        self.failure = error
        self.settled.set()
        self._stop()


class _Paths:
    """Paths without a variable part by look-up; of all others, patterns are tried one after the other."""

    def __init__(self, exact: Mapping[str, ASGIApp], others: ASGIApp) -> None:
        self._exact, self._others = exact, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._exact.get(scope["path"], self._others)(scope, receive, send)


class _Unmatched:
    """What answers where no route is: 404, in the shape of the API that the path seems to mean."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        api = common.API if path.startswith("/v1/") else huggingface.API
        response = error_response(api, ApiError(404, f"there is no route {path}; /docs has them all", code="not_found"))
        await response(scope, receive, send)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(function, *args)


def _config(served: Served) -> uvicorn.Config:
    return uvicorn.Config(
        app(served),
        # Measured: h11 costs 60 us CPU a request more than httptools; uvloop saves 15 us and weighs 14 MB.
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here depends on the client's address, and parsing it costs time in every request.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=served.service.settings.grace_seconds,
    )
