"""What a container is told of GPUs and weights."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from images import devices
from images.engine import Engine, ImageFacts
from tests.host import samples
from tests.host.samples import FakeEngine

RUNTIME, CDI = ("--gpus=all",), ("--device=nvidia.com/gpu=all",)


def machine(*, gpus: bool = True, label: str = "nvidia.com/gpu") -> FakeEngine:
    """An engine with an image `wants:gpu`."""
    made = samples.engine()
    made.store["wants:gpu"] = ImageFacts(id="sha256:9", size=1, layers=(), labels={"dev.modelyard.gpu": label})
    if gpus:
        made.answers["gpus"] = "one"
    return made


@pytest.fixture
def specified(tmp_path: Path) -> Path:
    """A folder with the specification that `nvidia-ctk cdi generate` writes."""
    (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n")
    return tmp_path


# How an engine gives GPUs


def test_docker_gives_them_by_nvidias_runtime() -> None:
    assert devices.gpu_flags({"Runtimes": {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}}}) == RUNTIME


def test_docker_without_the_runtime_gives_them_by_a_specification_in_its_folders(specified: Path) -> None:
    assert devices.gpu_flags({"Runtimes": {"runc": {}}, "CDISpecDirs": [str(specified)]}) == CDI


def test_docker_that_lists_devices_gives_them_by_name() -> None:
    listed = [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]
    assert devices.gpu_flags({"Runtimes": {"runc": {}}, "DiscoveredDevices": listed}) == CDI


def test_docker_that_does_not_use_cdi_has_none(specified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "SPECS", (str(specified),))
    assert devices.gpu_flags({"Runtimes": {"runc": {}}, "CDISpecDirs": None}) == ()


def test_podman_gives_them_by_a_specification_where_they_usually_lie(
    specified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "SPECS", ("/no/such/folder", str(specified)))
    assert devices.gpu_flags({"host": {"arch": "amd64"}}) == CDI


def test_another_vendors_devices_are_none(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"kind": "vendor.com/net"}')
    listed = [{"Source": "cdi", "ID": "vendor.com/net=0"}]
    assert devices.gpu_flags({"CDISpecDirs": [str(tmp_path)], "DiscoveredDevices": listed}) == ()


@pytest.mark.parametrize(
    ("code", "info", "expected"), [(0, {"Runtimes": {"nvidia": {}}}, RUNTIME), (0, {}, ()), (1, None, ())]
)
def test_the_engine_is_asked(code: int, info: Any, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], code, json.dumps(info) if code == 0 else "", "it is gone")
    monkeypatch.setattr(Engine, "_call", lambda *_, **__: done)
    assert Engine(program="docker", version="28.0").gpu_flags() == expected


# What a container is told


def test_an_image_that_wants_a_gpu_gets_those_of_this_machine() -> None:
    assert devices.flags(machine(), "wants:gpu") == RUNTIME


def test_where_there_is_none_it_is_told_nothing_and_says_so_itself() -> None:
    assert devices.flags(machine(gpus=False), "wants:gpu") == ()


def test_an_image_that_wants_none_gets_none() -> None:
    assert devices.flags(machine(label=""), "wants:gpu") == ()


def test_on_the_cpu_no_gpu_is_given() -> None:
    assert devices.flags(machine(), "wants:gpu", device="cpu") == ("--env=MODELYARD_DEVICE=cpu",)


def test_a_gpu_that_is_named_is_given_to_an_image_without_labels() -> None:
    assert devices.flags(machine(), "sha256:1", device="cuda:1") == ("--env=MODELYARD_DEVICE=cuda:1", *RUNTIME)


def test_weights_are_mounted_to_be_read(tmp_path: Path) -> None:
    assert devices.flags(machine(), "sha256:1", weights=tmp_path) == (f"--volume={tmp_path}:/weights:ro",)


# Where a fresh image is proved


@pytest.mark.parametrize(("gpus", "gpu", "expected"), [(True, True, "cuda"), (False, True, "cpu"), (True, False, "")])
def test_a_fresh_image_is_proved_on_the_device_that_it_wants_where_there_is_one(
    gpus: bool, gpu: bool, expected: str
) -> None:
    assert devices.choose(machine(gpus=gpus), gpu=gpu) == expected
