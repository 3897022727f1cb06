"""OpenAI's API as far as this model can speak it: embeddings and the list of models."""

import base64
from collections.abc import Sequence
from typing import Literal

import msgspec
from starlette.requests import Request

from images.inside.contract import FloatArray, InputError, Item, Outputs, Prepared, TooLongError
from images.inside.service import Service, check_vocabulary, count_tokens
from images.inside.text import Tokenizer
from images.inside.web import Api, ApiError, Json, Route, decode

Input = str | list[str | int | list[int]]
Tokens = list[int]


class ErrorDetail(msgspec.Struct):
    """What went wrong.

    Attributes:
        message: the reason, and what to do about it.
        type: the kind of error.
        param: the field of the request that is wrong.
        code: a short name for programs.

    """

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(msgspec.Struct):
    """An error in OpenAI's shape."""

    error: ErrorDetail


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Texts to turn into vectors.

    Attributes:
        input: a text, a list of texts, the token ids of a text (special tokens included), or a list of these.
        model: the served model's id, with or without its owner.
        encoding_format: `float` for lists of numbers, `base64` for little-endian float32 bytes.
        dimensions: the length of the vectors; only the model's own is possible.
        user: accepted and not used, as the API defines it.
        truncate: cut a text that is too long instead of refusing it; an extension of the API.

    """

    input: Input
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    truncate: bool = False


class EmbeddingData(msgspec.Struct):
    """One vector.

    Attributes:
        index: the input's position in the request.
        embedding: numbers, or base64 of little-endian float32.

    """

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class Usage(msgspec.Struct):
    """What the request cost.

    Attributes:
        prompt_tokens: tokens of all inputs, special tokens included.
        total_tokens: the same, since nothing is generated.

    """

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(msgspec.Struct):
    """The vectors, in the inputs' order."""

    data: list[EmbeddingData]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class ModelCard(msgspec.Struct):
    """A served model.

    Attributes:
        id: the name to send as `model`.
        created: always 0: when the image was built is no part of it.
        owned_by: the model's owner, as its id says.

    """

    id: str
    owned_by: str
    created: int = 0
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    """The models that this server answers for: one."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


def error_body(error: ApiError) -> ErrorResponse:
    """An error in OpenAI's shape."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")  # noqa: PLR2004
    return ErrorResponse(ErrorDetail(error.message, kind, error.param, error.code))


API = Api("OpenAI", "For clients of OpenAI's API; the base URL ends in `/v1`.", error_body, ErrorResponse)


class OpenAI:
    """The routes and their handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._manifest = service.manifest

    def routes(self) -> list[Route]:
        """What is served. Embeddings are there for any feature extractor, if only to say why it makes none."""
        model, name = self._manifest.model.id, "/v1/models"
        return [
            Route(
                method="POST",
                path="/v1/embeddings",
                handle=self.embeddings,
                api=API,
                summary="Turn texts into vectors",
                request=EmbeddingRequest,
                response=EmbeddingResponse,
                example={"model": model, "input": ["The quick brown fox", "A slow green turtle"]},
                errors=(400, 401, 404, 413, 422, 429, 503),
            ),
            Route(
                method="GET",
                path=name,
                handle=self.models,
                api=API,
                summary="List the served model",
                response=ModelList,
                errors=(401,),
            ),
            Route(
                method="GET",
                path=f"{name}/{{id:path}}",
                handle=self.model,
                api=API,
                summary="Describe the served model",
                response=ModelCard,
                example={"id": model},
                errors=(401, 404),
            ),
        ]

    async def embeddings(self, request: Request) -> Json:
        """`POST /v1/embeddings`."""
        body = await self._service.body(request)
        wanted = decode(body, EmbeddingRequest)
        self._check(wanted)
        prepared = await self._service.prepare(len(body), lambda tokenizer: self._prepare(wanted, tokenizer))
        outputs = await self._service.run(request, prepared.items)
        return Json(self._response(outputs, prepared.items, wanted.encoding_format))

    async def models(self, _: Request) -> Json:
        """`GET /v1/models`."""
        return Json(ModelList([self._card()]))

    async def model(self, request: Request) -> Json:
        """`GET /v1/models/{id}`."""
        self._check_model(request.path_params["id"], "id")
        return Json(self._card())

    def _card(self) -> ModelCard:
        owner, _, _ = self._manifest.model.id.rpartition("/")
        return ModelCard(self._manifest.model.id, owner or "modelyard")

    def _check_model(self, model: str, param: str) -> None:
        if model not in self._service.names:
            message = f"the model {model!r} is not served here; {self._manifest.model.id!r} is"
            raise ApiError(404, message, code="model_not_found", param=param)

    def _check(self, wanted: EmbeddingRequest) -> None:
        self._check_model(wanted.model, "model")
        self._check_embedding(wanted.dimensions)
        if isinstance(wanted.input, list) and not _is_tokens(wanted.input):
            self._service.check_count(len(wanted.input), "input")

    def _check_embedding(self, dimensions: int | None) -> None:
        facts = self._manifest.embedding
        if facts is None:
            message = "this model states no pooling, so it has no embeddings; build its image again with --pooling"
            raise ApiError(400, message, code="no_embeddings")
        if dimensions not in {None, facts.dimension}:
            message = f"dimensions: this model's vectors have {facts.dimension} dimensions, not {dimensions}"
            raise ApiError(400, message, code="unsupported_dimensions", param="dimensions")

    def _prepare(self, wanted: EmbeddingRequest, tokenizer: Tokenizer) -> Prepared:
        texts, tokens = read_input(wanted.input)
        if texts:
            payload = {"inputs": texts, "truncate": wanted.truncate}
            return self._service.task.prepare(payload, tokenizer, self._manifest)
        limit = self._manifest.max_length
        return Prepared([_item(ids, tokenizer, limit, truncate=wanted.truncate) for ids in tokens], None)

    def _response(self, outputs: Sequence[Outputs], items: Sequence[Item], form: str) -> EmbeddingResponse:
        encode = to_base64 if form == "base64" else to_floats
        data = [EmbeddingData(index, encode(row["sentence_embedding"])) for index, row in enumerate(outputs)]
        total = count_tokens(items)
        return EmbeddingResponse(data, self._manifest.model.id, Usage(total, total))


def read_input(given: Input) -> tuple[list[str], list[Tokens]]:
    """The request's texts, or its token ids: one of the two. Raises `InputError` when they are mixed or empty."""
    entries = given if isinstance(given, list) else [given]
    texts = [entry for entry in entries if isinstance(entry, str)]
    tokens = [entry for entry in entries if isinstance(entry, list)]
    if entries and _is_tokens(entries):
        tokens = [[entry for entry in entries if isinstance(entry, int)]]
    elif not entries or len(entries) not in {len(texts), len(tokens)}:
        raise InputError("expected a text, texts, token ids or lists of token ids, and at least one - at `$.input`")
    return texts, tokens


def to_base64(vector: FloatArray) -> str:
    """A vector as base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def to_floats(vector: FloatArray) -> list[float]:
    """A vector as numbers."""
    floats: list[float] = vector.tolist()
    return floats


def _is_tokens(entries: Sequence[object]) -> bool:
    return bool(entries) and all(isinstance(entry, int) for entry in entries)


def _item(ids: Tokens, tokenizer: Tokenizer, limit: int, *, truncate: bool) -> Item:
    if not ids:
        raise InputError("a list of token ids is empty - at `$.input`")
    if len(ids) > limit and not truncate:
        raise TooLongError(len(ids), limit)
    kept = ids[:limit]
    check_vocabulary(kept, tokenizer, "input")
    return Item(tuple(kept), (0,) * len(kept))
