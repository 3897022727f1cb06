"""Hugging Face's inference payloads: `/predict` does the artifact's task."""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from images.inside.predicting import Predicting
from images.inside.service import Service
from images.inside.web import Api, ApiError, Json, Route, decode


class ErrorMessage(msgspec.Struct):
    """An error.

    Attributes:
        error: the reason, and what to do about it.

    """

    error: str


def error_body(error: ApiError) -> ErrorMessage:
    """An error in Hugging Face's shape."""
    return ErrorMessage(error.message)


API = Api("Hugging Face", "The model's task, with the payloads of its inference API.", error_body, ErrorMessage)


class HuggingFace:
    """The route and its handler."""

    def __init__(self, service: Service, model: Predicting) -> None:
        self._service, self._model = service, model

    def routes(self) -> list[Route]:
        """What is served."""
        task, manifest = self._model.task, self._service.manifest
        return [
            Route(
                method="POST",
                path="/predict",
                handle=self.predict,
                api=API,
                summary=f"Run the task {task.name}",
                request=task.payload_type,
                raw=self._model.modality.raw,
                response=Any,
                example=task.suite(manifest.mask_token)[0][1],
                errors=(400, 401, 413, 415, 422, 429, 503),
            )
        ]

    async def predict(self, request: Request) -> Json:
        """`POST /predict`."""
        body = await self._service.body(request)
        payload = self._payload(request, body)
        self._service.check_count(_count(payload), "inputs")
        task, manifest = self._model.task, self._service.manifest
        prepared = await self._model.prepare(len(body), lambda processor: task.prepare(payload, processor, manifest))
        outputs = await self._model.run(request, prepared.items)
        return Json(task.answer(prepared, outputs, manifest))

    def _payload(self, request: Request, body: bytes) -> dict[str, Any]:
        """The JSON body; of a model that looks at pictures, also a file as it is."""
        if self._model.modality.raw and _is_file(request.headers.get("content-type", ""), body):
            return {"inputs": base64.b64encode(body).decode()}
        return decode(body, dict[str, Any])


def _is_file(media: str, body: bytes) -> bool:
    """Whether a body is a file and no JSON: by what its sender says; clients that say nothing useful send files too."""
    kind = media.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return True
    return kind != "application/json" and not body.lstrip().startswith(b"{")


def _count(payload: Mapping[str, Any]) -> int:
    inputs = payload.get("inputs")
    return len(inputs) if isinstance(inputs, list) else 1
