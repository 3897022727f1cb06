from pathlib import Path

import pytest

from images import pip
from images.errors import DiskFullError, ImageError, LockError, UnreachableError, UsageError


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", DiskFullError),
        ("/usr/bin/python3: No module named pip", UsageError),
        ("WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by 'X'", UnreachableError),
        ("ERROR: ResolutionImpossible", LockError),
    ],
)
def test_pips_failures_have_their_own_errors(line: str, kind: type[ImageError], tmp_path: Path) -> None:
    assert type(pip.explained(pip.PipError([line]), tmp_path)) is kind
