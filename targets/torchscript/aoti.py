"""`torch.export` and AOTInductor: the graph as machine code, right at every batch and length. Runs in the builder."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

ENTRY = "model"
"""A folder: at run time nothing could be unpacked, for the file system is read-only."""
LEVEL = "x86-64-v3"
CPU = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
"""What the level of the x86-64 psABI means, as `/proc/cpuinfo` spells it."""
VECTOR_BITS = 256
SOURCES = "*.cpp"
TEXT_AXES = 2
"""Of token ids, batch and length, and both are open; of pictures only the batch is."""


def make(module: Any, example: tuple[Any, ...], artifact: Path) -> None:
    """Write the folder `model`, for any processor of `LEVEL` and not for the builder's own only.

    A package of one shape ends the process at another, so what varies stays open; where the model fixes it, PyTorch
    raises `RuntimeError`.
    """
    axes = tuple(dict.fromkeys(range(2 if tensor.dim() == TEXT_AXES else 1), Dim.DYNAMIC) for tensor in example)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(module, example, dynamic_shapes=(axes,))
        options = {"cpp.march": LEVEL, "cpp.simdlen": VECTOR_BITS}
        package = Path(folder) / f"{ENTRY}.pt2"
        torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)  # noqa: SLF001
        shutil.rmtree(artifact / ENTRY, ignore_errors=True)
        with zipfile.ZipFile(package) as archive:  # all of its names begin with `model/`
            archive.extractall(artifact)
    for source in (artifact / ENTRY).rglob(SOURCES):
        source.unlink()


def load(artifact: Path) -> Callable[..., Any]:
    """The package as PyTorch runs it."""
    package: Callable[..., Any] = torch._inductor.aoti_load_package(str(artifact / ENTRY))  # noqa: SLF001
    return package
