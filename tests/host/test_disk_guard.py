import errno
import os
from pathlib import Path

import pytest

from images.errors import DiskFullError, disk_guard


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space left"), disk_guard(tmp_path):
        Path("/dev/full").write_text("x")


def test_other_system_errors_are_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught, disk_guard(tmp_path):
        (tmp_path / "missing").read_text()
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_are_the_same_to_a_user(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), disk_guard(tmp_path):
        raise OSError(number, os.strerror(number))
