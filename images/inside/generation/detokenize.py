"""Tokens to text as they come: characters are never split, and the texts together are what decoding all at once gives.

A tokenizer's decoder needs a token's left neighbours (for spaces) and its right ones (for the rest of a character), but
few of both. So a small window is decoded for each token, and what of its text is whole characters goes out.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

REPLACEMENT = "\ufffd"
"""What decoders put for bytes that are no character, or not yet."""
CONTEXT = 8
"""How many tokens a token is decoded behind at most: more than any decoder looks back."""
CHARACTER = 4
"""The most bytes of one character in UTF-8."""
LONGEST = 2 * CONTEXT
"""A window with more tokens has bytes in it that will never become a character."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Detokenizer:
    """A tokenizer's way back, shared by all answers. May be used by several threads.

    Args:
        backend: the tokenizer.
        special: ids that are never part of a text.

    """

    def __init__(self, backend: "tokenizers.Tokenizer", special: Collection[int]) -> None:
        self._backend = backend
        self.special = frozenset(special)
        self._bytes: dict[int, bytes] = {}
        self._anchor = self._backend.encode("a", add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, of which none is special."""
        return self._backend.decode(ids, skip_special_tokens=False)

    def stream(self, prompt: Sequence[int] = ()) -> "TextStream":
        """The text of an answer to a prompt."""
        return TextStream(self, prompt[-CONTEXT:])

    def token_text(self, token: int) -> str:
        """A token's text behind other text; part of a character is a replacement character."""
        return self.decode([*self._anchor, token]).removeprefix(self.decode(self._anchor))

    def token_bytes(self, token: int) -> bytes:
        """A token's text as UTF-8, also when it is part of a character; none for a special token."""
        if token not in self._bytes:
            self._bytes[token] = b"" if token in self.special else self._find_bytes(token)
        return self._bytes[token]

    def _find_bytes(self, token: int) -> bytes:
        text = self.token_text(token)
        if REPLACEMENT not in text:
            return text.encode()
        spelled = self._backend.id_to_token(token) or ""
        if byte := _BYTE.fullmatch(spelled):
            return bytes([int(byte[1], 16)])
        if all(character in _ALPHABET for character in spelled):
            return bytes(_ALPHABET[character] for character in spelled)
        return text.encode()


class TextStream:
    """The text of one answer, token by token.

    Args:
        detokenizer: the tokenizer's.
        context: tokens that the answer comes behind; their text is not given.

    """

    def __init__(self, detokenizer: Detokenizer, context: Iterable[int] = ()) -> None:
        self._decode, self._special = detokenizer.decode, detokenizer.special
        self._window = [token for token in context if token not in self._special]
        self._settled = len(self._window)  # so many tokens of the window have given all of their text
        self._text = self._decode(self._window)  # of the window's text, what has been given

    def push(self, token: int) -> str:
        """The text that a token completes; often none."""
        if token in self._special:
            return ""
        self._window.append(token)
        text, whole = self._read()
        if not whole.startswith(self._text):
            # Some decoders take a whole run of bytes for broken while its last character is: look at that alone.
            del self._window[: self._settled]
            self._text, self._settled = "", 0
            text, whole = self._read()
        new, self._text = whole[len(self._text) :], whole
        if new and whole == text:
            self._forget(self._settled, text)
        elif len(self._window) > LONGEST:
            self._forget(len(self._window) - CONTEXT, text)
        return new

    def flush(self) -> str:
        """What is left at the end, as decoding all at once shows it: replacement characters for part of one."""
        text = self._decode(self._window)
        return text[len(self._text) :] if text.startswith(self._text) else self._decode(self._window[self._settled :])

    def _read(self) -> tuple[str, str]:
        """The window's text, and the part of it that no further token can change."""
        text = self._decode(self._window)
        whole = text.rstrip(REPLACEMENT)
        if len(self._window) > LONGEST:
            return text, text[: max(len(whole), len(text) - CHARACTER + 1)]
        return text, whole

    def _forget(self, count: int, text: str) -> None:
        """Take tokens off the window's front."""
        missing = len(text) - len(self._text)
        del self._window[:count]
        rest = self._decode(self._window)
        self._text = rest[: len(rest) - missing]
        self._settled = max(0, self._settled - count) if missing else len(self._window)


def _alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers spell bytes with: printable ones as they are, the rest from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _alphabet()
