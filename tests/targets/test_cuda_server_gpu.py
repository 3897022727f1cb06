# ruff: noqa: N802  # the driver names its functions so
import ctypes
import importlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from images.inside.engine.contract import Launch, Wish
from images.inside.errors import CannotRunError
from images.inside.records import FileDigest
from tests.inside import texting

gpu: Any = importlib.import_module("targets.cuda_server.gpu")
engine: Any = importlib.import_module("targets.cuda_server.engine")
GIB = 1 << 30
TORCH = gpu.Torch((13, 0), ["sm_75", "sm_80", "sm_90", "compute_120"])


class Driver:
    """Both of the driver's libraries, for a machine whose GPUs the one counts in the other's reverse order."""

    def __init__(
        self, *, error: int = 0, count: int = 1, cuda: int = 13010, capability: tuple[int, int] = (8, 6)
    ) -> None:
        self._error, self._count, self._cuda, self._capability = error, count, cuda, capability

    def cuInit(self, _: int) -> int:
        return self._error

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._count
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self._cuda
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, _: int) -> int:
        value._obj.value = dict(zip((gpu.MAJOR, gpu.MINOR), self._capability, strict=True))[attribute]
        return 0

    def nvmlInit_v2(self) -> int:
        return 0

    def cuDeviceGetPCIBusId(self, place: Any, _: int, index: int) -> int:
        place.value = f"0000:0{self._count - index}:00.0".encode()
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, place: bytes, handle: Any) -> int:
        handle._obj.value = int(place.split(b":")[1])
        return int(not handle._obj.value)

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.free = 20 * GIB * handle.value
        return 0


def on(**machine: Any) -> Callable[[str], Any]:
    return lambda _: Driver(**machine)


def absent(library: str) -> Any:
    return ctypes.CDLL(f"/nowhere/{library}")


def test_a_gpu_is_described_by_what_the_driver_says_of_it() -> None:
    assert gpu.find(0, on()) == gpu.Gpu((13, 1), (8, 6), 20 * GIB)


def test_the_free_memory_is_that_of_the_very_gpu_however_it_is_counted() -> None:
    assert [gpu.find(index, on(count=2)).free for index in (0, 1)] == [40 * GIB, 20 * GIB]


def test_without_a_driver_it_is_named_with_what_to_do() -> None:
    with pytest.raises(
        CannotRunError, match=r"no NVIDIA driver here \(libcuda.so.1 is not found\).*--gpus all.*--device cpu"
    ):
        gpu.find(0, absent)


@pytest.mark.parametrize("machine", [{"count": 0}, {"error": 100}])
def test_a_driver_without_a_gpu_says_how_many_there_are(machine: dict[str, int]) -> None:
    with pytest.raises(CannotRunError, match="shows 0 GPUs; number 0 is asked for"):
        gpu.find(0, on(**machine))


def test_a_gpu_that_is_not_there_is_not_another_one() -> None:
    with pytest.raises(CannotRunError, match="shows 1 GPUs; number 1 is asked for"):
        gpu.find(1, on())


def test_a_driver_that_does_not_start_says_its_error() -> None:
    with pytest.raises(CannotRunError, match="cuInit gives error 803"):
        gpu.find(0, on(error=803))


def test_a_driver_that_is_too_old_is_named_with_both_versions() -> None:
    with pytest.raises(CannotRunError, match=r"runs CUDA 12\.8 at most, and this image's torch is for CUDA 13\.0"):
        gpu.check(gpu.Gpu((12, 8), (8, 6), GIB), TORCH)


def test_a_driver_of_the_same_generation_is_new_enough() -> None:
    gpu.check(gpu.Gpu((13, 0), (8, 6), GIB), gpu.Torch((13, 2), ["sm_80"]))


def test_a_gpu_that_torch_is_not_compiled_for_is_named_with_the_list() -> None:
    with pytest.raises(CannotRunError, match=r"compute capability 7\.0; .* sm_75, sm_80, sm_90, compute_120"):
        gpu.check(gpu.Gpu((13, 0), (7, 0), GIB), TORCH)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (12, 0), (12, 1)])
def test_code_runs_on_its_generation_and_intermediate_code_on_later_ones(capability: tuple[int, int]) -> None:
    gpu.check(gpu.Gpu((13, 0), capability, GIB), TORCH)


def test_code_of_one_generation_does_not_run_on_another() -> None:
    with pytest.raises(CannotRunError, match=r"10\.0"):
        gpu.check(gpu.Gpu((13, 0), (10, 0), GIB), TORCH)


# The engine on a device


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what this machine has: a GPU, or an error of the driver."""

    def have(*, cuda: tuple[int, int] = (13, 1), capability: tuple[int, int] = (9, 0), free: int = 20 * GIB) -> None:
        monkeypatch.setattr(gpu, "find", lambda index: gpu.Gpu(cuda, capability, free - index))
        monkeypatch.setattr(engine, "_torch", lambda: TORCH)

    have()
    return have


def prepared(device: str = "") -> Launch:
    facts = msgspec.structs.replace(texting.FACTS, kv_bytes=1 << 10, context=1024)
    weights = FileDigest(path="model/model.safetensors", size=GIB, sha256="")
    manifest = msgspec.structs.replace(texting.manifest(facts), max_length=1024, files=[weights])
    launched: Launch = engine.prepare(Path("/artifact"), manifest, Wish(threads=2, slots=4, device=device))
    return launched


@pytest.mark.parametrize(
    ("device", "expected"), [("", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
@pytest.mark.usefixtures("here")
def test_it_starts_on_the_device_that_was_asked_for_and_on_the_first_gpu_else(device: str, expected: str) -> None:
    assert prepared(device).facts["device"] == expected


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:one", "cuda:-1", "cpu:0"])
@pytest.mark.usefixtures("here")
def test_a_device_that_there_is_not_is_refused_with_those_that_there_are(device: str) -> None:
    with pytest.raises(CannotRunError, match=f"cuda, cuda:1 or cpu, not for {device}"):
        prepared(device)


def test_on_the_cpu_no_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find", None)
    assert prepared("cpu").facts["device"] == "cpu"


def test_memory_that_is_not_free_is_named_with_what_is_needed(here: Callable[..., None]) -> None:
    here(free=GIB)
    with pytest.raises(CannotRunError, match=r"\d+ MiB of GPU memory are needed .*; 1024 MiB are free"):
        prepared()


def test_a_driver_that_is_too_old_ends_it_before_anything_is_loaded(here: Callable[..., None]) -> None:
    here(cuda=(12, 4))
    with pytest.raises(CannotRunError, match=r"driver is too old: it runs CUDA 12\.4"):
        prepared()


def test_a_gpu_that_torch_has_no_code_for_ends_it_too(here: Callable[..., None]) -> None:
    here(capability=(6, 1))
    with pytest.raises(CannotRunError, match=r"compute capability 6\.1"):
        prepared()


def test_torch_is_asked_what_it_was_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0, 'a warning\n["13.0", "sm_80 sm_90 compute_120"]\n', "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert engine._torch() == gpu.Torch((13, 0), ["sm_80", "sm_90", "compute_120"])


def test_a_torch_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "Traceback\nImportError: libcudart.so.13: cannot open\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(CannotRunError, match=r"torch cannot be loaded: ImportError: libcudart\.so\.13"):
        engine._torch()
