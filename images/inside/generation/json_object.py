"""JSON mode: an answer that can only become one JSON object, and ends with it.

Nothing is masked in advance: a chosen token is looked at, and one that the object cannot go on with is chosen anew. The
model nearly always chooses well, so a token costs a few microseconds and not a walk over the vocabulary.
"""

from collections.abc import Callable, Container
from typing import NamedTuple

MAX_SPACES = 64
"""White space in a row, outside of strings: a model that has nothing to say would go on with it for ever."""
SPACES = frozenset(b" \t\n\r")
DIGITS = frozenset(b"0123456789")
HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
ESCAPES = frozenset(b'"\\/bfnrt')
LITERALS = {ord("t"): b"rue", ord("f"): b"alse", ord("n"): b"ull"}
NUMBERS: dict[str, list[tuple[Container[int], str]]] = {
    "minus": [(b"0", "zero"), (b"123456789", "integer")],
    "zero": [(b".", "point"), (b"eE", "exponent")],
    "integer": [(DIGITS, "integer"), (b".", "point"), (b"eE", "exponent")],
    "point": [(DIGITS, "fraction")],
    "fraction": [(DIGITS, "fraction"), (b"eE", "exponent")],
    "exponent": [(DIGITS, "power"), (b"+-", "sign")],
    "sign": [(DIGITS, "power")],
    "power": [(DIGITS, "power")],
}
"""What may follow in a number, and what it is then."""
WHOLE_NUMBERS = frozenset({"zero", "integer", "fraction", "power"})
CLOSING = {ord("}"): "{", ord("]"): "["}
UTF8 = [(0xC2, 0xDF, 1), (0xE0, 0xEF, 2), (0xF0, 0xF4, 3)]
"""First bytes of a character, from and to, and how many follow."""
SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}
"""Where the second byte is held to more than the others: no overlong forms, no surrogates, nothing past U+10FFFF."""
CONTINUED = (0x80, 0xBF)


class State(NamedTuple):
    """A place in a JSON text.

    Attributes:
        at: what is expected there.
        open: the brackets that are open, outermost first.
        key: whether the string is a key.
        left: bytes of a character, digits of an escape or letters of a literal that are missing.
        bounds: of the next byte of a character.
        spaces: white space before it.

    """

    at: str = "start"
    open: str = ""
    key: bool = False
    left: bytes = b""
    bounds: tuple[int, int] = CONTINUED
    spaces: int = 0


class JsonObject:
    """Holds one answer to being a JSON object.

    Args:
        token_bytes: a token's text as UTF-8; empty for a special token.

    """

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._state = State()

    @property
    def complete(self) -> bool:
        """Whether the object is closed."""
        return self._state.at == "end"

    def allows(self, token: int) -> bool:
        """Whether the object can go on with a token."""
        text = self._token_bytes(token)
        return bool(text) and follow(self._state, text) is not None

    def push(self, token: int) -> None:
        """Go on with a token that is allowed."""
        self._state = follow(self._state, self._token_bytes(token)) or self._state


def follow(state: State, text: bytes) -> State | None:
    """The place behind some bytes; None when they cannot stand here."""
    for byte in text:
        found = _step(state, byte)
        if found is None:
            return None
        state = found
    return state


def _step(state: State, byte: int) -> State | None:
    if state.at in _INSIDE:
        return _INSIDE[state.at](state, byte)
    if state.at in NUMBERS:
        return _number(state, byte)
    if byte in SPACES:
        return state._replace(spaces=state.spaces + 1) if state.spaces < MAX_SPACES else None
    return _OUTSIDE[state.at](state._replace(spaces=0), byte)


def _start(state: State, byte: int) -> State | None:
    return _value(state, byte) if byte == ord("{") else None


def _value(state: State, byte: int) -> State | None:
    match chr(byte):
        case "{":
            return state._replace(at="first key", open=state.open + "{")
        case "[":
            return state._replace(at="first value", open=state.open + "[")
        case '"':
            return state._replace(at="string", key=False)
        case "t" | "f" | "n":
            return state._replace(at="literal", left=LITERALS[byte])
        case "-":
            return state._replace(at="minus")
    return _number(state._replace(at="minus"), byte)


def _first_value(state: State, byte: int) -> State | None:
    return _close(state, byte) or _value(state, byte)


def _key(state: State, byte: int) -> State | None:
    return state._replace(at="string", key=True) if byte == ord('"') else None


def _first_key(state: State, byte: int) -> State | None:
    return _close(state, byte) or _key(state, byte)


def _colon(state: State, byte: int) -> State | None:
    return state._replace(at="value") if byte == ord(":") else None


def _after(state: State, byte: int) -> State | None:
    if byte == ord(","):
        return state._replace(at="key" if state.open.endswith("{") else "value")
    return _close(state, byte)


def _close(state: State, byte: int) -> State | None:
    if byte not in CLOSING or not state.open.endswith(CLOSING[byte]):
        return None
    return state._replace(at="after" if state.open[:-1] else "end", open=state.open[:-1])


def _end(_state: State, _byte: int) -> State | None:
    return None


def _number(state: State, byte: int) -> State | None:
    for bytes_, then in NUMBERS[state.at]:
        if byte in bytes_:
            return state._replace(at=then)
    return _step(state._replace(at="after"), byte) if state.at in WHOLE_NUMBERS else None


def _string(state: State, byte: int) -> State | None:
    if byte == ord('"'):
        return state._replace(at="colon" if state.key else "after")
    if byte == ord("\\"):
        return state._replace(at="escape")
    if 0x20 <= byte < 0x80:  # noqa: PLR2004  # ASCII without its control characters
        return state
    for first, last, more in UTF8:
        if first <= byte <= last:
            return state._replace(at="character", left=bytes(more), bounds=SECOND.get(byte, CONTINUED))
    return None


def _character(state: State, byte: int) -> State | None:
    if not state.bounds[0] <= byte <= state.bounds[1]:
        return None
    left = state.left[1:]
    return state._replace(at="character" if left else "string", left=left, bounds=CONTINUED)


def _escape(state: State, byte: int) -> State | None:
    if byte == ord("u"):
        return state._replace(at="hex", left=bytes(4))
    return state._replace(at="string") if byte in ESCAPES else None


def _hex(state: State, byte: int) -> State | None:
    left = state.left[1:]
    return state._replace(at="hex" if left else "string", left=left) if byte in HEX_DIGITS else None


def _literal(state: State, byte: int) -> State | None:
    left = state.left[1:]
    return state._replace(at="literal" if left else "after", left=left) if byte == state.left[0] else None


Rule = Callable[[State, int], State | None]
_INSIDE: dict[str, Rule] = {
    "string": _string,
    "character": _character,
    "escape": _escape,
    "hex": _hex,
    "literal": _literal,
}
"""Where white space is like any other byte."""
_OUTSIDE: dict[str, Rule] = {
    "start": _start,
    "value": _value,
    "first value": _first_value,
    "key": _key,
    "first key": _first_key,
    "colon": _colon,
    "after": _after,
    "end": _end,
}
