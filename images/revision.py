"""Which state of this project made an image, for its provenance. The only module that runs git."""

import subprocess
from pathlib import Path

from images.config import ROOT


def current(root: Path = ROOT) -> str:
    """The commit, with `-dirty` where files differ from it; empty where this is no clone, or git is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--match="],
            check=False,
            capture_output=True,
            text=True,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
