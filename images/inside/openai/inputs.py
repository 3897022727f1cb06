"""Texts or token ids, one or many: how OpenAI's API takes plain inputs."""

from collections.abc import Sequence

from images.inside.errors import InputError

Input = str | list[str | int | list[int]]
Tokens = list[int]


def read_input(given: Input, param: str = "input") -> tuple[list[str], list[Tokens]]:
    """The request's texts, or its token ids: one of the two. Raises `InputError` when they are mixed or empty."""
    entries = given if isinstance(given, list) else [given]
    texts = [entry for entry in entries if isinstance(entry, str)]
    tokens = [entry for entry in entries if isinstance(entry, list)]
    if entries and is_tokens(entries):
        tokens = [[entry for entry in entries if isinstance(entry, int)]]
    elif not entries or len(entries) not in {len(texts), len(tokens)}:
        raise InputError(f"expected a text, texts, token ids or lists of token ids, and at least one - at `$.{param}`")
    return texts, tokens


def is_tokens(entries: Sequence[object]) -> bool:
    """Whether a list is one text's token ids."""
    return bool(entries) and all(isinstance(entry, int) for entry in entries)
