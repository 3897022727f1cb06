"""How `transformers serve` is started: command line, environment, and a cache that fits into the memory there is."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from images.inside.engine.contract import Launch, Wish
from images.inside.errors import CannotRunError
from images.inside.records import GenerationFacts, Manifest
from images.inside.transformers_serve.program import CPU, Options
from images.inside.transformers_serve.snapshot import FOLDER, OVERHEAD
from images.inside.transformers_serve.wire import Completions

PAGE = 256
"""Tokens of a page of the cache, transformers' own number."""
BATCH_TOKENS = 512
"""Tokens of one step: a long prompt holds up the answers under way for no longer than so many take."""
MIB = 1 << 20
ENVIRONMENT: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # torch asks for a folder that it can write to, and the root file system is read-only: every engine mounts this one.
    "TMPDIR": "/dev/shm",  # noqa: S108
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "USER": "nonroot",
}
ON_A_CPU: Mapping[str, str] = {
    # Attention reads the keys that several heads share as they are, not a copy for each of the heads.
    "TRANSFORMERS_SDPA_FORCE_GQA": "1",
    # A step takes the memory that the last one used: taken from the kernel and given back every time, keys and values
    # cost more than attention. These are the largest threshold that mallopt(3) takes, and four pieces of that size.
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(128 * MIB),
}
"""Measured with 8 answers behind 740 tokens each: the first leaves 0.4 of a step's CPU time, all together 0.2."""


class Memory(NamedTuple):
    """Where weights and cache are to live.

    Attributes:
        bytes: that are free for them.
        where: in words.
        share: of what weights and program leave of it, for the cache.

    """

    bytes: int
    where: str
    share: float


def launch(artifact: Path, manifest: Manifest, wish: Wish, device: str, memory: Memory) -> Launch:
    """The engine on a device. Raises `CannotRunError` when its memory has no room for weights and one sequence."""
    facts = manifest.generation
    assert facts  # noqa: S101  # only models that generate come here
    pages = cache_pages(manifest, facts, wish, memory)
    options = Options(
        model=str(artifact / FOLDER),
        device=device,
        port=0,
        page=PAGE,
        pages=pages,
        batch_tokens=BATCH_TOKENS,
        slots=wish.slots,
    )
    told = msgspec.json.encode(options).decode().replace('"port":0', '"port":{port}')
    return Launch(
        argv=[sys.executable, "-m", "images.inside.transformers_serve.program", told],
        environment={**_environment(device), "OMP_NUM_THREADS": str(wish.threads), "OMP_WAIT_POLICY": "PASSIVE"},
        wire=Completions(facts.vocabulary),
        slots=wish.slots,
        kv_tokens=pages * PAGE,
        page=PAGE,
        context=min(manifest.max_length, pages * PAGE),
        facts={
            "runtime": "transformers serve",
            "version": manifest.packages.get("transformers", ""),
            "device": device,
            "dtype": manifest.dtype,
            "threads": str(wish.threads),
            "cache": f"{pages * PAGE} tokens",
        },
    )


def _environment(device: str) -> Mapping[str, str]:
    return {**ENVIRONMENT, **ON_A_CPU} if device == CPU else ENVIRONMENT


def cache_pages(manifest: Manifest, facts: GenerationFacts, wish: Wish, memory: Memory) -> int:
    """Pages of the cache: as many as every slot may fill, or as fit. Raises `CannotRunError` with the numbers."""
    page = PAGE * facts.kv_bytes * (2 if manifest.dtype == "float32" else 1) // 2
    weights = sum(file.size for file in manifest.files if file.path.startswith(f"{FOLDER}/"))
    room = int((memory.bytes - weights - OVERHEAD) * memory.share)
    one = -(-min(manifest.max_length, PAGE) // PAGE) + 1
    if room < one * page:
        needed = weights + OVERHEAD + int(one * page / memory.share)
        raise CannotRunError(
            f"{needed / MIB:.0f} MiB of {memory.where} are needed for the weights and one sequence; "
            f"{memory.bytes / MIB:.0f} MiB are free"
        )
    wanted = wish.kv_tokens or wish.slots * manifest.max_length
    return max(one, min(-(-wanted // PAGE), room // page))
