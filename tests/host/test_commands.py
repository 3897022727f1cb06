"""All commands as Invoke runs them: exit codes, messages, no traceback."""

import copy
import os
import signal
import sys

import pytest
from invoke.tasks import Task

import tasks
from images import build, spec
from images.commands import common
from images.errors import INTERRUPTED, ImageError
from tests.host.invoking import TARGET, Invoke, raising

KINDS = [ImageError, *ImageError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_is_one_message_and_its_exit_code(
    kind: type[ImageError], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", raising(kind("what happened", "what to do")))
    assert invoke("build", "--target", TARGET) == (kind.exit_code, "", "error: what happened\n  -> what to do\n")


def test_an_interrupted_command_says_so_and_has_the_shells_exit_code(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", raising(KeyboardInterrupt()))
    assert invoke("build", "--target", TARGET) == (
        INTERRUPTED,
        "",
        "interrupted: what was half-made is removed\n",
    )


def test_sigterm_unwinds_as_ctrl_c_does(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert invoke("build", "--target", TARGET)[0] == INTERRUPTED


def test_output_that_nobody_reads_on_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(SystemExit) as ended:
            common.readable(lambda: print("much " * 100_000))()
    assert ended.value.code == common.UNREAD


def test_another_broken_pipe_is_one() -> None:
    with pytest.raises(BrokenPipeError):
        common.readable(raising(BrokenPipeError()))()


@pytest.mark.parametrize("command", ["build", "smoke", "run", "bench", "lock", "render"])
def test_an_unknown_target_is_a_usage_error_that_lists_them(command: str, invoke: Invoke) -> None:
    code, out, err = invoke(command, "--target", "nope")
    assert (code, out) == (2, "")
    assert err == f"error: there is no target 'nope'\n  -> the targets are: {', '.join(spec.names())}\n"


# Invoke takes the help out of a command when it reads it, so these are copied before it does.
COMMANDS = {name: copy.copy(each) for name, each in vars(tasks).items() if isinstance(each, Task)}
for _command in COMMANDS.values():
    _command.help = dict(_command.help)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    assert str(COMMANDS[name].__doc__).strip().endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    assert all(argument.help for argument in COMMANDS[name].get_arguments())


@pytest.mark.parametrize("name", COMMANDS)
def test_options_have_long_names_only(name: str) -> None:
    assert all(len(option) > 1 for argument in COMMANDS[name].get_arguments() for option in argument.names)


@pytest.mark.parametrize(
    "wrong", [("build", "--max-length", "long"), ("manifests", "--replicas", "1.5"), ("deploy", "--replicas", "two")]
)
def test_a_number_that_is_none_is_a_usage_error_and_no_traceback(wrong: tuple[str, str, str], invoke: Invoke) -> None:
    code, _, err = invoke(*wrong)
    assert (code, err.splitlines()[0]) == (2, f"error: {wrong[1]} {wrong[2]!r} is no whole number")
