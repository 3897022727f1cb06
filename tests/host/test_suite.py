from pathlib import Path

import pytest

from images import suite
from images.errors import UsageError
from images.spec import Option


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        suite.read(file)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.jsonl"


@pytest.mark.parametrize(
    "content",
    [
        b'{"inputs": "a"}\n',
        b'{"inputs": "a"}',
        b'\n{"inputs": ["a", "b"]}\r\n  \n{"inputs": {"question": "a", "context": "b"}, "parameters": {}}\n',
        '{"inputs": "東京\u2028\x85"}\n'.encode(),
    ],
)
def test_a_suite_comes_back_as_it_is(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert suite.read(file) == content


@pytest.mark.parametrize("line", [b"{", b"inputs: a", b'{"inputs": "\xff"}', b"{'inputs': 'a'}"])
def test_a_line_that_is_not_json_is_named_by_its_number(line: bytes, file: Path) -> None:
    file.write_bytes(b'{"inputs": "a"}\n\n' + line + b"\n")
    assert refused(file).startswith(f"{file}, line 3 is not JSON: ")


@pytest.mark.parametrize("line", ["[]", '"a"', "1", "null"])
def test_a_line_that_is_no_request_is_named_by_its_number(line: str, file: Path) -> None:
    file.write_text(f'{{"inputs": "a"}}\n{line}\n')
    assert refused(file).startswith(f"{file}, line 2: a JSON object was expected")


# Named by a target's own flags


OPTIONS = {"texts": Option(summary="texts", requests=True), "length": Option(summary="a length")}


def test_the_file_of_a_flag_is_read_and_other_flags_are_left_alone(file: Path) -> None:
    file.write_bytes(b'{"inputs": "a"}\n')
    assert suite.named(OPTIONS, {"texts": str(file), "length": "8"}) == {"texts": b'{"inputs": "a"}\n'}


def test_flags_that_were_not_given_name_no_file() -> None:
    assert suite.named(OPTIONS, {}) == {}


def test_a_missing_file_is_refused_by_its_flag(file: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--texts {file} cannot be read: .*\n  -> give --texts a file"):
        suite.named(OPTIONS, {"texts": str(file)})


# Held against the task, once that is known


@pytest.mark.parametrize("content", [b"", b'{"inputs": "a"}\n', b'\n{"inputs": ["a", "b"]}\n'])
def test_a_suite_of_the_task_or_none_is_taken(content: bytes) -> None:
    suite.require(content, "text-classification")


def test_a_line_that_is_no_request_of_the_task_is_named_by_its_number() -> None:
    with pytest.raises(UsageError, match=r"^--suite, line 2: .*\(the task is question-answering\)"):
        suite.require(b'{"inputs": {"question": "a", "context": "b"}}\n{"inputs": "a"}\n', "question-answering")


@pytest.mark.parametrize("line", [b"{}", b'{"input": "a"}'])
def test_an_object_that_is_no_request_is_named_by_its_number(line: bytes) -> None:
    with pytest.raises(UsageError, match=r"^--suite, line 2: "):
        suite.require(b'{"inputs": "a"}\n' + line, "text-classification")


def test_prompts_and_conversations_are_requests_of_a_model_that_generates() -> None:
    suite.require(b'{"prompt": "a"}\n{"messages": [{"role": "user", "content": "a"}]}\n', "text-generation")


# Files that are none


@pytest.mark.parametrize("content", ["", "\n", " \n\t\n"])
def test_an_empty_suite_is_refused_and_not_left_out(content: str, file: Path) -> None:
    file.write_text(content)
    assert refused(file).startswith(f"--suite {file} is empty")


def test_a_missing_suite_is_refused_with_the_reason(file: Path) -> None:
    assert refused(file).startswith(f"--suite {file} cannot be read: No such file or directory")


def test_a_folder_is_no_suite(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in refused(tmp_path)


def test_a_line_that_the_task_does_not_take_is_named_by_its_number() -> None:
    with pytest.raises(UsageError, match=r"^--suite, line 2: .*\(the task is text-classification\)"):
        suite.require(b'{"inputs": "a"}\n{"inputs": 5}\n', "text-classification")


@pytest.mark.parametrize("content", [b"", b'{"inputs": "a"}\n'])
def test_a_suite_that_the_task_takes_is_accepted(content: bytes) -> None:
    suite.require(content, "text-classification")
