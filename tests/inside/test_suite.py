from pathlib import Path

import pytest

from images.inside import suite, tasks
from images.inside.errors import InputError
from images.inside.text import Tokenizer
from tests.inside import tiny

FACTS = tiny.manifest(max_length=512, **tiny.BYTE_TOKENS)
TASK = tasks.load("text-classification")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.bytelevel(), FACTS)


@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_task_has_eight_inputs_with_names_of_their_own(name: str) -> None:
    assert len({case for case, _ in tasks.load(name).suite("<mask>")}) == 8


@pytest.mark.parametrize("name", tasks.TEXTS)
def test_every_task_takes_its_own_suite(name: str, tokenizer: Tokenizer) -> None:
    task = tasks.load(name)
    for case, payload in task.suite("<mask>"):
        items = task.prepare(payload, tokenizer, FACTS).items
        assert items, case
        assert max(len(item.ids) for item in items) <= 512


def test_no_mask_of_the_suite_is_cut_off_where_a_model_takes_few_tokens(tmp_path: Path) -> None:
    facts = tiny.manifest(max_length=128, **tiny.BYTE_TOKENS)
    tokenizer, task = tiny.load(tmp_path, tiny.bytelevel(), facts), tasks.load("fill-mask")
    prepared = [task.prepare(payload, tokenizer, facts) for _, payload in task.suite("<mask>")]
    assert max(len(item.ids) for found in prepared for item in found.items) == 128


@pytest.mark.parametrize("name", tasks.TEXTS)
def test_every_suite_has_a_batch_of_unequal_lengths(name: str, tokenizer: Tokenizer) -> None:
    task = tasks.load(name)
    items = task.prepare(dict(task.suite("<mask>"))["padding"], tokenizer, FACTS).items
    assert len({len(item.ids) for item in items}) > 1


def test_the_long_text_is_longer_than_most_models_take() -> None:
    assert len(suite.LONG.split()) > 512


def test_an_unknown_task_is_named_beside_the_known() -> None:
    with pytest.raises(LookupError, match="no task 'sorting'; the tasks are feature-extraction, fill-mask"):
        tasks.load("sorting")


def test_inputs_of_a_suite_file_are_named_by_their_line() -> None:
    content = b'{"inputs": "a"}\n\n  \r\n{"inputs": ["b"], "parameters": {"top_k": 1}}\n'
    assert suite.read(content, TASK) == [
        ("line-1", {"inputs": "a"}),
        ("line-4", {"inputs": ["b"], "parameters": {"top_k": 1}}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"inputs": "a"', "Input data was truncated"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"text": "a"}', "unknown field `text`"),
        (b'{"inputs": "a", "parameters": {"top_k": "b"}}', r"got `str` - at `\$.parameters.top_k`"),
        (b'{"inputs": "\xff"}', "utf-8"),
    ],
)
def test_a_broken_line_is_named_by_its_number(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^line 2: .*{message}"):
        suite.read(b'{"inputs": "a"}\n' + line, TASK)


def test_an_empty_suite_file_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        suite.read(b"\n \n", TASK)
