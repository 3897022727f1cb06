"""What the root conftest.py forbids to every unit test."""

import os
import socket
import subprocess
import sys
import threading

import pytest

FORBIDDEN = pytest.fail.Exception


def test_a_unit_test_cannot_start_a_program() -> None:
    with pytest.raises(FORBIDDEN, match="starts a program"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_unit_test_cannot_start_a_shell() -> None:
    with pytest.raises(FORBIDDEN, match="starts a program"):
        os.system("true")  # noqa: S605 - it is refused


@pytest.mark.starts_programs
def test_a_marked_test_can() -> None:
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 80)])
def test_a_unit_test_cannot_reach_another_machine(address: tuple[str, int]) -> None:
    with pytest.raises(FORBIDDEN, match="talks to another machine"):
        socket.create_connection(address, timeout=0.01)


@pytest.mark.starts_programs
def test_a_marked_test_cannot_either() -> None:
    with pytest.raises(FORBIDDEN, match="talks to another machine"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.01)


def test_a_unit_test_can_talk_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_threads_are_held_too() -> None:
    caught: list[BaseException] = []
    thread = threading.Thread(target=_try, args=[caught])
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [FORBIDDEN]


def _try(caught: list[BaseException]) -> None:
    try:
        os.system("true")  # noqa: S605 - it is refused
    except BaseException as error:  # noqa: BLE001 - the outcome is not an Exception
        caught.append(error)
