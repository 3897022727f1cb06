"""What the routes of OpenAI's API share: errors, the model's name, how a request is read."""

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from images.inside.errors import InputError
from images.inside.records import Manifest
from images.inside.service import Service
from images.inside.web import Api, ApiError, decode

T = TypeVar("T")


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


def error_body(error: ApiError) -> ErrorResponse:
    """An error in OpenAI's shape."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")  # noqa: PLR2004
    return ErrorResponse(ErrorDetail(error.message, kind, error.param, error.code))


API = Api("OpenAI", "For clients of OpenAI's API; the base URL ends in `/v1`.", error_body, ErrorResponse)
STRICT = API._replace(invalid=400)
"""As OpenAI answers; embeddings tell a wrong form (422) from what is not JSON (400)."""


class Unsupported(NamedTuple):
    """A field of the API that cannot be honoured here.

    Attributes:
        why: why not, and what to do instead.
        neutral: values that ask for nothing, and so are taken.

    """

    why: str
    neutral: tuple[Any, ...] = ()


class Head(NamedTuple):
    """What identifies one answer."""

    id: str
    created: int
    model: str
    fingerprint: str


def head(prefix: str, manifest: Manifest) -> Head:
    """A new answer's identity."""
    return Head(new_id(prefix), int(time.time()), manifest.model.id, fingerprint(manifest))


def new_id(prefix: str) -> str:
    """A name that no other object has."""
    return prefix + os.urandom(16).hex()


def fingerprint(manifest: Manifest) -> str:
    """Names what decides an answer beside the request: as long as it stays, the same seed gives the same text."""
    facts = (manifest.model.digest, manifest.target, manifest.mode, manifest.recipe, manifest.packages)
    return "fp_" + hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:10]


def check_model(service: Service, model: str, param: str = "model") -> None:
    """Raise a 404 `ApiError` for the name of another model."""
    if model not in service.names:
        message = f"the model {model!r} is not served here; {service.manifest.model.id!r} is"
        raise ApiError(404, message, code="model_not_found", param=param)


def read(body: bytes, kind: type[T], unsupported: Mapping[str, Unsupported], entries: str = "") -> T:
    """A request as a struct. Null asks for the default, as clients send it for what their caller left out.

    Args:
        body: JSON.
        kind: the request's type.
        unsupported: fields that are refused by name.
        entries: the field that holds a list of objects, whose nulls mean the same.

    Raises:
        ApiError: with status 400, for a field that is unknown or unsupported.
        InputError: for a value of another form.

    """
    given = fields(body)
    for name in given.keys() & unsupported.keys():
        if given.pop(name) not in unsupported[name].neutral:
            raise refusal(name, unsupported[name].why)
    known = {field.encode_name for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in given if name not in known]:
        message = f"unknown: {', '.join(unknown)}; /docs has the fields that are known"
        raise ApiError(400, message, code="unknown_parameter", param=unknown[0])
    if isinstance(found := given.get(entries), list):
        given[entries] = [_without_nulls(entry) if isinstance(entry, dict) else entry for entry in found]
    return typed(given, kind)


def fields(body: bytes) -> dict[str, Any]:
    """A request's fields but for those that are null. Raises as `decode` does."""
    return _without_nulls(decode(body, dict[str, Any]))


def typed(given: Mapping[str, Any], kind: type[T]) -> T:
    """Fields as a struct. Raises `InputError` for a value of another form."""
    try:
        return msgspec.convert(given, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from error


def refusal(param: str, why: str, code: str = "unsupported_parameter") -> ApiError:
    """The error for what is not supported."""
    return ApiError(400, f"{param}: {why}", code=code, param=param)


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
