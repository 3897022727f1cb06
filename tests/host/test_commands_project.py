"""The commands of the project itself: its checks, and what is rendered."""

import re
import sys
from typing import Any

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit
from invoke.runners import Result

import tasks
from images.config import ROOT
from tests.host.invoking import Invoke


def test_renders_that_are_current_are_left_alone(invoke: Invoke) -> None:
    assert invoke("render", "--check") == (0, "", "")


def test_the_first_tool_that_fails_ends_the_check_with_its_exit_code() -> None:
    context = MockContext(run={re.compile(".*mypy"): Result(exited=3), re.compile(".*"): Result(exited=0)}, repeat=True)
    with pytest.raises(Exit) as caught:
        tasks.check(context)
    assert (caught.value.code, caught.value.message) == (3, "error: `mypy` failed")


def test_tools_are_those_of_this_very_environment(capsys: pytest.CaptureFixture[str]) -> None:
    context = MockContext(run=True, repeat=True)
    tasks.check(context)
    runner: Any = context.run
    ran = [call.args[0] for call in runner.call_args_list]
    assert all(command.startswith(f"{sys.executable} -m ") for command in ran)
    assert capsys.readouterr().out.startswith("$ ruff check .\n")


def test_no_folder_of_unit_tests_is_left_out_of_the_check() -> None:
    context = MockContext(run=True, repeat=True)
    tasks.check(context)
    runner: Any = context.run
    ran = runner.call_args_list[-1].args[0].split()
    folders = {f"tests/{file.parent.name}" for file in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - set(ran) == {"tests/containers", "tests/cluster"}
