import json
from pathlib import Path

import msgspec
import pytest

from images import record
from images.engine import ImageFacts
from images.errors import EngineError, GateError, UsageError
from images.inside.compare import Figures
from images.inside.report import Report, TokenLatency
from images.record import MIB, Sizes
from tests.host import samples
from tests.host.samples import FakeEngine

TARGET = samples.target()


def measure(**sizes: int) -> Sizes:
    return record.measure(FakeEngine(files_=sizes), "sha256:1", TARGET)


# Measuring


def test_the_budget_holds_all_but_the_artifact() -> None:
    assert measure(**{"artifact/model": 1000, "usr/bin/python3": 100, "artifact.txt": 1}) == Sizes(
        total=1101, artifact=1000, without_artifact=101
    )


def test_an_image_at_its_budget_passes() -> None:
    assert measure(**{"usr/lib/x": MIB, "artifact/model": MIB}).without_artifact == MIB


def test_an_image_over_its_budget_fails_with_both_figures() -> None:
    with pytest.raises(GateError, match=r"without its model has 1\.5 MiB; some-cpu has a budget of 1 MiB") as caught:
        measure(**{"usr/lib/x": MIB * 3 // 2})
    assert "targets/some_cpu/target.toml" in caught.value.hint


@pytest.mark.parametrize("path", ["opt/packages/torch/__init__.py", "bin/sh"])
def test_a_forbidden_file_fails_and_is_named(path: str) -> None:
    with pytest.raises(GateError, match=f"holds files that some-cpu forbids: /{path}"):
        measure(**{path: 1})


@pytest.mark.parametrize("path", ["opt/packages/torchvision.py", "usr/bin/sh2", "opt/bin/shell"])
def test_a_file_that_is_only_called_alike_does_not(path: str) -> None:
    assert measure(**{path: 1}).total == 1


def test_of_many_forbidden_files_five_are_named() -> None:
    with pytest.raises(GateError) as caught:
        measure(**{f"torch/{number}": 1 for number in range(9)}, **{f"a/torch/{number}": 1 for number in range(9)})
    assert caught.value.what.count("/torch/") == 5


# Asking the image


def test_the_image_is_asked_without_network_what_it_is() -> None:
    machine = samples.engine()
    assert record.info(machine, "sha256:1") == samples.info()
    assert machine.asked == ["run --network=none sha256:1 info --json"]


def test_an_image_that_does_not_say_what_it_is_fails() -> None:
    with pytest.raises(EngineError, match="does not describe itself: it broke"):
        record.info(FakeEngine(), "sha256:1")


# Figures for the labels


def test_labels_hold_the_worst_figures_the_latency_and_the_size() -> None:
    sizes = Sizes(total=3, artifact=1, without_artifact=2)
    assert record.figures(
        samples.report(peak_memory_bytes=300, cpus=1.234), sizes, samples.info(memory_bytes=200), ""
    ) == {
        "gate": "passed",
        "gate.max_abs_diff": "3e-05",
        "gate.agreement": "1",
        "latency.p50-ms": "3.00",
        "latency.p95-ms": "4.00",
        "size.without-model": "2",
        "memory.peak": "300",
        "cpu.used": "1.23",
        "memory.needed": "200",
    }


def test_a_model_that_generates_is_labelled_with_the_latency_of_its_tokens() -> None:
    tokens = TokenLatency(first_p50_ms=80, first_p95_ms=90, next_p50_ms=8, next_p95_ms=9.5)
    labels = record.figures(
        samples.report(latency=None, token_latency=tokens), samples.record().sizes, samples.info(), ""
    )
    assert {key: value for key, value in labels.items() if key.startswith("latency")} == {
        "latency.first-p50-ms": "80.00",
        "latency.first-p95-ms": "90.00",
        "latency.next-p50-ms": "8.00",
        "latency.next-p95-ms": "9.50",
    }


def test_an_accepted_failure_is_in_the_labels_with_its_reason() -> None:
    verdict = samples.failed(figures=[Figures(case="a", agreement=0.5)], latency=None)
    labels = record.figures(verdict, samples.record().sizes, samples.info(), "ticket 7")
    assert (labels["gate"], labels["gate.override"], labels["gate.agreement"]) == ("overridden", "ticket 7", "0.5")


def test_a_reason_that_was_not_needed_is_not_in_the_labels() -> None:
    assert record.figures(samples.report(), samples.record().sizes, samples.info(), "ticket 7")["gate"] == "passed"


def test_a_report_without_latency_leaves_its_labels_out() -> None:
    labels = record.figures(samples.failed(latency=None), samples.record().sizes, samples.info(), "x")
    assert not [key for key in labels if key.startswith("latency")]


# On disk


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = samples.record()
    record.write(tmp_path, written)
    assert record.read(tmp_path, written.reference) == written


def test_a_record_lies_in_a_folder_of_its_images_name(tmp_path: Path) -> None:
    file = record.write(tmp_path, samples.record(reference="localhost:5000/team/name:tag"))
    assert file.relative_to(tmp_path).as_posix() == "localhost@5000+team+name@tag/record.json"


def test_writing_leaves_nothing_half_made(tmp_path: Path) -> None:
    file = record.write(tmp_path, samples.record())
    assert [path.name for path in file.parent.iterdir()] == ["record.json"]


def test_an_image_that_was_not_built_here_has_no_record(tmp_path: Path) -> None:
    assert record.read(tmp_path, "name:tag") is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"schema": 2}'])
def test_a_record_of_another_form_is_none(content: bytes, tmp_path: Path) -> None:
    file = record.write(tmp_path, samples.record())
    file.write_bytes(content)
    assert record.read(tmp_path, samples.record().reference) is None


def test_the_newest_image_of_a_target_is_found(tmp_path: Path) -> None:
    for day, target in ((21, "some-cpu"), (23, "some-cpu"), (22, "some-cpu"), (24, "other-cpu")):
        record.write(
            tmp_path,
            samples.record(
                reference=f"a/b:{day}", created=f"2026-11-{day}T00:00:00Z", info=samples.info(target=target)
            ),
        )
    assert record.newest(tmp_path, "some-cpu") == "a/b:23"


def test_a_broken_record_does_not_hide_the_others(tmp_path: Path) -> None:
    record.write(tmp_path, samples.record(reference="a:1")).write_text("{")
    record.write(tmp_path, samples.record(reference="a:2"))
    assert record.newest(tmp_path, "some-cpu") == "a:2"


def test_a_target_without_an_image_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="no image of some-cpu was built here\n  -> run `invoke build --target some-cpu`"
    ):
        record.newest(tmp_path / "missing", "some-cpu")


def test_the_time_is_in_utc_with_whole_seconds() -> None:
    assert len(record.now()) == len(samples.CREATED)
    assert record.now().endswith("Z")


def test_the_json_for_scripts_is_the_record() -> None:
    assert msgspec.json.decode(record.as_json(samples.record()), type=record.Record) == samples.record()


# Made of a build


def made(override: str = "", verdict: Report | None = None) -> record.Record:
    machine = samples.engine()
    machine.store["name"] = ImageFacts(id="sha256:7", size=1, layers=("sha256:1", "sha256:2"), labels={})
    return record.make(
        samples.plan(override=override),
        machine,
        "name",
        materials=record.Materials(files=[]),
        sizes=samples.record().sizes,
        facts=samples.info(),
        verdict=verdict or samples.report(),
        created=samples.CREATED,
    )


def test_a_record_names_the_image_by_id_and_layers() -> None:
    assert (made().image, made().layers) == ("sha256:7", ["sha256:1", "sha256:2"])


def test_a_record_names_the_plan_and_the_bases() -> None:
    assert (made().plan, made().bases) == (samples.plan().digest, samples.record().bases)


def test_a_passed_gate_needs_no_override() -> None:
    assert made(override="ticket 7").override is None


def test_an_accepted_failure_is_kept_with_its_reason_and_misses() -> None:
    kept = made(override="ticket 7", verdict=samples.failed(misses=["a"]))
    assert kept.override == record.Override(reason="ticket 7", misses=["a"])


def test_an_image_that_is_gone_has_no_record() -> None:
    with pytest.raises(EngineError, match="the image gone is gone"):
        record.make(
            samples.plan(),
            FakeEngine(),
            "gone",
            materials=record.Materials(files=[]),
            sizes=samples.record().sizes,
            facts=samples.info(),
            verdict=samples.report(),
            created=samples.CREATED,
        )


# Where it went


def push(reference: str, digest: str) -> record.Pushed:
    return record.Pushed(reference=reference, digest=digest, at="now", unverified=False, attached={})


def test_a_record_keeps_the_last_push_of_each_reference() -> None:
    known = samples.record()
    for entry in (push("a/m:1", "sha256:1"), push("b/m:1", "sha256:1"), push("a/m:1", "sha256:2")):
        known = record.with_push(known, entry)
    assert [(each.reference, each.digest) for each in known.pushed] == [("b/m:1", "sha256:1"), ("a/m:1", "sha256:2")]


def test_a_record_is_found_by_the_images_id(tmp_path: Path) -> None:
    record.write(tmp_path, samples.record(reference="a:1", image="sha256:1"))
    record.write(tmp_path, samples.record(reference="b:1", image="sha256:2"))
    found = record.by_image(tmp_path, "sha256:2")
    assert found
    assert found.reference == "b:1"
    assert record.by_image(tmp_path, "sha256:3") is None


def test_a_record_names_what_the_image_was_made_of(tmp_path: Path) -> None:
    machine = samples.engine()
    machine.store["name"] = ImageFacts(id="sha256:7", size=1, layers=(), labels={})
    materials = record.Materials(files=[], wheels={"run": {"a==1": "0" * 64}}, revision="c0ffee")
    known = record.make(
        samples.plan(),
        machine,
        "name",
        materials=materials,
        sizes=samples.record().sizes,
        facts=samples.info(),
        verdict=samples.report(),
        created=samples.CREATED,
    )
    assert (known.wheels, known.revision) == (materials.wheels, materials.revision)
    record.write(tmp_path, known)
    assert record.read(tmp_path, known.reference) == known


def test_a_record_of_before_there_were_pushes_is_read(tmp_path: Path) -> None:
    file = record.write(tmp_path, samples.record())
    old = {
        key: value for key, value in json.loads(file.read_text()).items() if key not in {"pushed", "wheels", "revision"}
    }
    file.write_text(json.dumps(old))
    assert record.read(tmp_path, samples.record().reference) == samples.record()
