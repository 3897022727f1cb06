import random
from itertools import pairwise

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from images.inside.generation.detokenize import REPLACEMENT, Detokenizer
from tests.inside import tiny

TEXTS = [
    "Grüße, 世界!",
    "🙂🏽 family 👨‍👩‍👧 ok",
    "e\u0301 a\u0000b",
    "plain words here",
    "a\ufffdb",
    "   spaces  \n\n\tand lines ",
]


def sentencepiece() -> Backend:
    """As Llama 2's: `▁` for a space, one token a byte for what is not in the vocabulary."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "b", "▁▁", "é", "世"]
    backend = Backend(models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True))
    strip = decoders.Strip(" ", 1, 0)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    backend.add_special_tokens(words[:3])
    return backend


BYTELEVEL = Detokenizer(tiny.bytelevel(), range(5))
WORDPIECE = Detokenizer(tiny.wordpiece(), range(5))
PIECES = sentencepiece()
INVALID = tiny.BYTES.index("ÿ")
SENTENCEPIECE = Detokenizer(PIECES, range(3))


def bytes_of(text: str) -> list[int]:
    found: list[int] = tiny.bytelevel().encode(text, add_special_tokens=False).ids
    return found


def pieces(detokenizer: Detokenizer, ids: list[int], prompt: list[int] | None = None) -> list[str]:
    stream = detokenizer.stream(prompt or [])
    return [*(stream.push(token) for token in ids), stream.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_has_part_of_a_character(text: str) -> None:
    found = pieces(BYTELEVEL, bytes_of(text))
    assert "".join(found) == text
    assert sum(map(len, found)) - text.count(REPLACEMENT) == sum(len(piece.replace(REPLACEMENT, "")) for piece in found)


@pytest.mark.parametrize("seed", range(20))
def test_any_tokens_give_the_text_that_decoding_all_at_once_gives(seed: int) -> None:
    chance = random.Random(seed)
    ids = [
        token for _ in range(30) for token in chance.choice([bytes_of(chance.choice(TEXTS)), [chance.randrange(261)]])
    ]
    assert "".join(pieces(BYTELEVEL, ids)) == tiny.bytelevel().decode([token for token in ids if token > 4])


def test_a_character_is_given_as_soon_as_it_is_whole() -> None:
    assert pieces(BYTELEVEL, bytes_of("é🙂a")) == ["", "é", "", "", "", "🙂", "a", ""]


def test_part_of_a_character_at_the_end_is_a_replacement_character() -> None:
    assert pieces(BYTELEVEL, bytes_of("é")[:1]) == ["", REPLACEMENT]


def test_bytes_that_never_become_a_character_are_not_kept_for_ever() -> None:
    stream, token = BYTELEVEL.stream(), INVALID
    assert len("".join(stream.push(token) for _ in range(1000))) > 980
    assert len(stream._window) < 20


@pytest.mark.parametrize("before", range(12))
def test_a_character_behind_such_bytes_is_not_split(before: int) -> None:
    ids = [INVALID] * before + bytes_of("🙂世")
    assert "".join(pieces(BYTELEVEL, ids)) == REPLACEMENT * before + "🙂世"


@pytest.mark.parametrize("seed", range(30))
def test_tokens_may_end_anywhere_in_a_character(seed: int) -> None:
    chance = random.Random(seed)
    spelling = "".join(tiny.BYTES[token] for token in bytes_of("".join(chance.choices([*TEXTS, "🙂世" * 20], k=6))))
    cuts = [0, *sorted(chance.sample(range(1, len(spelling)), len(spelling) // 2)), len(spelling)]
    tokens = [spelling[a:b] for a, b in pairwise(cuts)]
    backend = Backend(models.BPE({token: i for i, token in enumerate(dict.fromkeys(tokens))}, []))
    backend.decoder = decoders.ByteLevel()
    ids = [backend.get_vocab()[token] for token in tokens]
    found = pieces(Detokenizer(backend, ()), ids)
    assert "".join(found) == backend.decode(ids)
    assert max(map(len, found)) < 20


def test_tokens_that_all_end_within_a_character_are_not_kept_for_ever() -> None:
    letters = [tiny.BYTES[token] for token in bytes_of("🙂")]
    first, turn = "".join(letters[:2]), "".join(letters[2:] + letters[:2])
    backend = Backend(models.BPE({first: 0, turn: 1}, []))
    backend.decoder = decoders.ByteLevel()
    stream = Detokenizer(backend, ()).stream()
    assert [stream.push(token) for token in [0] + [1] * 100] == [""] + ["🙂"] * 100
    assert len(stream._window) < 20


def test_special_tokens_are_no_text() -> None:
    assert "".join(pieces(BYTELEVEL, [0, *bytes_of("a"), 2, *bytes_of("b"), 4])) == "ab"


def test_words_are_joined_by_what_stands_before_them() -> None:
    ids = tiny.wordpiece().encode("anna works for siemens, munich.", add_special_tokens=False).ids
    assert pieces(WORDPIECE, ids) == ["anna", " works", " for", " sie", "mens", ",", " mun", "ich", ".", ""]


def test_an_answer_goes_on_from_its_prompt() -> None:
    anna, works = tiny.WORDS.index("anna"), tiny.WORDS.index("works")
    assert pieces(WORDPIECE, [works], [2, anna]) == [" works", ""]


def spelled(*tokens: str) -> list[int]:
    return [PIECES.get_vocab()[token] for token in tokens]


def test_sentencepiece_keeps_the_space_behind_a_prompt() -> None:
    assert pieces(SENTENCEPIECE, spelled("▁a", "b"), spelled("b")) == [" a", "b", ""]


def test_sentencepiece_drops_the_first_space_of_a_text() -> None:
    assert pieces(SENTENCEPIECE, spelled("▁a", "b")) == ["a", "b", ""]


def test_an_id_without_text_does_not_cost_the_next_one_its_space() -> None:
    unknown = 1 << 20
    assert pieces(SENTENCEPIECE, [*spelled("b"), unknown, *spelled("▁a")]) == ["b", "", " a", ""]


def test_sentencepiece_bytes_wait_for_their_character() -> None:
    ids = spelled("▁a", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "世", "<0x0A>", "▁", "▁a")
    assert pieces(SENTENCEPIECE, ids) == ["a", "", "", "", "🙂", "世", "\n", " ", " a", ""]


@pytest.mark.parametrize("seed", range(10))
def test_any_whole_characters_of_sentencepiece_are_decoded_as_all_at_once(seed: int) -> None:
    chance = random.Random(seed)
    whole = [
        *([f"<0x{byte:02X}>" for byte in letter.encode()] for letter in "é世🙂\n"),
        ["▁"],
        ["▁a"],
        ["b"],
        ["▁▁"],
        ["é"],
    ]
    ids = [token for _ in range(60) for token in spelled(*chance.choice(whole))]
    assert "".join(pieces(SENTENCEPIECE, ids)) == PIECES.decode(ids)


def test_bytes_of_a_broken_run_do_not_stop_the_stream() -> None:
    ids = spelled("<0x0A>", "<0xF0>", "<0x9F>", "▁a", "b")
    assert "".join(pieces(SENTENCEPIECE, ids)).endswith(" ab")


@pytest.mark.parametrize(
    ("detokenizer", "token", "expected"),
    [
        (BYTELEVEL, bytes_of("é")[0], b"\xc3"),
        (BYTELEVEL, bytes_of(" ")[0], b" "),
        (SENTENCEPIECE, spelled("<0xF0>")[0], b"\xf0"),
        (SENTENCEPIECE, spelled("▁a")[0], b" a"),
        (SENTENCEPIECE, spelled("世")[0], "世".encode()),
    ],
)
def test_a_tokens_bytes_are_known_also_for_part_of_a_character(
    detokenizer: Detokenizer, token: int, expected: bytes
) -> None:
    assert detokenizer.token_bytes(token) == expected
