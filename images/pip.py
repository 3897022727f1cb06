"""pip, and what its failures mean. The only module that runs it.

pip runs with the host's own configuration: its indexes, mirrors, find-links and credentials.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images import locks
from images.errors import ImageError, LockError, UnreachableError, UsageError, disk_full, mask
from images.progress import Report, silent

_MISMATCH = re.compile(r"^\s*(\S+) from .*?$\s*Expected sha256 (\w+)$(?:\s*Expected .*$)*\s*Got\s+(\w+)$", re.MULTILINE)
_MISSING = re.compile(r"No matching distribution found for (\S+)")
_NO_ANSWER = re.compile(
    r"Retrying \(Retry|connection broken by|Could not fetch URL|Max retries exceeded|NewConnectionError|timed out"
    r"|HTTP error 5\d\d|50[0-9] Server Error|ProxyError|Network is unreachable|network connectivity",
    re.IGNORECASE,
)


class PipError(Exception):
    """pip failed; its output, without credentials."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))

    @property
    def tail(self) -> str:
        """The last lines, indented."""
        lines = [
            line for line in str(self).splitlines() if line and not line.startswith(("Looking in", "WARNING: Location"))
        ]
        return "\n".join(f"    {line}" for line in lines[-8:])

    @property
    def mismatch(self) -> re.Match[str] | None:
        """The file, the hash expected and the hash got, when that is what pip complains of."""
        return _MISMATCH.search(str(self))


def download(arguments: Sequence[str], folder: Path, report: Report) -> None:
    """Bring the distributions that the arguments name, and none that they require. Raises `PipError`."""
    _run(["download", "--no-deps", "--progress-bar=off", "--retries=2", "--dest", str(folder), *arguments], report)


def resolve(wanted: Iterable[str], flags: Sequence[str]) -> list[Mapping[str, Any]]:
    """What pip would install for these requirements: entries of its installation report. Raises `PipError`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        listing, report = folder / "requirements.in", folder / "report.json"
        listing.write_text("".join(f"{line}\n" for line in wanted))
        # pip takes the platform flags with --target only; nothing is written there.
        arguments = ["--dry-run", "--ignore-installed", "--quiet", "--target", str(folder / "none"), *flags]
        _run(["install", *arguments, "--report", str(report), "--requirement", str(listing)], silent)
        return list(json.loads(report.read_text())["install"])


def install(python: Path, arguments: Sequence[str], report: Report = silent) -> None:
    """Install into the environment of another Python. Raises `PipError`."""
    _run(["--python", str(python), "install", "--progress-bar=off", *arguments], report)


def explained(error: PipError, folder: Path, otherwise: str = "pip could not download the locked wheels") -> ImageError:
    """The user's error that pip's output means.

    Args:
        error: pip's failure.
        folder: where the files were to go.
        otherwise: what happened, where the output has no more to say.

    """
    output = str(error)
    if "No space left on device" in output:
        return disk_full(folder)
    if "No module named pip" in output:
        return UsageError(f"{sys.executable} has no pip", "run this with a Python that has it: python -m ensurepip")
    if match := error.mismatch:
        hint = "the index serves another file than was locked: find out why before locking again"
        return locks.mismatch(match[1], match[2], match[3], hint)
    if _NO_ANSWER.search(output):
        return UnreachableError(
            f"a package index did not answer; pip's last lines:\n{error.tail}",
            "check the network and `pip config list`",
        )
    if match := _MISSING.search(output):
        return LockError(
            f"no index has a wheel for {match[1]}; pip says:\n{error.tail}", "check `pip config list`, or lock again"
        )
    return LockError(
        f"{otherwise}; pip's last lines:\n{error.tail}", "correct the requirements, or check `pip config list`"
    )


def _run(arguments: Sequence[str], report: Report) -> None:
    environment = os.environ | {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
    argv = [sys.executable, "-m", "pip", *arguments]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            lines = list(_follow(process.stdout or (), report))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise PipError(lines)


def _follow(stream: Iterable[str], report: Report) -> Iterator[str]:
    for line in map(mask, stream):
        if line.lstrip().startswith("Downloading "):
            report(line.strip())
        yield line.rstrip()
