"""What the exporter tells the runner of a model beyond the manifest: `signature.json` in the artifact."""

from pathlib import Path
from typing import Self

import msgspec

from images.inside.errors import ArtifactError
from images.inside.records import Struct, write_json

FILE = "signature.json"


class Signature(Struct, kw_only=True):
    """How a module is called.

    Attributes:
        inputs: names of what it takes, in order.
        outputs: names of what it gives, in order.
        fixed: the only number of tokens that a row may have, one row a call; 0 for a module right at all shapes.
        cpu: features that its machine code needs, as `/proc/cpuinfo` spells them; empty where it has none.

    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed: int = 0
    cpu: tuple[str, ...] = ()

    def save(self, artifact: Path) -> None:
        """Write it into an artifact folder."""
        write_json(artifact / FILE, self)

    @classmethod
    def load(cls, artifact: Path) -> Self:
        """Read it from an artifact folder. Raises `ArtifactError` when it is missing or of another form."""
        try:
            return msgspec.json.decode((artifact / FILE).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise ArtifactError(f"{FILE}: {error}") from error
