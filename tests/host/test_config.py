import re
from pathlib import Path

import pytest

from images import config
from images.errors import UsageError

PROJECT = """
[tool.modelyard]
extra_index_url = "https://extra.example/simple"
builder_base = ""
runtime_base = ""
[tool.modelyard.examples]
first.model = "pypi:first==1"
second.model = "./second"
[tool.modelyard.bootstrap]
suite = "bookworm"
python = "3.11"
builder_packages = ["python3"]
runtime_packages = ["libc6"]
runtime_drop = []
"""
BASE = f"reg.example/base@sha256:{'0' * 64}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def refused(root: Path, **environment: str) -> str:
    with pytest.raises(UsageError) as caught:
        config.load(environment, root)
    return str(caught.value)


def test_the_projects_own_configuration_is_valid() -> None:
    assert config.load({}).bootstrap.suite


def test_lists_become_tuples(root: Path) -> None:
    assert config.load({}, root).bootstrap.runtime_packages == ("libc6",)


@pytest.mark.parametrize("key", ["extra_index_url", "builder_base", "runtime_base"])
def test_a_variable_overrides_a_key(key: str, root: Path) -> None:
    assert getattr(config.load({f"MODELYARD_{key.upper()}": BASE}, root), key) == BASE


def test_an_empty_variable_switches_a_key_off(root: Path) -> None:
    assert config.load({"MODELYARD_EXTRA_INDEX_URL": ""}, root).extra_index_url == ""


def test_the_cache_is_where_the_variable_says(root: Path) -> None:
    assert config.load({"MODELYARD_CACHE": "/big/disk"}, root).cache == Path("/big/disk")


@pytest.mark.parametrize("environment", [{}, {"MODELYARD_CACHE": ""}])
def test_else_the_cache_is_where_the_system_keeps_caches(environment: dict[str, str], root: Path) -> None:
    assert config.load(environment, root).cache.name == "modelyard"


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("", "pypi:first==1"),
        ("example:first", "pypi:first==1"),
        ("example:second", "./second"),
        ("org/example", "org/example"),
    ],
)
def test_a_model_is_an_example_by_name_or_itself(text: str, model: str, root: Path) -> None:
    assert config.load({}, root).model(text) == model


@pytest.mark.parametrize("name", ["third", "", "First", "first "])
def test_an_example_that_there_is_not_is_told_which_there_are(name: str, root: Path) -> None:
    with pytest.raises(UsageError) as caught:
        config.load({}, root).model(f"example:{name}")
    assert caught.value.what == f"there is no example {name!r}"
    assert caught.value.hint == "the examples are: example:first, example:second"


def test_a_project_without_examples_is_refused(root: Path) -> None:
    (root / "pyproject.toml").write_text(re.sub("first.model.*\nsecond.*\n", "", PROJECT))
    assert "length >= 1 - at `$.examples`" in refused(root)


@pytest.mark.parametrize("base", ["debian:12", "debian", "debian@sha512:0"])
def test_a_base_that_can_move_is_refused(base: str, root: Path) -> None:
    said = refused(root, MODELYARD_RUNTIME_BASE=base)
    assert f"runtime_base is {base!r}: a base image is named by digest" in said
    assert "MODELYARD_RUNTIME_BASE" in said


def test_an_unknown_key_is_named(root: Path) -> None:
    (root / "pyproject.toml").write_text(PROJECT + "sources = []\n")
    assert "unknown field `sources` - at `$.bootstrap`" in refused(root)


def test_a_missing_key_is_named(root: Path) -> None:
    (root / "pyproject.toml").write_text(PROJECT.replace('suite = "bookworm"\n', ""))
    assert "missing required field `suite`" in refused(root)
