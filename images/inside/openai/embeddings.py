"""`/v1/embeddings`: texts to vectors."""

import base64
from collections.abc import Sequence
from typing import Literal

import msgspec
from starlette.requests import Request

from images.inside.contract import FloatArray, Item, Outputs, Prepared
from images.inside.errors import InputError, TooLongError
from images.inside.openai.common import API, check_model, fields, typed
from images.inside.openai.inputs import Input, Tokens, is_tokens, read_input
from images.inside.predicting import Predicting, count_tokens
from images.inside.service import Service, check_vocabulary
from images.inside.tasks.common import each
from images.inside.text import Tokenizer
from images.inside.web import ApiError, Json, Route


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


class Embeddings:
    """The route and its handler."""

    def __init__(self, service: Service, model: Predicting) -> None:
        self._service, self._model = service, model
        self._manifest = service.manifest

    def routes(self) -> list[Route]:
        """What is served. Embeddings are there for any feature extractor, if only to say why it makes none."""
        return [
            Route(
                method="POST",
                path="/v1/embeddings",
                handle=self.embeddings,
                api=API,
                summary="Turn texts into vectors",
                request=EmbeddingRequest,
                response=EmbeddingResponse,
                example={"model": self._manifest.model.id, "input": ["The quick brown fox", "A slow green turtle"]},
                errors=(400, 401, 404, 413, 415, 422, 429, 503),
            ),
        ]

    async def embeddings(self, request: Request) -> Json:
        """`POST /v1/embeddings`."""
        body = await self._service.body(request)
        wanted = typed(fields(body), EmbeddingRequest)
        self._check(wanted)
        prepared = await self._model.prepare(len(body), lambda tokenizer: self._prepare(wanted, tokenizer))
        outputs = await self._model.run(request, prepared.items)
        return Json(self._response(outputs, prepared.items, wanted.encoding_format))

    def _check(self, wanted: EmbeddingRequest) -> None:
        check_model(self._service, wanted.model)
        self._check_embedding(wanted.dimensions)
        if isinstance(wanted.input, list) and not is_tokens(wanted.input):
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
            return self._prepare_texts(wanted, tokenizer)
        limit, lone = self._manifest.max_length, isinstance(wanted.input, list) and is_tokens(wanted.input)
        items = each(tokens, lambda ids: _item(ids, tokenizer, limit, truncate=wanted.truncate), "input", lone=lone)
        return Prepared(items, None)

    def _prepare_texts(self, wanted: EmbeddingRequest, tokenizer: Tokenizer) -> Prepared:
        payload = {"inputs": wanted.input, "truncate": wanted.truncate}
        try:
            return self._model.task.prepare(payload, tokenizer, self._manifest)
        except InputError as error:
            raise error.renamed("inputs", "input")  # noqa: B904  # it is the very same error

    def _response(self, outputs: Sequence[Outputs], items: Sequence[Item], form: str) -> EmbeddingResponse:
        encode = to_base64 if form == "base64" else to_floats
        data = [EmbeddingData(index, encode(row["sentence_embedding"])) for index, row in enumerate(outputs)]
        total = count_tokens(items)
        return EmbeddingResponse(data, self._manifest.model.id, Usage(total, total))


def to_base64(vector: FloatArray) -> str:
    """A vector as base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def to_floats(vector: FloatArray) -> list[float]:
    """A vector as numbers."""
    floats: list[float] = vector.tolist()
    return floats


def _item(ids: Tokens, tokenizer: Tokenizer, limit: int, *, truncate: bool) -> Item:
    if not ids:
        raise InputError("a list of token ids is empty - at `$.input`")
    if len(ids) > limit and not truncate:
        raise TooLongError(len(ids), limit)
    kept = ids[:limit]
    check_vocabulary(kept, tokenizer, "input")
    return Item(tuple(kept), (0,) * len(kept))
