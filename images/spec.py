"""What a target is: its folder's facts as one frozen record."""

import contextlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from images.config import ROOT
from images.errors import UsageError
from images.inside.records import Bounds

FACTS = "target.toml"
AT_LEAST_ONE = msgspec.Meta(min_length=1)


class Mode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A quantisation mode for some tasks: who makes it, and what the gate holds it to.

    Attributes:
        name: as `--quantize` takes it; the same name may stand again for other tasks or of another exporter.
        tasks: what it is for.
        exporter: a lock `requirements.<exporter>.txt` and a build stage of that name.
        bounds: the gate's numbers.
        least: the smallest allowed value of what the exporter measures of its artifact, by the measure's name.
        deprecated: that upstream gives it up, and what to take instead; empty while it does not.
        bits: of a weight in the artifact; 0 where it keeps the model's own.
        tried: values of `model_type` in config.json with which its exporter was tried, where it does not take them all.
        needs: the target's own flags that it cannot do without; no other mode takes them.

    """

    name: str
    tasks: Annotated[tuple[str, ...], AT_LEAST_ONE]
    exporter: str
    bounds: Bounds
    least: dict[str, float] = {}
    deprecated: str = ""
    bits: int = 0
    tried: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an artifact or its image may end up, and why this target for it.

    Attributes:
        name: as `invoke recommend --for` takes it.
        reason: one line that speaks for the target there, and for what it asks in return.
        fallback: whether it works there and is made for another place.

    """

    name: str
    reason: str
    fallback: bool = False


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A flag of `invoke build` that a target adds; its exporters read what was given from their job.

    Attributes:
        summary: one line for `invoke build --help`.
        default: what it is when left out; `false` makes it a switch without a value.
        pattern: regular expression of the values that it takes.
        mounts_model: the value by which the model's weights stay outside of the image, to be mounted when it runs.
        caps_length: whether the largest number in its value caps the tokens of an input, as `--max-length` does.
        requests: whether it names a file with one JSON request a line; the exporter gets the file, and its digest.

    """

    summary: str
    default: str | bool = ""
    pattern: str = ".+"
    mounts_model: str = ""
    caps_length: bool = False
    requests: bool = False


class Runtime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of the target's folder and its wheels is in the image.

    Attributes:
        modules: the target's own modules that run in the image.
        without: packages that the runtime's wheels declare and never import; left out of the lock.
        trim: globs below the installed packages' folder, deleted.

    """

    modules: tuple[str, ...] = ("run",)
    without: tuple[str, ...] = ()
    trim: tuple[str, ...] = ()


class TargetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One target's facts.

    Attributes:
        name: as on the command line: the folder's name with hyphens.
        folder: the target's folder.
        summary: one line for `invoke targets`.
        platforms: such as `linux/amd64`.
        size_budget_mib: the finished image less the artifact, uncompressed MiB; more fails the build.
        deny: globs on absolute paths that must not be in the image.
        modes: the first that has a task is that task's default.
        places: where it belongs, the one that it is made for first.
        refused: modes that its exporters would make and that it does not take, each with the reason.
        refused_tasks: tasks that one may look for here and that it does not have, each with the reason and the way on.
        max_length: the most tokens of an input where `--max-length` does not say otherwise; 0 for the model's own.
        options: flags of `invoke build` that this target adds, by name.
        reference: the exporter whose environment records the original's answers; empty for each artifact's own.
        left_out: by exporter, packages that its wheels declare and are not to be installed; left out of its lock.
        cpu_only: whether torch in its locks must be a `+cpu` wheel.
        gpu: whether the image wants an NVIDIA GPU; on a machine without one it is proved on the CPU.
        dtype: what the original answers in: `float32`, or `auto` for its weights' own.

    """

    name: str
    folder: Path
    summary: str
    platforms: Annotated[tuple[str, ...], AT_LEAST_ONE]
    size_budget_mib: int
    deny: tuple[str, ...] = ()
    modes: Annotated[tuple[Mode, ...], AT_LEAST_ONE]
    places: Annotated[tuple[Place, ...], AT_LEAST_ONE]
    refused: dict[str, str] = {}
    refused_tasks: dict[str, str] = {}
    max_length: int = 0
    options: dict[str, Option] = {}
    reference: str = ""
    left_out: dict[str, tuple[str, ...]] = {}
    runtime: Runtime = Runtime()
    cpu_only: bool = True
    gpu: bool = False
    dtype: Literal["float32", "auto"] = "float32"

    @property
    def module(self) -> str:
        """The folder's name, importable as `targets.<module>`."""
        return self.folder.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """What its exporters and runner can do: the modes' tasks, each once."""
        return tuple(dict.fromkeys(task for mode in self.modes for task in mode.tasks))

    def modes_for(self, task: str, exporter: str = "") -> tuple[Mode, ...]:
        """The modes that a task has, of one exporter or of all; the default first."""
        return tuple(mode for mode in self.modes if task in mode.tasks and exporter in {"", mode.exporter})

    @property
    def exporters(self) -> tuple[str, ...]:
        """The exporters that its modes name, each once, in order."""
        return tuple(dict.fromkeys(mode.exporter for mode in self.modes))

    @property
    def environments(self) -> tuple[str, ...]:
        """Everything that is locked: each exporter, and `run`."""
        return (*self.exporters, "run")

    def without(self, environment: str) -> tuple[str, ...]:
        """The packages that an environment's lock leaves out."""
        return self.runtime.without if environment == "run" else self.left_out.get(environment, ())

    def used(self, exporter: str) -> tuple[str, ...]:
        """The environments that a build by one exporter installs."""
        return tuple(dict.fromkeys((self.reference or exporter, exporter, "run")))

    def lock_source(self, environment: str) -> Path:
        """What the lock of one environment is made from."""
        return self.folder / f"requirements.{environment}.in"

    def lock(self, environment: str) -> Path:
        """The lock file of one environment: an exporter's name, or `run`."""
        return self.folder / f"requirements.{environment}.txt"


def names(root: Path = ROOT) -> list[str]:
    """Every target, by the names of their folders; nothing is read."""
    return sorted(path.parent.name.replace("_", "-") for path in root.glob(f"targets/*/{FACTS}"))


def readable(root: Path = ROOT) -> Iterator[TargetSpec]:
    """Every target, but for one whose facts are wrong: that is told when it is asked for, and stops no other."""
    for name in names(root):
        with contextlib.suppress(UsageError):
            yield load(name, root)


def by_task(root: Path = ROOT) -> dict[str, list[str]]:
    """The targets that have a task, by task."""
    found: dict[str, list[str]] = {}
    for target in readable(root):
        for task in target.tasks:
            found.setdefault(task, []).append(target.name)
    return found


def load(name: str, root: Path = ROOT) -> TargetSpec:
    """One target. Raises `UsageError` when there is none of that name, or its facts are wrong."""
    if name not in names(root):
        raise UsageError(f"there is no target {name!r}", f"the targets are: {', '.join(names(root))}")
    folder = root / "targets" / name.replace("-", "_")
    try:
        facts = tomllib.loads((folder / FACTS).read_text())
        return msgspec.convert(
            {**facts, "name": name, "folder": folder}, TargetSpec, dec_hook=lambda kind, value: kind(value)
        )
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
        known = ", ".join(field for field in TargetSpec.__struct_fields__ if field not in {"name", "folder"})
        raise UsageError(f"targets/{folder.name}/{FACTS}: {error}", f"the keys are: {known}") from error
