"""The routes for who runs the server: health, metrics, the API's description."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from images.inside import docs
from images.inside.huggingface import ErrorMessage, error_body
from images.inside.metrics import CONTENT_TYPE
from images.inside.service import Service, State
from images.inside.web import Api, Handler, Json, Route

API = Api("Operations", "Health, metrics and documentation; never closed by the API key.", error_body, ErrorMessage)


class Health(msgspec.Struct):
    """How the server is.

    Attributes:
        status: `starting`, `ready` or `draining`.

    """

    status: State


class Operations:
    """The routes and their handlers.

    Args:
        service: the served model.
        routes: all other routes, to be described with these.

    """

    def __init__(self, service: Service, routes: list[Route]) -> None:
        self._service = service
        self._all = [*routes, *self.routes()]

    def routes(self) -> list[Route]:
        """What is served."""
        health = _get("/health", self.health, "Is the server ready?", Health, errors=(503,), quiet=True)
        return [
            health,
            _get("/metrics", self.metrics, "Metrics for Prometheus", "text/plain", quiet=True),
            _get("/openapi.json", self.openapi, "This API as OpenAPI 3.1", dict[str, Any]),
            _get("/docs", self.docs, "This API to read", "text/html"),
        ]

    async def health(self, _: Request) -> Json:
        """`GET /health`."""
        state = self._service.state
        return Json(Health(state), 200 if state is State.READY else 503)

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`."""
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Json:
        """`GET /openapi.json`."""
        return Json(self._described())

    async def docs(self, _: Request) -> Response:
        """`GET /docs`."""
        return Response(docs.page(self._described()), media_type="text/html")

    def _described(self) -> dict[str, Any]:
        return docs.openapi(self._all, self._service.manifest, secured=bool(self._service.settings.api_key))


def _get(path: str, handle: Handler, summary: str, response: Any, **facts: Any) -> Route:
    return Route(
        method="GET", path=path, handle=handle, api=API, summary=summary, response=response, open=True, **facts
    )
