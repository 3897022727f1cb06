# ruff: noqa: N802  # the driver names its functions so
import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import pytest

from images.inside.contract import CannotRunError

gpu: Any = importlib.import_module("targets.cuda_server.gpu")
GIB = 1 << 30
TORCH = gpu.Torch((13, 0), ["sm_75", "sm_80", "sm_90", "compute_120"])


class Driver:
    """Both of the driver's libraries, for a machine with one GPU."""

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

    def nvmlDeviceGetHandleByIndex_v2(self, _: int, __: Any) -> int:
        return 0

    def nvmlDeviceGetMemoryInfo(self, _: Any, memory: Any) -> int:
        memory._obj.free = 20 * GIB
        return 0


def on(**machine: Any) -> Callable[[str], Any]:
    return lambda _: Driver(**machine)


def absent(library: str) -> Any:
    return ctypes.CDLL(f"/nowhere/{library}")


def test_a_gpu_is_described_by_what_the_driver_says_of_it() -> None:
    assert gpu.find(0, on()) == gpu.Gpu((13, 1), (8, 6), 20 * GIB)


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
