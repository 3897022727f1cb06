import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from images.inside import docs, suite, tasks
from images.inside.docs import openapi
from images.inside.server import compose
from images.inside.settings import Settings
from tests.inside import texting
from tests.inside.serving import manifest, served


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(api_key="right") as address:
        yield address


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return answer


@pytest.fixture(scope="module")
def page(url: str) -> str:
    return httpx.get(f"{url}/docs").text


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, facts) for path, item in document["paths"].items() for method, facts in item.items()]


def values(part: Any, key: str) -> Iterator[Any]:
    """Every value of a key, however deep."""
    if isinstance(part, dict):
        yield from ([part[key]] if key in part else [])
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from values(inner, key)


def test_every_route_is_described(document: dict[str, Any]) -> None:
    served_routes = {
        (route.path.replace(":path", ""), route.method.lower()) for route in compose(manifest(), Settings()).routes
    }

    assert {(path, method) for path, method, _ in operations(document)} == served_routes


def test_the_document_has_what_openapi_requires(document: dict[str, Any]) -> None:
    assert (document["openapi"][:3], set(document["info"]) >= {"title", "version"}) == ("3.1", True)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in values(document, "$ref")}

    assert names <= set(document["components"]["schemas"])


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [facts["operationId"] for _, _, facts in operations(document)]

    assert len(set(names)) == len(names)


def test_path_parameters_are_those_of_the_path(document: dict[str, Any]) -> None:
    for path, _, facts in operations(document):
        assert [parameter["name"] for parameter in facts["parameters"]] == re.findall(r"{(\w+)}", path)


def test_every_answer_is_described(document: dict[str, Any]) -> None:
    for _, _, facts in operations(document):
        assert all(answer["description"] and answer["content"] for answer in facts["responses"].values())


def test_fields_have_the_descriptions_of_their_docstrings(document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["EmbeddingRequest"]["properties"]

    assert all(facts["description"] for facts in fields.values())


def test_open_routes_need_no_key(document: dict[str, Any]) -> None:
    opened = {path for path, _, facts in operations(document) if not facts["security"]}

    assert {path for path in opened if not re.search("health|ready", path)} == {"/metrics", "/openapi.json", "/docs"}


@pytest.fixture(scope="module")
def generating() -> dict[str, Any]:
    facts = texting.manifest()
    return openapi(compose(facts, Settings()).routes, facts, secured=False)


def test_fields_of_requests_for_text_have_descriptions(generating: dict[str, Any]) -> None:
    schemas = generating["components"]["schemas"]
    requests = [schemas[name]["properties"] for name in ("ChatRequest", "CompletionRequest", "ResponseRequest")]

    assert all(facts["description"] for fields in requests for facts in fields.values())


def test_every_reference_of_the_routes_that_generate_leads_somewhere(generating: dict[str, Any]) -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in values(generating, "$ref")}

    assert names <= set(generating["components"]["schemas"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_streamed_answer_is_described_beside_the_whole(generating: dict[str, Any], path: str) -> None:
    content = generating["paths"][path]["post"]["responses"]["200"]["content"]

    assert set(content) == {"application/json", "text/event-stream"}


def test_the_page_shows_events_of_streamed_answers(generating: dict[str, Any]) -> None:
    shown = Tags()
    shown.feed(text := docs.page(generating))

    assert (text.count("<summary>Event of a streamed response</summary>"), shown.stack) == (3, [])


@pytest.mark.parametrize("task", tasks.NAMES)
def test_the_document_describes_the_payload_of_the_task(task: str) -> None:
    facts = manifest(task=task, embedding=None, mask_token=suite.MASK)
    described = openapi(compose(facts, Settings()).routes, facts, secured=False)
    body = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]

    assert (set(body["example"]) >= {"inputs"}, body["schema"]["$ref"].endswith("Payload")) == (True, True)


class Tags(HTMLParser):
    """Tags that are open, and addresses that a browser would fetch."""

    VOID = ("meta", "link", "wbr", "br")

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.stack.append(tag)
        if tag != "a":
            self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_page_is_well_formed(page: str) -> None:
    tags = Tags()
    tags.feed(page)

    assert tags.stack == []


def test_the_page_fetches_nothing(page: str) -> None:
    tags = Tags()
    tags.feed(page)

    assert (tags.fetched, "@import" in page, "url(" in page) == (["data:,"], False, False)


def test_the_page_has_a_command_for_every_operation(page: str, document: dict[str, Any]) -> None:
    assert page.count("<pre>curl ") == len(operations(document))


def test_the_page_shows_no_template_left_open(page: str) -> None:
    assert not re.search(r"\$(title|about|key|contents|sections)", page)
