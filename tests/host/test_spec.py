from pathlib import Path

import pytest

from images import spec
from images.errors import UsageError
from tests.host import samples

FACTS = """
summary = "s"
platforms = ["linux/amd64"]
size_budget_mib = 100
places = [{ name = "server-cpu", reason = "it is small" }]
{more}
[[modes]]
name = "none"
tasks = ["fill-mask", "text-classification"]
exporter = "one"
bounds = { max_abs_diff = 1e-4 }
[[modes]]
name = "half"
tasks = ["fill-mask"]
exporter = "one"
bounds = { cosine = 0.9 }
[[modes]]
name = "int8"
tasks = ["question-answering", "fill-mask"]
exporter = "two"
bounds = { agreement = 1.0 }
[runtime]
without = ["sympy"]
"""


def write(root: Path, folder: str = "some_cpu", facts: str = FACTS, more: str = "") -> Path:
    file = root / "targets" / folder / spec.FACTS
    file.parent.mkdir(parents=True)
    file.write_text(facts.replace("{more}", more))
    return root


def refused(root: Path, name: str = "some-cpu") -> str:
    with pytest.raises(UsageError) as caught:
        spec.load(name, root)
    return str(caught.value)


def test_targets_are_the_folders_with_facts_in_alphabetical_order(tmp_path: Path) -> None:
    write(tmp_path, "zebra"), write(tmp_path, "a_b_c")
    (tmp_path / "targets/__pycache__").mkdir()
    assert spec.names(tmp_path) == ["a-b-c", "zebra"]


def test_listing_targets_reads_no_facts(tmp_path: Path) -> None:
    assert spec.names(write(tmp_path, facts="broken [")) == ["some-cpu"]


def test_a_target_is_named_after_its_folder(tmp_path: Path) -> None:
    loaded = spec.load("some-cpu", write(tmp_path))
    assert (loaded.name, loaded.module, loaded.folder) == ("some-cpu", "some_cpu", tmp_path / "targets/some_cpu")


def test_modes_keep_their_order(tmp_path: Path) -> None:
    assert [mode.name for mode in spec.load("some-cpu", write(tmp_path)).modes] == ["none", "half", "int8"]


def test_tasks_are_those_of_the_modes_each_once(tmp_path: Path) -> None:
    tasks = spec.load("some-cpu", write(tmp_path)).tasks
    assert tasks == ("fill-mask", "text-classification", "question-answering")


def test_a_task_has_the_modes_that_name_it_the_default_first(tmp_path: Path) -> None:
    loaded = spec.load("some-cpu", write(tmp_path))
    assert [mode.name for mode in loaded.modes_for("fill-mask")] == ["none", "half", "int8"]
    assert [mode.name for mode in loaded.modes_for("question-answering")] == ["int8"]


def test_a_task_is_told_with_the_targets_that_have_it(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "other_cpu")
    (task, *_) = spec.load("some-cpu", tmp_path).tasks
    assert spec.by_task(tmp_path)[task] == ["other-cpu", "some-cpu"]


def test_a_target_whose_facts_are_wrong_stops_no_other(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "broken", facts="[")
    assert [target.name for target in spec.readable(tmp_path)] == ["some-cpu"]


def test_exporters_are_those_of_the_modes_each_once(tmp_path: Path) -> None:
    assert spec.load("some-cpu", write(tmp_path)).exporters == ("one", "two")


def test_the_runtime_is_locked_beside_the_exporters() -> None:
    assert samples.target().environments == ("exact", "small", "run")


def test_a_lock_lies_beside_its_source() -> None:
    target = samples.target()
    assert target.lock_source("exact").with_suffix(".txt") == target.lock("exact")


def test_only_the_runtimes_lock_leaves_packages_out(tmp_path: Path) -> None:
    loaded = spec.load("some-cpu", write(tmp_path))
    assert (loaded.without("run"), loaded.without("one")) == (("sympy",), ())


def test_an_unknown_target_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, "a_b"), write(tmp_path, "c")
    assert refused(tmp_path, "nope") == "there is no target 'nope'\n  -> the targets are: a-b, c"


def test_no_folder_outside_targets_is_a_target(tmp_path: Path) -> None:
    assert "there is no target '../targets/some-cpu'" in refused(write(tmp_path), "../targets/some-cpu")


def test_an_unknown_fact_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    said = refused(write(tmp_path, more="sizes = 1"))
    assert "targets/some_cpu/target.toml: Object contains unknown field `sizes`" in said
    assert "size_budget_mib" in said


@pytest.mark.parametrize("fact", ["name", "folder"])
def test_the_facts_that_the_folder_gives_are_not_among_the_known_keys(fact: str, tmp_path: Path) -> None:
    known = refused(write(tmp_path, more="sizes = 1")).partition("the keys are: ")[2].split(", ")
    assert fact not in known


def test_a_fact_of_the_wrong_kind_is_refused_with_its_path(tmp_path: Path) -> None:
    assert "got `str` - at `$.cpu_only`" in refused(write(tmp_path, more='cpu_only = "yes"'))


def test_an_unknown_bound_is_refused_with_its_path(tmp_path: Path) -> None:
    facts = FACTS.replace("cosine = 0.9", "cosin = 0.9")
    assert "unknown field `cosin` - at `$.modes[1].bounds`" in refused(write(tmp_path, facts=facts))


def test_broken_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "target.toml: Invalid value (at line 2" in refused(write(tmp_path, facts="\nsummary = some words\n"))


@pytest.mark.parametrize("fact", ["platforms", "tasks"])
def test_a_target_without_platforms_or_a_mode_without_tasks_is_refused(fact: str, tmp_path: Path) -> None:
    lines = [f"{fact} = []" if line.startswith(fact) else line for line in FACTS.splitlines()]
    assert f".{fact}`" in refused(write(tmp_path, facts="\n".join(lines)))


def test_a_target_that_belongs_nowhere_is_refused(tmp_path: Path) -> None:
    lines = FACTS.splitlines()
    assert "`places`" in refused(write(tmp_path, facts="\n".join(line for line in lines if "places" not in line)))


def test_a_target_without_modes_is_refused(tmp_path: Path) -> None:
    facts = FACTS.partition("[[modes")[0] + "modes = []\n"
    assert "$.modes" in refused(write(tmp_path, facts=facts))


def test_a_build_installs_its_exporter_and_the_runtime(tmp_path: Path) -> None:
    assert spec.load("some-cpu", write(tmp_path)).used("two") == ("two", "run")


def test_a_build_also_installs_the_exporter_that_records_the_original(tmp_path: Path) -> None:
    loaded = spec.load("some-cpu", write(tmp_path, more='reference = "one"'))
    assert loaded.used("two") == ("one", "two", "run")
    assert loaded.used("one") == ("one", "run")


def test_an_exporters_lock_leaves_out_what_the_target_says(tmp_path: Path) -> None:
    loaded = spec.load("some-cpu", write(tmp_path, more='left_out = { two = ["torch"] }'))
    assert (loaded.without("one"), loaded.without("two"), loaded.without("run")) == ((), ("torch",), ("sympy",))
