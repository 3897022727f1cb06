from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from images.inside.contract import Item
from images.inside.errors import ArtifactError, InputError, NoTokensError, TooLongError
from images.inside.text import MAX_WINDOWS, Encoded, Tokenizer
from tests.inside import tiny

LETTERS = "a b c d a b c d"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tiny.load(tmp_path, tiny.wordpiece(), tiny.manifest(max_length=8))


def words(tokenizer: Tokenizer, encoded: Encoded) -> str:
    return " ".join(tokenizer.tokens(encoded.ids))


def test_padding_and_truncation_of_the_file_are_off(tokenizer: Tokenizer) -> None:
    assert words(tokenizer, tokenizer.encode("a b c d")) == "[CLS] a b c d [SEP]"


def test_an_item_tells_the_texts_of_a_pair_apart(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a", "b").item == Item((2, 22, 3, 23, 3), (0, 0, 0, 1, 1))


def test_an_empty_pair_is_no_pair(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a", "") == tokenizer.encode("a")


def test_an_empty_text_is_refused_where_no_token_is_made_of_it(tmp_path: Path) -> None:
    backend = tiny.wordpiece()
    backend.post_processor = processors.Sequence([])
    with pytest.raises(NoTokensError, match="the text is empty"):
        tiny.load(tmp_path, backend, tiny.manifest()).item("")


def test_an_input_at_the_limit_passes(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("a b c d a b")) == 8


def test_an_input_over_the_limit_is_refused_with_both_counts(tokenizer: Tokenizer) -> None:
    with pytest.raises(TooLongError) as caught:
        tokenizer.encode("a b c d a b c")
    assert (caught.value.got, caught.value.limit) == (9, 8)


def test_truncation_cuts_the_end_and_keeps_special_tokens(tokenizer: Tokenizer) -> None:
    assert words(tokenizer, tokenizer.encode(LETTERS, truncate=True)) == "[CLS] a b c d a b [SEP]"


@pytest.mark.parametrize(
    ("text", "pair", "kept"),
    [
        (LETTERS, "a", "[CLS] a b c d [SEP] a [SEP]"),
        ("a", LETTERS, "[CLS] a [SEP] a b c d [SEP]"),
        (LETTERS, LETTERS, "[CLS] a b [SEP] a b c [SEP]"),
        (LETTERS, "a b c d", "[CLS] a b c [SEP] a b [SEP]"),
    ],
)
def test_of_a_pair_the_longer_text_is_cut_first(tokenizer: Tokenizer, text: str, pair: str, kept: str) -> None:
    assert words(tokenizer, tokenizer.encode(text, pair, truncate=True)) == kept


def test_windows_overlap_and_repeat_the_question(tokenizer: Tokenizer) -> None:
    windows = tokenizer.windows("anna", LETTERS, cut=1, length=8, stride=2)
    assert [words(tokenizer, window) for window in windows] == [
        "[CLS] anna [SEP] a b c d [SEP]",
        "[CLS] anna [SEP] c d a b [SEP]",
        "[CLS] anna [SEP] a b c d [SEP]",
    ]


def test_windows_keep_offsets_in_the_whole_text(tokenizer: Tokenizer) -> None:
    last = tokenizer.windows("anna", LETTERS, cut=1, length=8, stride=2)[-1]
    assert [last.offsets[i] for i in last.positions(1)] == [(8, 9), (10, 11), (12, 13), (14, 15)]


SPECIAL = [("[CLS]", 2), ("[SEP]", 3)]
ZERO = processors.TemplateProcessing(pair="[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0", special_tokens=SPECIAL)
TURNED = processors.TemplateProcessing(pair="[CLS]:1 $A:1 [SEP]:1 $B:0 [SEP]:0", special_tokens=SPECIAL)
BERT = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
ROBERTA = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))


@pytest.mark.parametrize("processor", [ZERO, TURNED, BERT, ROBERTA, processors.Sequence([ROBERTA])])
def test_windows_have_the_segments_that_the_library_gives_them(processor: Any, tmp_path: Path) -> None:
    backend = tiny.wordpiece()
    backend.post_processor = processor
    ours = tiny.load(tmp_path, backend, tiny.manifest()).windows("anna", LETTERS, cut=1, length=8, stride=2)
    backend.no_padding()
    backend.enable_truncation(8, stride=2, strategy="only_second")
    first = backend.encode("anna", LETTERS)
    assert [list(window.type_ids) for window in ours] == [window.type_ids for window in (first, *first.overflowing)]


def test_a_text_that_fits_is_one_window(tokenizer: Tokenizer) -> None:
    assert tokenizer.windows("anna", "a b", cut=1, length=8, stride=2) == [tokenizer.encode("anna", "a b")]


def test_a_stride_that_fills_the_window_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="windows of 8 tokens leave 4 for the text to be cut"):
        tokenizer.windows("anna", LETTERS, cut=1, length=8, stride=4)


def test_too_many_windows_are_refused_before_they_are_made(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=f"at most {MAX_WINDOWS}"):
        tokenizer.windows("anna", "a " * (MAX_WINDOWS + 4), cut=1, length=8, stride=3)


def test_the_beginning_of_a_text_ends_with_a_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.prefix("Anna works for Siemens", 4) == "Anna works for Sie"


def test_text_that_is_not_unicode_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        tokenizer.encode("a \ud800")


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = [(LETTERS[: 2 * n + 1], n % 2 == 0) for n in range(6)] * 50
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: tokenizer.encode(text[0], truncate=text[1]), texts))
    assert found == [tokenizer.encode(text, truncate=truncate) for text, truncate in texts]


@pytest.mark.parametrize(("clean", "text"), [(False, "anna ' s"), (True, "anna's")])
def test_spaces_are_cleaned_up_when_the_original_does_so(tmp_path: Path, *, clean: bool, text: str) -> None:
    tokenizer = tiny.load(tmp_path, tiny.wordpiece(), tiny.manifest(clean_up_spaces=clean))
    assert tokenizer.decode(tokenizer.encode("Anna's").ids, skip_special_tokens=True) == text


def test_a_damaged_tokenizer_file_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path, tiny.manifest())
