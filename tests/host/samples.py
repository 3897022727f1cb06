"""What the host's tests are about: a small target, a plan, a report, a record, and an engine that remembers."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from images import plan as planning
from images.config import Bootstrap, Config, Example
from images.engine import Away, Engine, ImageFacts, Line
from images.inside.compare import Figures
from images.inside.records import Bounds, ExportJob, FileDigest, Manifest, ModelFacts, SourceJob
from images.inside.report import Check, Latency, Report
from images.plan import Options, Plan
from images.record import Info, Record, Sizes
from images.spec import Mode, Option, Place, TargetSpec

BASES = {"builder": ("localhost/builder:1", "sha256:b1"), "runtime": ("localhost/runtime:1", "sha256:r1")}
CODE = {"images/__init__.py": b"", "targets/some_cpu/run.py": b"run = 1\n"}
LOCKS = {"exact": b"a==1\n", "small": b"b==1\n", "run": b"c==1\n"}
MODEL = ModelFacts(id="acme/Tiny_Model", source="hub", revision="c0ffee", digest="sha256:4d0de1")
CREATED = "2026-11-22T12:00:00Z"
WEIGHTS = {"weights": Option(summary="baked or mounted", default="baked", mounts_model="mounted")}
"""A flag of a target that keeps the model's weights out of the image."""
Script = Callable[..., Path]
"""What the fixture `script` gives: writes a program of a name into a folder."""


def mode(name: str, exporter: str, **bounds: float) -> Mode:
    """A mode for both tasks of the tests."""
    return Mode(name=name, tasks=("text-classification", "fill-mask"), exporter=exporter, bounds=Bounds(**bounds))


def target(**changes: Any) -> TargetSpec:
    """A target with two modes, each of an exporter of its own."""
    usual = TargetSpec(
        name="some-cpu",
        folder=Path("/targets/some_cpu"),
        summary="a target of the tests",
        platforms=("linux/amd64",),
        size_budget_mib=1,
        deny=("*/torch/*", "/bin/sh"),
        places=(Place(name="server-cpu", reason="it is small"),),
        modes=(
            mode("none", "exact", max_abs_diff=1e-4, agreement=1.0),
            mode("int8", "small", agreement=0.9),
        ),
    )
    return msgspec.structs.replace(usual, **changes)


def plan(
    *,
    spec: TargetSpec | None = None,
    model: ModelFacts = MODEL,
    task: str = "text-classification",
    dockerfile: str = "FROM scratch\n",
    code: Mapping[str, bytes] = CODE,
    locks: Mapping[str, bytes] = LOCKS,
    bases: Mapping[str, tuple[str, str]] = BASES,
    **options: Any,
) -> Plan:
    """A plan; `options` are the command line's."""
    return planning.make(
        spec or target(), model, task, Options(**options), dockerfile=dockerfile, code=code, locks=locks, bases=bases
    )


def source_job(**options: Any) -> SourceJob:
    """What the plan tells the step that records the original."""
    return msgspec.json.decode(plan(**options).texts["job/source/source.json"], type=SourceJob)


def export_job(**options: Any) -> ExportJob:
    """What it tells the export."""
    return msgspec.json.decode(plan(**options).texts["job/export/export.json"], type=ExportJob)


def report(**changes: Any) -> Report:
    """A smoke test that passed."""
    usual = Report(
        exit=0,
        target="some-cpu",
        task="text-classification",
        mode="none",
        model=MODEL.id,
        bounds=Bounds(max_abs_diff=1e-4, agreement=1.0),
        checks=[Check(name="reference", passed=True, detail="2 inputs reproduce the original", seconds=0.5)],
        figures=[
            Figures(case="short", max_abs_diff=2e-6, agreement=1.0),
            Figures(case="long", max_abs_diff=3e-5, agreement=1.0),
        ],
        latency=Latency(runner_p50_ms=1.0, runner_p95_ms=2.0, http_p50_ms=3.0, http_p95_ms=4.0),
        runtime={"runtime": "table"},
    )
    return msgspec.structs.replace(usual, **changes)


def failed(name: str = "reference", detail: str = "they differ", **changes: Any) -> Report:
    """A smoke test whose step of this name failed."""
    check = Check(name=name, passed=False, detail=detail, seconds=0.1)
    return report(**{"exit": 1, "checks": [check], **changes})


def manifest(**changes: Any) -> Manifest:
    """The artifact's manifest."""
    usual = Manifest(
        target="some-cpu",
        task="text-classification",
        exporter="exact",
        mode="none",
        model=MODEL,
        entry="model",
        max_length=16,
        pad_token_id=0,
        bounds=Bounds(max_abs_diff=1e-4, agreement=1.0),
        architecture="x86_64",
        memory_bytes=0,
        packages={},
    )
    return msgspec.structs.replace(usual, **changes)


def info(**changes: Any) -> Info:
    """What the image says of itself."""
    return Info(manifest=manifest(**changes), packages={"numpy": "2.0"}, python="3.11.2", os="Debian GNU/Linux 12")


def record(**changes: Any) -> Record:
    """The record of the plan's image."""
    usual = Record(
        reference=plan().tag,
        image="sha256:final",
        plan=plan().digest,
        created=CREATED,
        layers=["sha256:r1"],
        bases={"builder": "sha256:b1", "runtime": "sha256:r1"},
        model_files=[FileDigest(path="config.json", size=2, sha256="0" * 64)],
        sizes=Sizes(total=3 << 20, artifact=1 << 20, without_artifact=2 << 20),
        info=info(),
        verdict=report(),
    )
    return msgspec.structs.replace(usual, **changes)


def config(cache: Path, **changes: Any) -> Config:
    """A configuration that names its bases, so that none is bootstrapped."""
    recipe = Bootstrap(
        suite="bookworm", python="3.11", builder_packages=("python3",), runtime_packages=("tiny",), runtime_drop=()
    )
    usual = Config(
        extra_index_url="",
        builder_base="reg.example/builder@sha256:b1",
        runtime_base="reg.example/runtime@sha256:r1",
        examples={"first": Example(model="pypi:example==1")},
        bootstrap=recipe,
        cache=cache,
    )
    return msgspec.structs.replace(usual, **changes)


class Listening:
    """Remembers the progress that it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.details: list[str] = []

    def step(self, text: str) -> None:
        """Remember the step."""
        self.steps.append(text)

    def detail(self, text: str) -> None:
        """Remember the detail."""
        self.details.append(text)


@dataclass(frozen=True, kw_only=True)
class FakeEngine(Engine):
    """An engine in memory: images by name or id, what its containers answer, and what it was asked.

    Attributes:
        store: the images.
        files_: the root file system of every image: sizes by path.
        answers: what a container prints, by its command.
        asked: the calls that change something, in order.

    """

    program: str = "docker"
    version: str = "0.0"
    store: dict[str, ImageFacts] = field(default_factory=dict)
    files_: dict[str, int] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def image(self, reference: str) -> ImageFacts | None:
        """The image, if it is stored."""
        return self.store.get(reference)

    def gpu_flags(self) -> tuple[str, ...]:
        """Those of docker, when an answer to `gpus` is set."""
        return ("--gpus=all",) if "gpus" in self.answers else ()

    def foreground(self, image: str, port: int, flags: Sequence[str] = ()) -> int:
        """Remember it, and end well."""
        self.asked.append(" ".join(["serve", str(port), *flags, image]))
        return 0

    def load_base(self, tar: Path, reference: str) -> None:
        """Remember it."""
        self.asked.append(f"load {reference} from {tar.name}")

    def build(
        self,
        folder: Path,
        *,
        args: Mapping[str, str],
        labels: Mapping[str, str],
        log: IO[str],
        line: Line,
        dockerfile: Path | None = None,
        away: Away | None = None,
    ) -> str:
        """Store an image `sha256:candidate`."""
        del args, dockerfile
        assert (folder / "Dockerfile").exists()
        log.write("[run 1/1] RUN true\n")
        line("[run 1/1] RUN true")
        return self._stored(f"build on {away.builder}" if away else "build", "sha256:candidate", labels)

    def relabel(self, reference: str, labels: Mapping[str, str], work: Path, *, accepted: bool = False) -> str:
        """Store an image `sha256:final` with these labels."""
        del work, accepted
        return self._stored(f"relabel {reference.partition(':')[0]}", "sha256:final", labels)

    def tag(self, image: str, reference: str) -> None:
        """Store the image under its name too."""
        self.asked.append(f"tag {image} {reference.partition('candidate:')[0]}")
        self.store[reference] = self.store[image]

    def untag(self, reference: str) -> None:
        """Forget a name."""
        self.asked.append("untag")
        del self.store[reference]

    def remove(self, image: str) -> None:
        """Forget an image."""
        self.asked.append(f"remove {image}")
        self.store.pop(image, None)

    def discard(self, image: str) -> None:
        """Remember it."""
        self.asked.append(f"discard {image}")

    def run(
        self, image: str, *command: str, flags: Sequence[str] = (), timeout: float = 600
    ) -> "subprocess.CompletedProcess[str]":
        """What the answers hold for the command."""
        del timeout
        self.asked.append(" ".join(["run", *flags, image, *command]))
        answer = self.answers.get(command[0])
        return subprocess.CompletedProcess(command, 0 if answer else 1, answer or "", "" if answer else "it broke")

    @contextmanager
    def files(self, image: str) -> Iterator[tarfile.TarFile]:
        """The same files for every image."""
        del image
        with tarfile.open(fileobj=io.BytesIO(tar(self.files_))) as opened:
            yield opened

    def _stored(self, what: str, identity: str, labels: Mapping[str, str]) -> str:
        self.asked.append(what)
        self.store[identity] = ImageFacts(id=identity, size=1, layers=("sha256:r1",), labels=dict(labels))
        return identity


def tar(sizes: Mapping[str, int]) -> bytes:
    """A tar of files of these sizes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for path, size in sizes.items():
            member = tarfile.TarInfo(path)
            member.size = size
            out.addfile(member, io.BytesIO(bytes(size)))
    return buffer.getvalue()


def engine(verdict: Report | None = None, files: Mapping[str, int] | None = None) -> FakeEngine:
    """An engine whose images pass their smoke test, unless another verdict is given."""
    answers = {
        "smoke-test": msgspec.json.encode(verdict or report()).decode(),
        "info": json.dumps(msgspec.to_builtins(info())),
    }
    return FakeEngine(answers=answers, files_={"artifact/model": 1000, "usr/bin/python3": 100, **(files or {})})
