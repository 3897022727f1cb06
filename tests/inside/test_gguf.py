"""A GGUF file's own fields as a tokenizer. Reading the file and its weights needs libraries of the builder."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from images.inside import gguf, newer, original
from images.inside.gguf import Fields

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ["he", "ll", "hell", "12"]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTES, *WORDS]
NORMAL = 1


def fields(**changes: Any) -> Fields:
    """A small model of SmolLM2's kind."""
    tokenizer = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": TOKENS,
        "token_type": [*[gguf.CONTROL] * 3, *[NORMAL] * (len(TOKENS) - 3)],
        "merges": ["h e", "l l", "he ll", "1 2"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "padding_token_id": 2,
        **changes,
    }
    known = {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items() if value is not None}
    return Fields({"general.architecture": "llama", "llama.context_length": 8192, **known})


def split(text: str, **changes: Any) -> list[str]:
    tokens: list[str] = gguf._bpe(fields(**changes)).encode(text).tokens
    return tokens


def test_the_context_is_the_architectures() -> None:
    assert fields().context == 8192


def test_special_tokens_have_transformers_names() -> None:
    assert fields().special() == {"bos": 1, "eos": 2, "unk": 0, "pad": 2}


def test_special_tokens_that_the_file_does_not_name_are_left_out() -> None:
    assert fields(padding_token_id=None, bos_token_id=None).special() == {"eos": 2, "unk": 0}


def test_text_is_merged_as_the_file_says() -> None:
    assert split("hello") == ["hell", "o"]


def test_digits_stand_alone_where_the_file_says_so() -> None:
    assert split("12") == ["1", "2"]
    assert split("12", pre="gpt-2") == ["12"]


def test_a_space_belongs_to_the_word_behind_it_and_none_is_put_first() -> None:
    assert split("a b") == ["a", "Ġ", "b"]


def test_any_text_comes_back() -> None:
    backend, text = gguf._bpe(fields()), " Zoë 20 € 東京\n🙂"
    assert backend.decode(backend.encode(text).ids) == text


def test_control_tokens_are_tokens_in_text_and_no_text_in_answers() -> None:
    backend = gguf._bpe(fields())
    ids = backend.encode("<|im_start|>he<|im_end|>").ids
    assert ids == [1, TOKENS.index("he"), 2]
    assert backend.decode(ids) == "he"


def test_the_first_token_is_put_before_texts_only_where_the_file_says_so() -> None:
    assert split("he") == ["he"]
    assert split("he", add_bos_token=True) == ["<|im_start|>", "he"]


@pytest.mark.parametrize(("model", "pre"), [("llama", None), ("gpt2", "qwen2"), (None, None)])
def test_a_file_that_splits_text_in_an_unknown_way_is_refused(
    model: str | None, pre: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        split("he", model=model, pre=pre)
    marker, _, told = capsys.readouterr().err.partition(" ")
    assert marker == original.ERROR
    assert repr(pre) in json.loads(told)["what"]
    assert "tokenizer.json" in json.loads(told)["hint"]


def test_the_tokenizer_knows_the_template_the_context_and_its_special_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    class PreTrainedTokenizerFast:
        def __init__(self, **given: Any) -> None:
            self.given = given

    module: Any = type(sys)("transformers")
    module.PreTrainedTokenizerFast = PreTrainedTokenizerFast
    monkeypatch.setitem(sys.modules, "transformers", module)
    whole = Fields({**fields().values, "tokenizer.chat_template": "{{ messages }}"})
    fast = gguf.tokenizer_of(whole)
    given: Mapping[str, Any] = fast.given
    assert fast.chat_template == "{{ messages }}"
    assert (given["model_max_length"], given["eos_token"], given["pad_token"]) == (8192, "<|im_end|>", "<|im_end|>")
    assert (given["bos_token"], given["unk_token"]) == ("<|im_start|>", "<|endoftext|>")


# Which folders are such a file's


def test_a_folder_of_one_such_file_is_it(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    (tmp_path / "README.md").write_text("")
    assert gguf.find(tmp_path) == tmp_path / "model.gguf"


@pytest.mark.parametrize("files", [["config.json", "model.gguf"], ["one.gguf", "two.gguf"], ["config.json"], []])
def test_any_other_folder_is_not(files: list[str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    assert gguf.find(tmp_path) is None


def test_a_model_that_is_no_such_file_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newer, "installed", lambda _: "5.23.0")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    gguf.main([f"--model={tmp_path / 'model'}", f"--out={tmp_path / 'original'}"])
    assert (tmp_path / "original/config.json").read_text() == "{}"


def test_such_a_file_is_made_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    made: list[tuple[Path, Path]] = []
    monkeypatch.setattr(gguf, "materialise", lambda file, out: made.append((file, out)))
    gguf.main([f"--model={tmp_path}", f"--out={tmp_path / 'original'}"])
    assert made == [(tmp_path / "model.gguf", tmp_path / "original")]
