"""What contestants are made of, each made once: images, environments, the original model as a folder."""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from images import build, locks, plan
from images.config import ROOT, Config
from images.engine import Engine
from images.errors import ImageError
from images.model import ModelRef
from images.progress import Progress
from images.record import Record
from images.spec import TargetSpec
from tests.benchmarks import environment, processes
from tests.benchmarks.generation.asking import Contestant

PROGRAMS = "tests.benchmarks.generation.programs"


def having(target: TargetSpec, *packages: str) -> str:
    """The newest exporter of a target in whose lock all of these packages are: the last one; empty for none."""
    locked = {exporter: {wheel.name for wheel in locks.parse(target.lock(exporter))} for exporter in target.exporters}
    return next((exporter for exporter in reversed(target.exporters) if locked[exporter].issuperset(packages)), "")


class AbsentError(Exception):
    """Why a contestant cannot take part; the others can, so it is no `ImageError`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contestant that can be started.

    Attributes:
        name: its row's title.
        start: starts it, and ends it. Raises `AbsentError`.
        ours: whether it is one of the project's images.

    """

    name: str
    start: Callable[["Arena"], AbstractContextManager[Contestant]]
    ours: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Arena:
    """Where they meet.

    Attributes:
        config: the project's.
        progress: told of what is made.
        dist: where records of images are.
        engine: runs the images.
        target: whose images take part.
        tools: whose locks make the environments of what the target has no exporter for.
        name: of the model, as the user gave it.
        model: its files.
        threads: of each contestant.
        folder: temporary; gone when all have ended.

    """

    config: Config
    progress: Progress
    dist: Path
    engine: Engine
    target: TargetSpec
    tools: TargetSpec
    name: str
    model: ModelRef
    threads: int
    folder: Path

    @functools.cache  # noqa: B019 - there is one arena a run
    def image(self, mode: str) -> Record:
        """The image of a mode; built when it is not there."""
        request = build.Request(target=self.target.name, model=self.name, options=plan.Options(mode=mode))
        return build.build(request, self.config, self.progress, self.dist).record

    @functools.cache  # noqa: B019 - as above
    def artifact(self, mode: str) -> Path:
        """The artifact of a mode's image."""
        into = self.folder / mode
        into.mkdir()
        return processes.extracted(self.engine, self.image(mode).image, into)

    def python(self, name: str, exporter: str = "") -> Path:
        """The Python of an environment: an exporter's lock, what `requirements.<name>.txt` lists, or both."""
        owner = self.target if exporter in self.target.exporters else self.tools
        lock = owner.lock(exporter) if exporter else None
        return environment.python(name, lock, self.config, self.progress)

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """The versions of those packages that the target's exporters have; of the last one, where several do."""
        wheels = [wheel for exporter in self.target.exporters for wheel in locks.parse(self.target.lock(exporter))]
        locked = {wheel.name: wheel.version for wheel in wheels}
        return {name: locked[name] for name in packages if name in locked}

    @property
    def original(self) -> Path:
        """The original model as a Hugging Face folder: what a GGUF file stands for, else the folder itself."""
        script, exporter = ROOT / "images" / "inside" / "gguf.py", having(self.target, "transformers", "gguf")
        return self.made(
            "original",
            self.python(exporter, exporter),
            lambda out: ["-m", "images.inside.gguf", f"--model={self.model.folder}", f"--out={out}"],
            also=script.read_bytes(),
        )

    def made(self, name: str, python: Path, argv: Callable[[Path], Sequence[str]], also: bytes = b"") -> Path:
        """A folder that a Python program makes of this model, made once.

        Args:
            name: of the folder.
            python: of which environment.
            argv: the program's arguments, of the folder that it makes.
            also: what the folder depends on besides its model, environment and arguments.

        """
        key = [self.model.facts.digest, str(python), *argv(Path())]
        digest = hashlib.sha256("\0".join(key).encode() + also).hexdigest()
        home = self.config.cache / "benchmark" / f"{name}-{digest[:16]}"
        if not home.exists():
            self.progress.step(f"making {name} of the model")
            self._make(home, python, argv)
        return home

    def _make(self, home: Path, python: Path, argv: Callable[[Path], Sequence[str]]) -> None:
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".new-") as temporary:
            fresh = Path(temporary, "made")
            variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(
                [str(python), *argv(fresh)], check=False, cwd=ROOT, env=variables, capture_output=True, text=True
            )
            if done.returncode:
                raise ImageError(f"{home.name} could not be made:\n{done.stderr[-1000:]}")
            shutil.move(fresh, home)
