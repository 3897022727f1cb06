"""`torch.jit.trace`: one run of the model on an example, recorded. Runs in the builder."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ENTRY = "model.pt"


def make(module: Any, example: tuple[Any, ...], artifact: Path) -> None:
    """Write `model.pt`. What in the model depends on the example by Python's own means is frozen in it."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated, target.toml says
        _spell(module)
        traced = torch.jit.trace(module, example, check_trace=False)  # shapes.py checks more
        torch.jit.save(traced, artifact / ENTRY)


def load(artifact: Path) -> Callable[..., Any]:
    """The archive as PyTorch runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Callable[..., Any] = torch.jit.load(artifact / ENTRY, map_location="cpu")
    return module


def _spell(module: Any) -> None:
    """Give every class a name that TorchScript can read again: a model's own code lies in a module named by a hash."""
    for kind in {type(part) for part in module.modules()}:
        kind.__module__ = re.sub(r"\.(?=\d)", "._", kind.__module__)
