"""The API's description, made from the routes themselves: `/openapi.json`, and `/docs` as one page.

The page fetches nothing: it can be read where there is no network.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from images.inside.events import MEDIA_TYPE
from images.inside.records import Manifest
from images.inside.web import Api, Route

JSON = "application/json"
PAGE = Path(__file__).with_suffix(".html")
Schema = dict[str, Any]
_PARAMETER = re.compile(r"{(\w+)(:path)?}")
_REF = "#/components/schemas/"


def openapi(routes: Sequence[Route], manifest: Manifest, *, secured: bool) -> Schema:
    """The OpenAPI 3.1 document of some routes.

    Args:
        routes: what is served.
        manifest: the artifact's.
        secured: whether an API key is set.

    """
    schemas, components = _schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route, schemas, secured=secured)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": manifest.model.id,
            "version": manifest.model.revision or "1",
            "description": _about(manifest),
        },
        "tags": [{"name": api.title, "description": api.about} for api in _apis(routes)],
        "paths": paths,
        "components": {"schemas": components} | (_SECURITY if secured else {}),
    }


def page(document: Schema) -> str:
    """The document as an HTML page."""
    sections = "".join(_section(tag, document) for tag in document["tags"])
    contents = "".join(_contents(tag, document) for tag in document["tags"])
    info = document["info"]
    secured = "securitySchemes" in document["components"]
    key = "Closed routes need the API key." if secured else "No API key is set: all routes are open."
    return Template(PAGE.read_text()).substitute(
        title=_text(info["title"]), about=_text(info["description"]), key=key, contents=contents, sections=sections
    )


_SECURITY = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}


def _about(manifest: Manifest) -> str:
    facts = [manifest.task, f"target {manifest.target}", f"quantisation {manifest.mode}"]
    if manifest.embedding:
        facts.append(f"{manifest.embedding.dimension} dimensions")
    if manifest.generation:
        return " · ".join([*facts, f"{manifest.generation.context} tokens of context"])
    if manifest.image:
        return " · ".join([*facts, f"images of {manifest.image.width} x {manifest.image.height} pixels"])
    return " · ".join([*facts, f"up to {manifest.max_length} tokens an input"])


def _apis(routes: Iterable[Route]) -> list[Api]:
    return list({route.api.title: route.api for route in routes}.values())


def _schemas(routes: Sequence[Route]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """The schema of each type that a route takes or gives, and the components that they refer to."""
    types = [kind for route in routes for kind in (route.request, route.response, route.event, route.api.error_type)]
    used = [kind for kind in types if kind is not None and not isinstance(kind, str)]
    found, components = msgspec.json.schema_components(used, ref_template=_REF + "{name}")
    return dict(zip(map(repr, used), found, strict=True)), {
        name: _documented(part) for name, part in components.items()
    }


def _documented(schema: Schema) -> Schema:
    """A schema whose docstring's `Attributes:` have become its properties' descriptions."""
    summary, _, attributes = schema.get("description", "").partition("Attributes:")
    found = dict(re.findall(r"^\s*(\w+): (.+?)(?=^\s*\w+: |\Z)", attributes, re.MULTILINE | re.DOTALL))
    for name, property_ in schema.get("properties", {}).items():
        if name in found:
            property_.setdefault("description", " ".join(found[name].split()))
    return schema | {"description": " ".join(summary.split())} if summary else schema


def _path(route: Route) -> str:
    return _PARAMETER.sub(r"{\1}", route.path)


def _operation(route: Route, schemas: Mapping[Any, Schema], *, secured: bool) -> Schema:
    operation: Schema = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", _path(route))]),
        "tags": [route.api.title],
        "summary": route.summary,
        "parameters": [_parameter(name, route) for name, _ in _PARAMETER.findall(route.path)],
        "responses": _responses(route, schemas, secured=secured),
        "security": [{"key": []}] if secured and not route.open else [],
    }
    if route.request:
        content = {JSON: {"schema": schemas[repr(route.request)], "example": _body(route)}}
        if route.raw:
            content[route.raw] = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(name: str, route: Route) -> Schema:
    schema = {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": route.example.get(name, name)}


def _body(route: Route) -> Schema:
    named = {name for name, _ in _PARAMETER.findall(route.path)}
    return {name: value for name, value in route.example.items() if name not in named}


def _responses(route: Route, schemas: Mapping[Any, Schema], *, secured: bool) -> Schema:
    media, schema = JSON, schemas.get(repr(route.response), {})
    if isinstance(route.response, str):
        media, schema = route.response, {"type": "string"}
    answers: Schema = {"200": {"description": "OK", "content": {media: {"schema": schema}}}}
    if route.event is not None:
        answers["200"]["content"][MEDIA_TYPE] = {"schema": schemas[repr(route.event)]}
    failed = {"content": {JSON: {"schema": schemas[repr(route.api.error_type)]}}}
    for status in route.errors:
        if secured or status != HTTPStatus.UNAUTHORIZED:
            answers[str(status)] = {"description": HTTPStatus(status).phrase} | failed
    return answers


def _operations(tag: Schema, document: Schema) -> list[tuple[str, str, Schema]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == [tag["name"]]
    ]


def _contents(tag: Schema, document: Schema) -> str:
    links = "".join(
        f'<a href="#{operation["operationId"]}"><b class="{method}">{method.upper()}</b>{_breakable(path)}</a>'
        for path, method, operation in _operations(tag, document)
    )
    return f"<h2>{_text(tag['name'])}</h2>{links}"


def _section(tag: Schema, document: Schema) -> str:
    cards = "".join(_card(*operation, document) for operation in _operations(tag, document))
    return f"<section><h2>{_text(tag['name'])}</h2><p>{_code(tag['description'])}</p>{cards}</section>"


def _card(path: str, method: str, operation: Schema, document: Schema) -> str:
    parts = [
        f'<article id="{operation["operationId"]}"><h3><b class="{method}">{method.upper()}</b>',
        f"<span>{_breakable(path)}</span>",
        '<i title="needs the API key">key</i>' if operation["security"] else "",
        f"</h3><p>{_text(operation['summary'])}</p>",
        _command(path, method, operation),
        _shapes(operation, document),
        _errors(operation),
        "</article>",
    ]
    return "".join(parts)


def _command(path: str, method: str, operation: Schema) -> str:
    for parameter in operation["parameters"]:
        path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    lines = [f"curl http://localhost:8080{path}"]
    if operation["security"]:
        lines.append('-H "Authorization: Bearer $MODELYARD_API_KEY"')
    if method == "post":
        body = json.dumps(_example(operation), ensure_ascii=False, indent=2).replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{body}'"]
    command = " \\\n  ".join(lines)
    return _copied(command) + _raw_command(path, operation)


def _raw_command(path: str, operation: Schema) -> str:
    """How a file is sent as it is, where the route takes one."""
    if not any(media != JSON for media in operation.get("requestBody", {}).get("content", {})):
        return ""
    key = ' \\\n  -H "Authorization: Bearer $MODELYARD_API_KEY"' if operation["security"] else ""
    file = f"curl http://localhost:8080{path}{key} \\\n  -H 'Content-Type: image/jpeg' --data-binary @picture.jpg"
    return f"<p>Or a file as it is:</p>{_copied(file)}"


def _copied(command: str) -> str:
    return f'<div class="command"><button type="button">Copy</button><pre>{_text(command)}</pre></div>'


def _example(operation: Schema) -> Any:
    return operation["requestBody"]["content"][JSON]["example"]


def _shapes(operation: Schema, document: Schema) -> str:
    asked = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema")
    answers = operation["responses"]["200"]["content"]
    titles = {JSON: "Response", MEDIA_TYPE: "Event of a streamed response"}
    shown = _shape("Request", asked, document) if asked else ""
    return shown + "".join(
        _shape(title, answers[media]["schema"], document) for media, title in titles.items() if media in answers
    )


def _shape(title: str, schema: Schema, document: Schema) -> str:
    """Tables of the fields of a schema and of those that it refers to."""
    names = list(_referred(schema, document["components"]["schemas"]))
    tables = "".join(_table(name, document["components"]["schemas"][name]) for name in names)
    opened = " open" if title == "Request" else ""
    return f"<details{opened}><summary>{title}</summary>{tables or '<p>Any JSON.</p>'}</details>"


def _referred(schema: Any, components: Mapping[str, Schema], seen: tuple[str, ...] = ()) -> dict[str, None]:
    """Names of the components that a schema leads to, itself first, without repetition."""
    found: dict[str, None] = {}
    for name in dict.fromkeys(re.findall(f'"{_REF}(\\w+)"', json.dumps(schema))):
        if name not in seen:
            found |= {name: None} | _referred(components[name], components, (*seen, name))
    return found


def _table(name: str, schema: Schema) -> str:
    required = schema.get("required", [])
    rows = "".join(
        _row(field, facts, needed=field in required) for field, facts in schema.get("properties", {}).items()
    )
    return f"<h4>{_text(name)}</h4><p>{_code(schema.get('description', ''))}</p><table>{rows}</table>"


def _row(field: str, facts: Schema, *, needed: bool) -> str:
    default = f" = {json.dumps(facts['default'])}" if "default" in facts and facts["default"] is not None else ""
    mark = '<em title="required">*</em>' if needed else ""
    about = _code(facts.get("description", ""))
    kind = _text(_kind(facts) + default)
    return f"<tr><td><code>{_text(field)}</code>{mark}</td><td class=kind>{kind}</td><td>{about}</td></tr>"


def _kind(schema: Schema) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_kind(schema.get('items', {}))}]"
    return str(schema.get("type", "any"))


def _errors(operation: Schema) -> str:
    errors = [
        f"<li><code>{status}</code> {answer['description']}</li>" for status, answer in operation["responses"].items()
    ]
    return f'<ul class="answers">{"".join(errors)}</ul>'


def _text(value: str) -> str:
    return html.escape(value)


def _breakable(path: str) -> str:
    """A path that may be broken into lines at its slashes."""
    return _text(path).replace("/", "/<wbr>")


def _code(value: str) -> str:
    """Prose with its `code` marked up."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(value))
