"""What a container is told so that its image finds this machine's GPUs and its model's weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import plan

if TYPE_CHECKING:
    from images.engine import Engine

CPU, CUDA = "cpu", "cuda"
BY_RUNTIME, BY_CDI = "--gpus=all", f"--device={plan.GPU}=all"
SPECS = ("/etc/cdi", "/var/run/cdi")
"""Where CDI's specifications lie, unless an engine says otherwise."""


def gpu_flags(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The flags that give a container all NVIDIA GPUs, by what `docker info` or `podman info` says; none without one.

    By docker's nvidia runtime where that is registered; else by CDI, which Podman always has and Docker when it names
    folders for it, if a specification of NVIDIA's is there.
    """
    if "nvidia" in (info.get("Runtimes") or {}):
        return (BY_RUNTIME,)
    listed = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
    folders = info.get("CDISpecDirs") or (SPECS if "host" in info else ())  # only Podman's has `host`
    found = any(name.startswith(f"{plan.GPU}=") for name in listed) or _specified(map(Path, folders))
    return (BY_CDI,) if found else ()


def _specified(folders: Iterable[Path]) -> bool:
    files = (file for folder in folders for pattern in ("*.json", "*.yaml") for file in folder.glob(pattern))
    return any(plan.GPU in file.read_text(errors="replace") for file in files)


def choose(engine: "Engine", *, gpu: bool) -> str:
    """Where a fresh image is proved: one that wants a GPU on the CPU when this machine has none; its report says so."""
    return (CUDA if engine.gpu_flags() else CPU) if gpu else ""


def flags(engine: "Engine", image: str, *, device: str = "", weights: Path | None = None) -> tuple[str, ...]:
    """What a container of an image is told.

    Args:
        engine: what runs it.
        image: by name or id; its label says whether it wants a GPU.
        device: such as `cpu` or `cuda`; empty for what the image is made for, with what this machine has of it.
        weights: folder with the model's files, for an image without them.

    """
    facts = engine.image(image) if not device else None
    wanted = device.startswith(CUDA) or bool(facts and facts.labels.get(f"{plan.LABEL}.gpu"))
    return (
        *([f"--env=MODELYARD_DEVICE={device}"] if device else []),
        *(engine.gpu_flags() if wanted else ()),
        *([f"--volume={weights}:{plan.WEIGHTS}:ro"] if weights else []),
    )
