"""Shared by the container tests: the engine, the images that several files look at. No engine is a failure."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from images import config, engines
from images.build import Built
from images.engine import Served
from images.inside import compare
from images.inside.records import REFERENCE
from tests.containers.yard import Yard, extract, project, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("container")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let what tests start be interrupted: a shell's job in the background ignores SIGINT, and so would all of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """What the tests build with; what they built is removed at the end."""
    settings = config.load()
    made = Yard(
        engine=engines.require(settings),
        config=settings,
        folder=tmp_path_factory.mktemp("yard"),
        name=uuid.uuid4().hex[:8],
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project for tests of its commands."""
    return project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def minilm(yard: Yard) -> Built:
    """The bundled example, exact."""
    return yard.image("minilm", yard.config.example.model)


@pytest.fixture(scope="session")
def minilm_int8(yard: Yard) -> Built:
    """The bundled example, quantised."""
    return yard.image("minilm-int8", yard.config.example.model, mode="int8")


@pytest.fixture(scope="session")
def artifact(yard: Yard, minilm: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exact example's artifact, out of its image."""
    return extract(yard.engine, minilm.record.reference, tmp_path_factory.mktemp("minilm"))


@pytest.fixture(scope="session")
def reference(artifact: Path) -> compare.Reference:
    """What the original MiniLM says."""
    return compare.load(artifact / REFERENCE)


@pytest.fixture(scope="session")
def served(yard: Yard, minilm: Built) -> Iterator[Served]:
    """The exact example, ready."""
    with serving(yard.engine, minilm.record.reference) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """Plain HTTP to the exact example."""
    with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as http:
        yield http
