"""Text to tokens and back, by the tokenizer file alone: what transformers does around it is done here.

Padding and truncation are never set on the tokenizer: one may be baked into the file, and changing them is not
thread-safe. Truncation and windows are cut out of the whole encoding instead, which gives the same tokens.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from images.inside.contract import Item
from images.inside.errors import ArtifactError, InputError, NoRoomError, NoTokensError, TooLongError
from images.inside.records import Manifest

if TYPE_CHECKING:
    import tokenizers

TOKENIZER = "tokenizer.json"
MAX_WINDOWS = 512
"""The most windows of one text: a stride near the window's length would make one a token."""

_CLEAN_UPS = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of one input, or of one window of it. All fields have one entry a token.

    Attributes:
        ids: token ids, special tokens included.
        type_ids: 0 for the first segment, 1 for the second where the model tells them apart.
        offsets: start and end in characters of the text that the token comes from.
        sequences: 0 for the text, 1 for the pair, None for a special token that the tokenizer added.
        words: index of the token's word in its text; None for special tokens.

    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    sequences: tuple[int | None, ...]
    words: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def item(self) -> Item:
        """The sequence as a batch takes it."""
        return Item(self.ids, self.type_ids)

    def positions(self, sequence: int | None) -> list[int]:
        """Where the tokens of a text stand: 0 the text, 1 the pair, None the special tokens."""
        return [position for position, found in enumerate(self.sequences) if found == sequence]

    def take(self, positions: Sequence[int]) -> "Encoded":
        """Only the tokens at these positions."""
        return Encoded(
            tuple(self.ids[i] for i in positions),
            tuple(self.type_ids[i] for i in positions),
            tuple(self.offsets[i] for i in positions),
            tuple(self.sequences[i] for i in positions),
            tuple(self.words[i] for i in positions),
        )

    def typed(self, sequence: int) -> "Encoded":
        """With the tokens of a text, 0 or 1, in the segment of that number."""
        types = zip(self.type_ids, self.sequences, strict=True)
        return replace(self, type_ids=tuple(sequence if own == sequence else kind for kind, own in types))


def read_backend(artifact: Path) -> "tokenizers.Tokenizer":
    """The artifact's tokenizer file. Raises `ArtifactError` when it is missing or damaged."""
    # Texts are encoded one by one: the library's thread pool would only compete with the runtime's threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(artifact / TOKENIZER))
    except Exception as error:  # the library raises nothing narrower
        raise ArtifactError(f"{TOKENIZER}: {error}") from error


class Tokenizer:
    """A tokenizer file and the model's limit. All methods may be called from several threads.

    Attributes:
        max_length: the most tokens of one input, special tokens included.
        prefixes_subwords: whether a token that continues a word says so, as WordPiece's `##` does.

    """

    def __init__(self, backend: "tokenizers.Tokenizer", manifest: Manifest) -> None:
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._decode_tokens: Callable[[list[str]], str] = backend.decoder.decode if backend.decoder else " ".join
        self._clean_up_spaces = manifest.clean_up_spaces
        # Of other processors, the library does not give what it says of segments to windows behind the first.
        self._types_all = "RobertaProcessing" in repr(backend.post_processor)
        self.max_length = manifest.max_length
        self.prefixes_subwords = bool(getattr(backend.model, "continuing_subword_prefix", None))

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest) -> Self:
        """Read the artifact's tokenizer file. Raises `ArtifactError` when it is missing or damaged."""
        return cls(read_backend(artifact), manifest)

    def encode(self, text: str, pair: str | None = None, *, truncate: bool = False) -> Encoded:
        """The tokens of a text or a pair of texts, special tokens included.

        Args:
            text: the text.
            pair: the second text; an empty one is no pair.
            truncate: cut what is too long at its end, the longer text first.

        Raises:
            TooLongError: the input is longer than the model takes and `truncate` is off.
            NoTokensError: the tokenizer makes no token of the text.
            InputError: the text is not valid Unicode.

        """
        return self._held(self._encoding(text, pair, special=True), truncate=truncate)

    def item(self, text: str, pair: str | None = None, *, truncate: bool = False) -> Item:
        """The sequence as a batch takes it: `encode` without what nobody reads of most texts. Raises as it does."""
        encoding = self._encoding(text, pair, special=True, places=False)
        if len(encoding) <= self.max_length:
            return Item(tuple(encoding.ids), tuple(encoding.type_ids))
        return self._held(encoding, truncate=truncate).item

    def windows(self, text: str, pair: str | None = None, *, cut: int, length: int, stride: int) -> list[Encoded]:
        """The tokens of an input in overlapping windows, each with all of the other text and the special tokens.

        Args:
            text: the text.
            pair: the second text; an empty one is no pair.
            cut: which text is cut into windows: 0 or 1.
            length: the most tokens of one window.
            stride: how many tokens neighbouring windows share.

        Raises:
            NoRoomError: no window of this length has room for more than the stride.
            InputError: the text makes too many windows.

        """
        whole = self._whole(text, pair)
        if len(whole) <= length:
            return [whole]
        body = whole.positions(cut)
        room = length - (len(whole) - len(body))
        if stride >= room:
            raise NoRoomError(length, max(room, 0), stride)
        spans = _spans(len(body), room, stride)
        if len(spans) > MAX_WINDOWS:
            raise InputError(f"the text makes {len(spans)} windows; at most {MAX_WINDOWS} are taken (use less overlap)")
        before, after = range(body[0]), range(body[-1] + 1, len(whole))
        first, *others = (whole.take([*before, *body[span], *after]) for span in spans)
        return [first, *(others if self._types_all else (window.typed(cut) for window in others))]

    def prefix(self, text: str, tokens: int) -> str:
        """The beginning of a text that makes at most so many tokens, special tokens not counted."""
        whole = self._whole(text, None)
        body = whole.positions(0)
        return text if len(body) <= tokens else text[: whole.offsets[body[tokens - 1]][1]]

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary; None when it is not in there."""
        return self._backend.token_to_id(token)

    def first_id(self, text: str) -> int | None:
        """The id of the first token of a text, no special tokens added; None when it has none."""
        ids = self._encoding(text, None, special=False).ids
        return ids[0] if ids else None

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The tokens as the vocabulary spells them."""
        return [self._backend.id_to_token(i) or "" for i in ids]

    def join(self, tokens: list[str]) -> str:
        """Tokens as the vocabulary spells them to text."""
        return self._decode_tokens(tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Ids to text, its spaces cleaned up if the original's tokenizer does so."""
        text = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        if self._clean_up_spaces:
            for spaced, joined in _CLEAN_UPS:
                text = text.replace(spaced, joined)
        return text

    def _whole(self, text: str, pair: str | None) -> Encoded:
        return _encoded(self._encoding(text, pair, special=True))

    def _held(self, encoding: "tokenizers.Encoding", *, truncate: bool) -> Encoded:
        if len(encoding) <= self.max_length:
            return _encoded(encoding)
        if not truncate:
            raise TooLongError(len(encoding), self.max_length)
        whole = _encoded(encoding)
        return whole.take(_truncated(whole, self.max_length))

    def _encoding(self, text: str, pair: str | None, *, special: bool, places: bool = True) -> "tokenizers.Encoding":
        """One input's encoding; without `places` it is made faster, and its offsets are not to be read."""
        try:
            if places:
                encoding = self._backend.encode(text, pair or None, add_special_tokens=special)
            else:
                given = [(text, pair) if pair else text]
                encoding = self._backend.encode_batch_fast(given, add_special_tokens=special)[0]
        except TypeError as error:  # what the library says of a lone surrogate
            raise InputError("the text is not valid Unicode") from error
        if special and not len(encoding):
            raise NoTokensError
        return encoding


def _encoded(encoding: "tokenizers.Encoding") -> Encoded:
    added = encoding.special_tokens_mask
    return Encoded(
        tuple(encoding.ids),
        tuple(encoding.type_ids),
        tuple(encoding.offsets),
        tuple(None if mark else sequence or 0 for mark, sequence in zip(added, encoding.sequence_ids, strict=True)),
        tuple(encoding.word_ids),
    )


def _truncated(whole: Encoded, limit: int) -> list[int]:
    text, pair = whole.positions(0), whole.positions(1)
    kept = _longest_first(len(text), len(pair), limit - (len(whole) - len(text) - len(pair)))
    dropped = {*text[kept[0] :], *pair[kept[1] :]}
    return [position for position in range(len(whole)) if position not in dropped]


def _longest_first(text: int, pair: int, room: int) -> tuple[int, int]:
    """How many tokens of each text stay: the longer loses first, then both alike (an odd token goes to the longer)."""
    short = min(text, pair, room // 2)
    return (short, room - short) if text <= pair else (room - short, short)


def _spans(count: int, room: int, stride: int) -> list[slice]:
    return list(_sliding(count, room, room - stride))


def _sliding(count: int, room: int, step: int) -> Iterator[slice]:
    for start in range(0, count, step):
        yield slice(start, min(start + room, count))
        if start + room >= count:
            return
