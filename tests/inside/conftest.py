"""What several tests of in-image code start from; a module that serves something else has fixtures of its own."""

import logging
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


@pytest.fixture
def _logging_kept() -> Iterator[None]:
    """Put back what `serve` sets for its whole process."""
    root, own = logging.root, logging.getLogger("modelyard")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before
