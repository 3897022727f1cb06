from pathlib import Path

import pytest

from images.inside import loaded
from images.inside.engine.contract import Wish
from images.inside.errors import CannotRunError
from images.inside.records import MANIFEST, write_json
from tests.inside.serving import manifest


def test_a_device_that_a_runner_does_not_have_is_refused_and_not_ignored(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, manifest())

    with pytest.raises(CannotRunError, match="for cpu only, not for cuda:1"):
        loaded.load(tmp_path, Wish(threads=1, slots=1, device="cuda:1"))
