import random
from collections.abc import Iterable

import pytest

from images.inside.generation.stops import Stops


def shown(stops: list[str], pieces: Iterable[str]) -> tuple[list[str], bool]:
    watch, found = Stops(stops), []
    for piece in pieces:
        text, stopped = watch.push(piece)
        found.append(text)
        if stopped:
            return found, True
    return [*found, watch.flush()], False


@pytest.mark.parametrize("pieces", [["one END two"], ["one E", "N", "D two"], list("one END two")])
def test_text_ends_before_a_stop_string_however_it_is_cut(pieces: list[str]) -> None:
    found, stopped = shown(["END"], pieces)
    assert ("".join(found), stopped) == ("one ", True)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    assert shown(["END"], ["a E", "N", "d"]) == (["a ", "", "ENd", ""], False)


def test_what_is_held_back_comes_at_the_end() -> None:
    assert shown(["END"], ["a EN"]) == (["a ", "EN"], False)


def test_a_stop_string_may_begin_within_a_failed_one() -> None:
    assert shown(["aab"], ["aa", "ab", "c"]) == (["", "a"], True)


def test_the_first_stop_string_to_be_complete_ends_the_text() -> None:
    assert shown(["bcde", "c"], list("abcde"))[0] == ["a", "", "b"]


def test_of_two_that_end_together_the_longer_one_counts() -> None:
    assert "".join(shown(["c", "bc"], list("abc"))[0]) == "a"


def test_without_stop_strings_text_passes() -> None:
    assert shown([], ["a", "b"]) == (["a", "b", ""], False)


@pytest.mark.parametrize("seed", range(50))
def test_random_texts_end_where_a_search_of_the_whole_finds_the_first_stop_string(seed: int) -> None:
    chance = random.Random(seed)
    stops = ["".join(chance.choices("ab", k=chance.randint(2, 6))) for _ in range(3)]
    text = "".join(chance.choices("abc", weights=[3, 3, 1], k=40))
    ends = sorted((text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text)
    cuts = sorted(chance.sample(range(41), 10))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, 40], strict=True)]
    assert "".join(shown(stops, pieces)[0]) == text[: ends[0][1] if ends else None]
