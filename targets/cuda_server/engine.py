"""`transformers serve` on an NVIDIA GPU; on the CPU when told so."""

import json
import re
import subprocess
import sys
from pathlib import Path

from images.inside import threads
from images.inside.engine.contract import Launch, Wish
from images.inside.errors import CannotRunError
from images.inside.records import Manifest
from images.inside.transformers_serve.launch import Memory, launch
from targets.cuda_server import gpu

CPU, CUDA = "cpu", "cuda"
DEVICE = re.compile(rf"{CUDA}(:(?P<index>\d+))?")
SHARES = {CPU: 0.5, CUDA: 0.8}
"""Of the memory that weights and program leave, for the cache: what is left is the steps' own."""
ASK = "import json, torch; print(json.dumps([torch.version.cuda, torch._C._cuda_getArchFlags()]))"
"""By torch's own name of the list: the public one is empty on a machine without a GPU."""


def prepare(artifact: Path, manifest: Manifest, wish: Wish) -> Launch:
    """The engine with a cache that fits into the memory of its device. Raises `CannotRunError`."""
    if wish.device == CPU:
        return launch(artifact, manifest, wish, CPU, Memory(threads.memory_limit(), "memory", SHARES[CPU]))
    named = DEVICE.fullmatch(wish.device or CUDA)
    if not named:
        raise CannotRunError(f"this image is for {CUDA}, {CUDA}:1 or {CPU}, not for {wish.device}")
    index = int(named["index"] or 0)
    found = gpu.find(index)
    gpu.check(found, _torch())
    return launch(artifact, manifest, wish, f"{CUDA}:{index}", Memory(found.free, "GPU memory", SHARES[CUDA]))


def _torch() -> gpu.Torch:
    """What torch says of itself, in a process of its own: here it would stay in memory."""
    done = subprocess.run([sys.executable, "-c", ASK], check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotRunError(f"torch cannot be loaded: {(done.stderr.strip().splitlines() or ['it says nothing'])[-1]}")
    version, architectures = json.loads(done.stdout.splitlines()[-1])
    major, minor = map(int, version.split(".")[:2])
    return gpu.Torch((major, minor), architectures.split())
