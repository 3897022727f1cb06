"""What the NVIDIA driver says of this machine, by its own libraries, which are injected into the container."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from images.inside.errors import CannotRunError

DRIVER, MANAGEMENT = "libcuda.so.1", "libnvidia-ml.so.1"
START = (
    "start the container with its GPU: `docker run --gpus all`, a CDI device such as `--device nvidia.com/gpu=all`, or "
    "`nvidia.com/gpu` among the limits of the pod; or serve on the CPU with `--device cpu`"
)
MAJOR, MINOR = 75, 76
"""Numbers of the compute capability among the driver's attributes of a device."""
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""
PLACE_BYTES = 32
"""Room for a place on the bus, such as `0000:3b:00.0`."""


class Gpu(NamedTuple):
    """One GPU.

    Attributes:
        cuda: the newest CUDA that the driver can run, as major and minor.
        capability: its compute capability, likewise.
        free: bytes of its memory that nobody uses.

    """

    cuda: tuple[int, int]
    capability: tuple[int, int]
    free: int


class Torch(NamedTuple):
    """What torch was compiled for.

    Attributes:
        cuda: the CUDA runtime, as major and minor.
        architectures: such as `sm_90`, and `compute_120` for code that the driver compiles.

    """

    cuda: tuple[int, int]
    architectures: Sequence[str]


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def find(index: int, load: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """A GPU by its number. Raises `CannotRunError` saying what is missing: driver, device, or its libraries.

    Args:
        index: among those that the container sees.
        load: opens a library.

    """
    driver = _open(DRIVER, load)
    error, count, version = driver.cuInit(0), ctypes.c_int(), ctypes.c_int()
    if error not in {0, NO_DEVICE}:
        raise CannotRunError(f"the NVIDIA driver does not start: cuInit gives error {error}; {START}")
    if error == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    if index >= count.value:
        raise CannotRunError(f"the NVIDIA driver shows {count.value} GPUs; number {index} is asked for; {START}")
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Gpu(
        _version(version.value), _capability(driver, index), _free(_open(MANAGEMENT, load), _place(driver, index))
    )


def check(gpu: Gpu, torch: Torch) -> None:
    """Raise `CannotRunError` when this torch cannot run on this GPU, naming what has and what is needed."""
    if gpu.cuda[0] < torch.cuda[0]:
        raise CannotRunError(
            f"the NVIDIA driver is too old: it runs CUDA {_dotted(gpu.cuda)} at most, and this image's torch is for "
            f"CUDA {_dotted(torch.cuda)}; update the driver of the host"
        )
    if not any(_runs_on(architecture, gpu.capability) for architecture in torch.architectures):
        raise CannotRunError(
            f"the GPU has compute capability {_dotted(gpu.capability)}; torch in this image is compiled for "
            f"{', '.join(torch.architectures)}"
        )


def _open(library: str, load: Callable[[str], Any]) -> Any:
    try:
        return load(library)
    except OSError as error:
        raise CannotRunError(f"there is no NVIDIA driver here ({library} is not found); {START}") from error


def _capability(driver: Any, index: int) -> tuple[int, int]:
    found = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, index)
        found.append(value.value)
    return found[0], found[1]


def _place(driver: Any, index: int) -> bytes:
    """The GPU's place on the bus: the management library counts in another order, and all GPUs of the machine."""
    place = ctypes.create_string_buffer(PLACE_BYTES)
    driver.cuDeviceGetPCIBusId(place, PLACE_BYTES, index)
    return place.value


def _free(management: Any, place: bytes) -> int:
    memory, handle = _Memory(), ctypes.c_void_p()
    if management.nvmlInit_v2() or management.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle)):
        raise CannotRunError(f"the NVIDIA driver does not say how much memory is free; {START}")
    management.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return int(memory.free)


def _version(number: int) -> tuple[int, int]:
    """The driver writes 13.1 as 13010."""
    return number // 1000, number % 1000 // 10


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Machine code runs on its own generation from its own step on; intermediate code on everything later."""
    kind, _, digits = architecture.partition("_")
    number = "".join(character for character in digits if character.isdigit())
    made = int(number[:-1]), int(number[-1])
    return made <= capability if kind == "compute" else made[0] == capability[0] and made[1] <= capability[1]


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
