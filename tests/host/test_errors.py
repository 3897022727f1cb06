import pytest

from images import errors
from images.errors import INTERRUPTED, ImageError

KINDS = ImageError.__subclasses__()


def test_every_kind_has_an_exit_code_of_its_own() -> None:
    codes = [ImageError.exit_code, *(kind.exit_code for kind in KINDS)]
    assert len(set(codes)) == len(codes)


def test_no_kind_shares_an_exit_code_with_success_or_a_signal() -> None:
    assert all(0 < kind.exit_code < INTERRUPTED - 2 for kind in KINDS)


def test_every_kind_says_in_its_docstring_when_it_is_raised() -> None:
    assert all(kind.__doc__ for kind in KINDS)


def test_all_kinds_are_defined_in_one_place() -> None:
    assert {kind.__module__ for kind in KINDS} == {errors.__name__}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImageError("there is no target 'x'", "the targets are: a, b"),
            "there is no target 'x'\n  -> the targets are: a, b",
        ),
        (ImageError("the disk is full"), "the disk is full"),
    ],
)
def test_an_error_says_what_happened_and_then_what_to_do(error: ImageError, message: str) -> None:
    assert str(error) == message
