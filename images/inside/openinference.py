"""The Open Inference Protocol, version 2, over REST: probes, metadata, and the model's raw outputs as tensors.

Texts or token ids go in, or images; what comes out is what the network says (vectors, logits), not the task's answer.
https://github.com/kserve/open-inference-protocol
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from images.inside import collate, tensors
from images.inside.contract import FloatArray
from images.inside.huggingface import ErrorMessage, error_body
from images.inside.predicting import Predicting
from images.inside.service import Service, State
from images.inside.tensors import InputTensor, OutputTensor, Rows, Strict, TensorFacts
from images.inside.vision import tensors as pictures
from images.inside.web import Api, ApiError, Handler, Json, Route, decode

API = Api(
    "Open Inference Protocol",
    "Probes, metadata and tensors, as inference platforms ask for them.",
    error_body,
    ErrorMessage,
    invalid=400,
)
VERSION = "1"
"""The model's version when its source states no revision."""


class InferParameters(Strict):
    """How the request is run.

    Attributes:
        truncate: cut a text that is too long instead of refusing it.
        binary_data_output: accepted, since a common client always sends it; the answer is JSON all the same.

    """

    truncate: bool = False
    binary_data_output: bool = False


class OutputParameters(Strict):
    """How an output is sent.

    Attributes:
        binary_data: accepted like `binary_data_output`.

    """

    binary_data: bool = False


class OutputChoice(Strict):
    """An output to send; all are sent when none is chosen."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(Strict):
    """Tensors to run the model on: one of texts, or `input_ids` with an optional mask and token types; or of pictures.

    Attributes:
        id: sent back in the answer.

    """

    inputs: list[InputTensor]
    id: str = ""
    outputs: tuple[OutputChoice, ...] = ()
    parameters: InferParameters | None = None


class InferResponse(msgspec.Struct, omit_defaults=True):
    """What the model put out."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


class ModelMetadata(msgspec.Struct):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class ServerMetadata(msgspec.Struct):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class Live(msgspec.Struct):
    """Whether the server answers at all."""

    live: bool


class Ready(msgspec.Struct):
    """Whether requests should be sent to this server."""

    ready: bool


class ModelReady(msgspec.Struct):
    """Whether the model answers."""

    name: str
    ready: bool


class Probes:
    """The routes that say whether server and model answer, whatever the model does.

    Attributes:
        name: the model's name in paths.
        version: its version.

    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.name = service.names[1]
        self.version = service.manifest.model.revision or VERSION

    def routes(self) -> list[Route]:
        """What is served: the server's routes, and the model's with and without a version."""
        live, ready = "/v2/health/live", "/v2/health/ready"
        return [
            _get(live, self.live, "Does the server answer?", Live, open=True, quiet=True),
            _get(ready, self.ready, "Should requests come here?", Ready, errors=(503,), open=True, quiet=True),
            _get("/v2", self.server, "Describe the server", ServerMetadata, errors=(401,)),
            *(self._model_route(base, called, of) for base, called, of in self.models()),
        ]

    def models(self) -> list[tuple[str, dict[str, str], str]]:
        """The model's path without and with its version; each with values of its parameters and words for it."""
        base, named = "/v2/models/{name:path}", {"name": self.name}
        return [(base, named, ""), (f"{base}/versions/{{version}}", named | {"version": self.version}, ", by version")]

    async def live(self, _: Request) -> Json:
        """`GET /v2/health/live`."""
        return Json(Live(live=True))

    async def ready(self, _: Request) -> Json:
        """`GET /v2/health/ready`."""
        return Json(Ready(self._is_ready), self._ready_status)

    async def server(self, _: Request) -> Json:
        """`GET /v2`."""
        return Json(ServerMetadata("modelyard", self._service.manifest.target, []))

    async def model_ready(self, request: Request) -> Json:
        """`GET /v2/models/{name}/ready`."""
        self.check_model(request)
        return Json(ModelReady(self.name, self._is_ready), self._ready_status)

    def check_model(self, request: Request) -> None:
        """Raise a 404 `ApiError` for another model or version in the path."""
        name, version = request.path_params["name"], request.path_params.get("version", self.version)
        if name not in self._service.names:
            raise ApiError(404, f"the model {name!r} is not served here; {self.name!r} is")
        if version != self.version:
            raise ApiError(404, f"version {version!r} is not served here; {self.version!r} is")

    @property
    def _is_ready(self) -> bool:
        return self._service.state is State.READY

    @property
    def _ready_status(self) -> int:
        return 200 if self._is_ready else 503

    def _model_route(self, base: str, called: dict[str, str], of: str) -> Route:
        probe: dict[str, Any] = {"errors": (404, 503), "open": True, "quiet": True, "example": called}
        return _get(f"{base}/ready", self.model_ready, f"Does the model answer?{of}", ModelReady, **probe)


class OpenInference:
    """The routes that run the model on tensors, and their handlers."""

    def __init__(self, service: Service, model: Predicting, probes: Probes) -> None:
        self._service, self._model, self._probes = service, model, probes
        self._manifest = service.manifest
        self._form = pictures.FORM if service.manifest.image else tensors.TEXTS
        self._name, self._version = probes.name, probes.version

    def routes(self) -> list[Route]:
        """What is served, with and without a version."""
        return [route for base, called, of in self._probes.models() for route in self._model_routes(base, called, of)]

    async def metadata(self, request: Request) -> Json:
        """`GET /v2/models/{name}`. The outputs are known once the model is loaded."""
        self._probes.check_model(request)
        inputs = self._form.inputs(self._manifest)
        outputs = [TensorFacts(name, "FP32", self._shape(row)) for name, row in self._model.sample.items()]
        platform = f"{self._manifest.target}_{self._manifest.mode}"
        return Json(ModelMetadata(self._name, [self._version], platform, inputs, outputs))

    async def infer(self, request: Request) -> Json:
        """`POST /v2/models/{name}/infer`."""
        self._probes.check_model(request)
        self._refuse_binary(request)
        body = await self._service.body(request)
        wanted = decode(body, InferRequest)
        names = self._output_names(wanted.outputs)
        rows = await self._prepare(len(body), wanted)
        outputs = await self._model.run(request, rows.items)
        sent = [tensors.write(name, [row[name] for row in outputs], rows, self._manifest) for name in names]
        return Json(InferResponse(self._name, self._version, sent, wanted.id))

    def _model_routes(self, base: str, called: dict[str, str], of: str) -> list[Route]:
        metadata = f"Describe the model's tensors{of}"
        return [
            self._infer_route(f"{base}/infer", f"Run the model on {self._form.about}{of}", called),
            _get(base, self.metadata, metadata, ModelMetadata, errors=(401, 404), example=called),
        ]

    def _infer_route(self, path: str, summary: str, called: dict[str, str]) -> Route:
        return Route(
            method="POST",
            path=path,
            handle=self.infer,
            api=API,
            summary=summary,
            request=InferRequest,
            response=InferResponse,
            example={**called, "inputs": [self._form.example()]},
            errors=(400, 401, 404, 413, 415, 429, 503),
        )

    @staticmethod
    def _refuse_binary(request: Request) -> None:
        if "inference-header-content-length" in request.headers:
            why = "binary tensors are not taken: send them as JSON in `data` (tritonclient: binary_data=False)"
            raise ApiError(400, why)

    def _output_names(self, chosen: Sequence[OutputChoice]) -> list[str]:
        known = list(self._model.sample)
        unknown = [choice.name for choice in chosen if choice.name not in known]
        if unknown:
            raise ApiError(400, f"the model has no output {unknown[0]!r}; it has {', '.join(known)}")
        return [choice.name for choice in chosen] or known

    async def _prepare(self, size: int, wanted: InferRequest) -> Rows:
        self._service.check_count(max((entry.shape[0] for entry in wanted.inputs if entry.shape), default=0), "inputs")
        truncate = (wanted.parameters or InferParameters()).truncate
        return await self._model.prepare(
            size, lambda processor: self._form.read(wanted.inputs, processor, self._manifest, truncate=truncate)
        )

    def _shape(self, row: FloatArray) -> list[int]:
        shape = list(row.shape)
        return [-1, -1, *shape[1:]] if collate.per_token(row, row.shape[0], self._manifest) else [-1, *shape]


def _get(path: str, handle: Handler, summary: str, response: type[msgspec.Struct], **facts: Any) -> Route:
    return Route(method="GET", path=path, handle=handle, api=API, summary=summary, response=response, **facts)
