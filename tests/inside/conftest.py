"""A served text generator for the tests of every route; a module that serves something else has fixtures of its own."""

from collections.abc import Iterator

import openai
import pytest

from tests.inside import texting


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server's address."""
    with texting.served() as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client of it."""
    with texting.connected(url) as made:
        yield made
