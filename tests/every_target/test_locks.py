"""The locked requirements of every target: current, complete, and for CPUs where the target is."""

import re

import pytest
from packaging.version import Version

from images import config, locks, spec
from images.errors import LockError
from images.spec import TargetSpec

TARGETS = [spec.load(name) for name in spec.names()]
ENVIRONMENTS = [(target, environment) for target in TARGETS for environment in target.environments]
every_target = pytest.mark.parametrize("target", TARGETS, ids=spec.names())
every_lock = pytest.mark.parametrize(
    ("target", "environment"), ENVIRONMENTS, ids=[f"{target.name}-{name}" for target, name in ENVIRONMENTS]
)
FRAMEWORKS = {"torch", "transformers", "optimum", "tensorflow", "pip", "setuptools"}


def names(target: TargetSpec, environment: str) -> set[str]:
    return {wheel.name for wheel in locks.parse(target.lock(environment))}


@every_target
def test_every_lock_belongs_to_an_environment(target: TargetSpec) -> None:
    found = {path.name for path in target.folder.glob("requirements.*")}
    assert found == {f"requirements.{name}.{kind}" for name in target.environments for kind in ("in", "txt")}


@every_lock
def test_a_lock_is_current(target: TargetSpec, environment: str) -> None:
    locks.check_current(
        target.lock_source(environment),
        target.lock(environment),
        python=config.load({}).bootstrap.python,
        platform=target.platforms[0],
        without=target.without(environment),
    )


@every_lock
def test_a_lock_names_every_wheel_once_and_in_order(target: TargetSpec, environment: str) -> None:
    wheels = [wheel.name for wheel in locks.parse(target.lock(environment))]
    assert wheels == sorted(set(wheels))


@every_lock
def test_a_lock_for_cpus_has_no_cuda(target: TargetSpec, environment: str) -> None:
    if target.cpu_only:
        locks.require_cpu(target.lock(environment), locks.parse(target.lock(environment)))


def test_cuda_would_be_found() -> None:
    wheel = locks.LockedWheel(name="torch", version="2.13.0", hashes=frozenset())
    with pytest.raises(LockError, match=r"torch==2\.13\.0"):
        locks.require_cpu(TARGETS[0].lock("run"), [wheel])


@every_lock
def test_a_lock_has_all_that_its_source_asks_for(target: TargetSpec, environment: str) -> None:
    wanted = {re.split(r"[\s=<>!~\[;]", line)[0] for line in locks.requirements(target.lock_source(environment))}
    assert {name.lower().replace("_", "-") for name in wanted} <= names(target, environment)


@every_target
def test_what_the_runtime_leaves_out_is_not_in_its_lock(target: TargetSpec) -> None:
    assert not names(target, "run") & set(target.runtime.without)


@every_target
def test_the_server_finds_what_it_imports(target: TargetSpec) -> None:
    assert {"httptools", "msgspec", "numpy", "prometheus-client", "starlette", "tokenizers", "uvicorn"} <= names(
        target, "run"
    )


@every_target
def test_a_framework_that_the_image_must_not_hold_is_not_locked_for_it(target: TargetSpec) -> None:
    denied = {name for name in FRAMEWORKS if f"*/{name}/*" in target.deny}
    assert not names(target, "run") & denied


@every_target
def test_the_image_reads_tokenizer_files_as_new_as_any_exporter_writes(target: TargetSpec) -> None:
    versions = {
        name: Version(wheel.version)
        for name in target.environments
        for wheel in locks.parse(target.lock(name))
        if wheel.name == "tokenizers"
    }
    assert versions["run"] >= max(versions.values())
