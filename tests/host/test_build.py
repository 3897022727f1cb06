import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from images import build, candidate, engine, engines, record, remote, spec, wheels
from images.build import Built, Request
from images.candidate import Prepared
from images.engine import ImageFacts
from images.errors import (
    BusyError,
    DiskFullError,
    GateError,
    LockError,
    UnreachableError,
    UsageError,
)
from images.jobs import Order
from images.plan import LABEL, Options
from images.progress import Quiet
from images.record import Override
from images.service import Wishes
from tests.host import samples
from tests.host.samples import FakeEngine

TARGET = next(name for name in spec.names() if "feature-extraction" in spec.load(name).tasks)


# Nothing to do


def machine_with(**changes: Any) -> FakeEngine:
    job = samples.plan()
    facts: dict[str, Any] = {"id": "sha256:final", "size": 1, "layers": (), "labels": {f"{LABEL}.plan": job.digest}}
    return FakeEngine(store={job.tag: ImageFacts(**facts | changes)})


def current(machine: FakeEngine, dist: Path, accepted: Override | None = None, override: str = "") -> bool:
    record.write(dist, samples.record(override=accepted))
    return build.current(machine, samples.plan(override=override), dist) is not None


def test_an_image_of_the_same_plan_is_current(tmp_path: Path) -> None:
    assert current(machine_with(), tmp_path)


def test_an_image_without_a_record_is_not(tmp_path: Path) -> None:
    assert build.current(machine_with(), samples.plan(), tmp_path) is None


def test_a_record_without_an_image_is_not(tmp_path: Path) -> None:
    assert not current(FakeEngine(), tmp_path)


def test_an_image_of_another_plan_is_not(tmp_path: Path) -> None:
    assert not current(machine_with(labels={f"{LABEL}.plan": "sha256:other"}), tmp_path)


def test_an_image_that_somebody_else_gave_the_name_is_not(tmp_path: Path) -> None:
    assert not current(machine_with(id="sha256:other"), tmp_path)


def test_an_image_without_labels_is_not(tmp_path: Path) -> None:
    assert not current(machine_with(labels={}), tmp_path)


ACCEPTED = Override(reason="ticket 7", misses=["a"])


@pytest.mark.parametrize(("override", "is_current"), [("ticket 7", True), ("", False), ("ticket 8", False)])
def test_a_failure_that_was_accepted_must_be_accepted_again(override: str, is_current: bool, tmp_path: Path) -> None:
    assert current(machine_with(), tmp_path, ACCEPTED, override) is is_current


# One build of a tag at a time


def test_a_second_build_of_a_tag_is_told_to_wait(tmp_path: Path) -> None:
    with (
        build._alone("a:1", tmp_path),
        pytest.raises(BusyError, match="another build of a:1 is under way"),
        build._alone("a:1", tmp_path),
    ):
        pass


def test_builds_of_two_tags_do_not_wait(tmp_path: Path) -> None:
    with build._alone("a:1", tmp_path), build._alone("a:2", tmp_path):
        pass


def test_a_failed_build_does_not_keep_its_tag(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), build._alone("a:1", tmp_path):
        raise KeyboardInterrupt
    with build._alone("a:1", tmp_path):
        pass


# Deciding


def prepare(folder: Path, cache: Path, **request: Any) -> Prepared:
    asked = Request(**{"target": TARGET, "model": str(folder), **request})
    return build.prepare(asked, samples.config(cache), Quiet())


def test_a_build_is_decided_without_an_engine(folder: Path, cache: Path) -> None:
    job = prepare(folder, cache).job
    assert (job.target.name, job.model.id, job.task) == (TARGET, folder.name, "feature-extraction")


def test_the_same_build_is_decided_the_same(folder: Path, cache: Path) -> None:
    assert prepare(folder, cache).job == prepare(folder, cache).job


def test_changed_weights_make_another_plan(folder: Path, cache: Path) -> None:
    before = prepare(folder, cache).job.digest
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert prepare(folder, cache).job.digest != before


def test_bases_that_the_configuration_names_are_not_bootstrapped(folder: Path, cache: Path) -> None:
    prepared = prepare(folder, cache)
    assert prepared.bases == ()
    assert prepared.job.args["RUNTIME_BASE"] == "reg.example/runtime@sha256:r1"
    assert prepared.job.bases == {"builder": "sha256:b1", "runtime": "sha256:r1"}


def test_an_unknown_target_is_refused_before_anything_is_fetched(cache: Path) -> None:
    with pytest.raises(UsageError, match="there is no target 'nope'"):
        prepare(Path("/nowhere"), cache, target="nope")


def test_an_unknown_mode_is_refused_before_anything_is_fetched(cache: Path) -> None:
    with pytest.raises(UsageError, match="no quantisation mode 'int2'"):
        prepare(Path("/nowhere"), cache, options=Options(mode="int2"))


def test_a_suite_that_is_not_of_the_task_is_refused(folder: Path, cache: Path) -> None:
    options = Options(suite=b'{"inputs": {"question": "a", "context": "b"}}\n')
    with pytest.raises(UsageError, match=r"^--suite, line 1: .*the task is feature-extraction"):
        prepare(folder, cache, options=options)


def test_a_stale_lock_is_refused_before_anything_is_fetched(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = samples.target(folder=folder)
    for name in target.environments:
        target.lock_source(name).write_text("numpy\n")
        target.lock(name).write_text("# requirements: sha256:" + "0" * 64 + "\n")
    monkeypatch.setattr(spec, "load", lambda _: target)
    with pytest.raises(LockError, match=r"requirements\.exact\.txt is out of date"):
        prepare(Path("/nowhere"), cache)


# The straight line

Line = Callable[..., Built]


@pytest.fixture
def line(folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Builds on an engine in memory, with no wheels."""

    def run(machine: FakeEngine, builder: str = "", **options: Any) -> Built:
        monkeypatch.setattr(engines, "require", lambda _: machine)
        monkeypatch.setattr(wheels, "collect", _no_wheels)
        asked = Request(target=TARGET, model=str(folder), options=Options(tag="a/b:c", **options), builder=builder)
        return build.build(asked, samples.config(cache), Quiet(), tmp_path / "dist")

    return run


def _no_wheels(*_: object, **__: object) -> Sequence[Path]:
    return ()


SMOKE = f"run {' '.join(['--network=none', *engine.HARDENED])} sha256:candidate smoke-test --json"


def test_an_image_is_measured_and_proved_before_it_gets_its_name(line: Line) -> None:
    machine = samples.engine()
    line(machine)
    assert machine.asked == [
        "build",
        SMOKE,
        "run --network=none sha256:candidate info --json",
        "tag sha256:candidate localhost/modelyard/",
        "relabel localhost/modelyard/candidate",
        "tag sha256:final a/b:c",
        "untag",
        "remove sha256:candidate",
    ]


def test_what_a_builder_elsewhere_built_is_proved_here(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = samples.engine()
    monkeypatch.setattr(FakeEngine, "driver", lambda *_: "remote")
    line(machine, builder="farm")
    assert machine.asked[:2] == ["build on farm", SMOKE]


def test_what_was_measured_is_in_the_labels_and_in_the_record(line: Line) -> None:
    machine = samples.engine()
    built = line(machine)
    assert machine.store["a/b:c"].labels[f"{LABEL}.gate.max_abs_diff"] == "3e-05"
    assert (built.fresh, built.record.image, built.record.sizes.total) == (True, "sha256:final", 1100)
    assert built.file.exists()


def test_the_same_build_again_asks_nothing_of_the_engine(line: Line) -> None:
    machine = samples.engine()
    first = line(machine)
    machine.asked.clear()
    again = line(machine)
    assert (again.fresh, again.record, machine.asked) == (False, first.record, [])


def test_only_the_candidate_and_its_name_are_gone_afterwards(line: Line) -> None:
    machine = samples.engine()
    line(machine)
    assert set(machine.store) == {"sha256:final", "a/b:c"}


def test_the_image_that_had_the_name_before_is_discarded(line: Line) -> None:
    machine = samples.engine()
    machine.store["a/b:c"] = ImageFacts(id="sha256:old", size=1, layers=(), labels={})
    line(machine)
    assert machine.asked[-2:] == ["discard sha256:old", "remove sha256:candidate"]


def test_a_failed_gate_names_nothing_and_leaves_nothing(line: Line, tmp_path: Path) -> None:
    machine = samples.engine(samples.failed(misses=["input 'a': cosine 0 is below the bound 1"]))
    with pytest.raises(GateError, match="input 'a'"):
        line(machine)
    assert (machine.store, (tmp_path / "dist").exists()) == ({}, False)
    assert machine.asked == ["build", SMOKE, "remove sha256:candidate"]


def test_a_failed_gate_leaves_the_image_that_has_the_name(line: Line) -> None:
    machine = samples.engine(samples.failed())
    machine.store["a/b:c"] = ImageFacts(id="sha256:old", size=1, layers=(), labels={})
    with pytest.raises(GateError):
        line(machine)
    assert set(machine.store) == {"a/b:c"}


def test_an_image_over_its_budget_is_not_even_run(line: Line) -> None:
    machine = samples.engine(files={"opt/torch/huge": 1})
    with pytest.raises(GateError, match="forbids: /opt/torch/huge"):
        line(machine)
    assert machine.asked == ["build", "remove sha256:candidate"]


def test_a_failed_gate_that_is_accepted_is_named_and_says_so(line: Line) -> None:
    machine = samples.engine(samples.failed(misses=["a"]))
    built = line(machine, override="ticket 7")
    assert built.record.override == Override(reason="ticket 7", misses=["a"])
    assert machine.store["a/b:c"].labels[f"{LABEL}.gate"] == "overridden"


def test_the_build_folder_is_gone_after_the_build(line: Line, cache: Path) -> None:
    line(samples.engine())
    assert not [path for path in (cache / "builds").iterdir() if path.is_dir()]


def test_the_output_of_the_build_is_kept(line: Line, cache: Path) -> None:
    line(samples.engine())
    assert candidate.log_file(samples.config(cache), "a/b:c").read_text() == "[run 1/1] RUN true\n"


def test_a_disk_that_fills_up_on_the_way_is_said_to_be_full(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "measure", _full)
    machine = samples.engine()
    with pytest.raises(DiskFullError):
        line(machine)
    assert machine.asked == ["build", "remove sha256:candidate"]


def _full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# A build in a cluster


@pytest.fixture
def order(tmp_path: Path) -> Order:
    image = f"docker.io/moby/buildkit@sha256:{'c3' * 32}"
    return Order(to=remote.parse("registry.example/x"), image=image, wishes=Wishes(), out=tmp_path / "job")


def test_a_job_gets_what_an_engine_would(
    order: Order, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "collect", _no_wheels)
    build.job(Request(target=TARGET, model=str(folder)), order, samples.config(cache), Quiet())
    assert {path.name for path in order.out.iterdir()} == {"build-job.yaml", "context"}
    assert (order.out / "context/Dockerfile").exists()
    assert (order.out / "context/model/config.json").samefile(folder / "config.json")


def test_a_job_that_cannot_be_written_leaves_nothing(
    order: Order, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise UnreachableError("no index")

    monkeypatch.setattr(wheels, "collect", fail)
    with pytest.raises(UnreachableError):
        build.job(Request(target=TARGET, model=str(folder)), order, samples.config(cache), Quiet())
    assert not order.out.exists()


def test_a_folder_that_is_there_is_left_alone(order: Order, folder: Path, cache: Path) -> None:
    order.out.mkdir()
    with pytest.raises(UsageError, match="is there already"):
        build.job(Request(target=TARGET, model=str(folder)), order, samples.config(cache), Quiet())
