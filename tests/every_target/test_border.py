"""The two worlds, and the doors of each: who may import what, start programs, ask a hub, name a target."""

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import spec
from images.config import ROOT

INSIDE = sorted((ROOT / "images/inside").rglob("*.py"))
OF_TARGETS = sorted((ROOT / "targets").glob("*/*.py"))
COMMANDS = sorted((ROOT / "images" / "commands").glob("*.py"))
HOST = sorted([ROOT / "tasks.py", *COMMANDS, *(ROOT / "images").glob("*.py")])
PYTHON = [*INSIDE, *OF_TARGETS, *HOST]
STARTS = re.compile(r"(subprocess|multiprocessing|pty)(\.|$)|os\.(exec|fork|popen|posix_spawn|spawn|startfile|system)")
DOORS = {
    "images/__main__.py": "makes the environment that all else runs in",
    "images/base.py": "mmdebstrap",
    "images/cluster.py": "kubectl",
    "images/engine.py": "the container engine",
    "images/engines.py": "a container engine of our own",
    "images/pip.py": "pip",
    "images/revision.py": "git",
    "images/sbom.py": "syft",
    "images/setup.py": "apt-get",
    "images/inside/bench.py": "the server that it measures",
    "images/inside/engine/process.py": "the engine that answers behind the server",
}
"""Modules that start programs, and which. A target's own may start its exporter and its runtime."""


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=name)


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), name(file))


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """The dotted names that a file imports, wherever in it."""
    return frozenset(itertools.chain.from_iterable(map(_imported, ast.walk(tree(file)))))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(file: Path) -> set[str]:
    """The dotted names that are read in a file, such as `os.execv`."""
    return {ast.unparse(node) for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute)}


def under(file: Path, package: str) -> set[str]:
    return {found for found in imports(file) if f"{found}.".startswith(f"{package}.")}


def importers(package: str) -> set[str]:
    return {name(file) for file in PYTHON if under(file, package)}


def test_the_border_has_two_sides() -> None:
    assert INSIDE
    assert OF_TARGETS
    assert HOST


@each([*INSIDE, *OF_TARGETS])
def test_what_runs_in_an_image_imports_nothing_of_the_host(file: Path) -> None:
    assert under(file, "images") <= under(file, "images.inside")


@each(OF_TARGETS)
def test_a_target_imports_no_other_target(file: Path) -> None:
    assert under(file, "targets") <= under(file, f"targets.{file.parent.name}")


@each([*HOST, *INSIDE])
def test_targets_are_imported_by_their_name_at_run_time_only(file: Path) -> None:
    assert not under(file, "targets")


@each(HOST)
def test_the_host_does_not_load_what_only_images_have(file: Path) -> None:
    heavy = ("torch", "transformers", "optimum", "onnx", "onnxruntime", "tokenizers", "starlette", "uvicorn")
    assert not [found for package in heavy for found in under(file, package)]


def test_programs_are_started_behind_these_doors_only() -> None:
    starting = {name(file) for file in [*HOST, *INSIDE] if any(map(STARTS.match, imports(file) | called(file)))}
    assert starting == set(DOORS)


def test_one_module_asks_a_hub() -> None:
    assert importers("huggingface_hub") == {"images/hub.py"}


def test_one_module_talks_to_a_registry() -> None:
    # The hub's only reads errors, and in images an engine is asked over the loopback.
    assert importers("httpx2") == {"images/hub.py", "images/registry.py", "images/inside/engine/client.py"}


def test_one_module_reads_logins() -> None:
    assert importers("docker") == {"images/credentials.py"}


def test_templates_are_rendered_in_one_place() -> None:
    assert importers("jinja2") & set(map(name, HOST)) == {"images/render.py"}


def test_only_the_commands_know_invoke() -> None:
    assert importers("invoke") <= {name(file) for file in COMMANDS}


def test_nothing_is_unpickled() -> None:
    assert not set().union(*map(importers, ("pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve")))


def test_nothing_that_is_read_is_run() -> None:
    calls = [node for file in PYTHON for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    assert not [
        node for node in calls if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile"}
    ]


# Names of targets

MAY_NAME = ("targets/", "tests/", ".github/", "README.md", "LICENSE")
"""Prose for people, tests that start from a real target, and the targets themselves."""
KINDS = {".py", ".j2", ".toml", ".html", ".lock", ""}


def everything_else() -> list[Path]:
    """The project's own files where a target's name would be a special case."""
    top = [path for path in ROOT.iterdir() if path.is_file()]
    deep = [path for folder in ("images", "templates", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [file for file in [*top, *deep] if file.suffix in KINDS and not name(file).startswith(MAY_NAME)]


@pytest.mark.parametrize("target", spec.names())
def test_no_file_but_its_own_names_a_target(target: str) -> None:
    spelled = re.compile(rf"(?<!\.)\b{target.replace('-', '[-_]')}\b")  # behind a dot it is a kind of file
    assert not [name(file) for file in everything_else() if spelled.search(file.read_text())]


def test_the_search_for_names_reads_the_right_files() -> None:
    searched = set(map(name, everything_else()))
    assert {"tasks.py", "pyproject.toml", "images/build.py", "images/inside/smoke.py", ".ci/run"} <= searched
    assert "templates/base.Dockerfile.j2" in searched
