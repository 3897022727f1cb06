"""What target.toml says, held against the rest of the project."""

import re

import pytest

from images import locks, platforms, spec
from images.config import ROOT
from images.inside import tasks
from images.inside.records import Bounds
from images.spec import Mode, TargetSpec

TARGETS = [spec.load(name) for name in spec.names()]
every_target = pytest.mark.parametrize("target", TARGETS, ids=spec.names())
every_mode = pytest.mark.parametrize(
    ("target", "mode"),
    [
        pytest.param(target, mode, id=f"{target.name}-{mode.name}-{mode.exporter}")
        for target in TARGETS
        for mode in target.modes
    ],
)
MOST_LETTERS = 72
PACKAGES = {"PIL": "pillow", "pillow.libs": "pillow"}
"""Whose folder it is, where the folder is not called as the package."""


def test_there_are_targets() -> None:
    assert TARGETS


@every_target
def test_the_folder_is_named_as_a_module(target: TargetSpec) -> None:
    assert target.module.isidentifier()
    assert target.module.islower()


@every_target
def test_the_folder_holds_what_the_build_reads(target: TargetSpec) -> None:
    modules = {f"{module}.py" for module in target.runtime.modules}
    found = {path.name for path in target.folder.iterdir()}
    assert {"target.toml", "Dockerfile.j2", "Dockerfile", "export.py", *modules} <= found


@every_target
def test_a_target_answers_by_one_of_the_modules_that_the_image_loads(target: TargetSpec) -> None:
    assert {"run", "generate", "engine"} & set(target.runtime.modules)


@every_target
def test_the_summary_is_one_short_line(target: TargetSpec) -> None:
    assert 0 < len(target.summary) <= MOST_LETTERS
    assert target.summary == target.summary.strip().rstrip(".")
    assert target.summary.isprintable()


@every_target
def test_tasks_are_known_and_named_once(target: TargetSpec) -> None:
    assert set(target.tasks) <= {*tasks.NAMES, "text-generation"}
    assert len(set(target.tasks)) == len(target.tasks)


@every_target
def test_platforms_are_known(target: TargetSpec) -> None:
    assert set(target.platforms) <= set(platforms.MACHINES)


@every_mode
def test_a_mode_is_a_word_for_tags(target: TargetSpec, mode: Mode) -> None:
    del target
    assert mode.name.isascii()
    assert mode.name.replace("-", "").replace(".", "").isalnum()


@every_mode
def test_a_modes_bounds_hold_something(target: TargetSpec, mode: Mode) -> None:
    del target
    assert mode.bounds != Bounds()


@every_mode
def test_a_modes_bounds_are_possible(target: TargetSpec, mode: Mode) -> None:
    del target
    bounds = mode.bounds
    assert bounds.max_abs_diff is None or bounds.max_abs_diff > 0
    assert bounds.cosine is None or 0 < bounds.cosine <= 1
    assert bounds.agreement is None or 0 < bounds.agreement <= 1


@every_target
def test_the_first_mode_is_the_exact_one_and_held_to_numbers(target: TargetSpec) -> None:
    mode, bounds = target.modes[0], target.modes[0].bounds
    assert mode.name == "none"
    # An engine shows its tokens and no numbers: then every one of them must be the original's.
    assert (bounds.max_abs_diff is not None and bounds.agreement == 1.0) or bounds.greedy == 1.0


@every_target
def test_a_refused_mode_has_a_reason_and_is_no_mode(target: TargetSpec) -> None:
    assert all(reason.strip() for reason in target.refused.values())
    assert not target.refused.keys() & {mode.name for mode in target.modes}


@every_target
def test_a_target_says_where_it_belongs_each_place_once(target: TargetSpec) -> None:
    names = [place.name for place in target.places]
    assert len(set(names)) == len(names)
    assert not target.places[0].fallback
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


@every_target
def test_the_reason_for_a_place_is_one_line(target: TargetSpec) -> None:
    for place in target.places:
        assert place.reason == place.reason.strip().rstrip(".")
        assert place.reason.isprintable()


@every_mode
def test_what_upstream_gives_up_names_a_living_target_or_exporter(target: TargetSpec, mode: Mode) -> None:
    living = {each.exporter for each in target.modes if not each.deprecated} | set(spec.names()) - {target.name}
    assert not mode.deprecated or living & set(re.findall(r"[\w-]+", mode.deprecated))


@every_mode
def test_the_bits_of_a_weight_are_those_of_a_number(target: TargetSpec, mode: Mode) -> None:
    del target
    assert mode.bits in {0, 4, 8, 16, 32}


@every_target
def test_a_refused_task_has_a_reason_and_is_no_task(target: TargetSpec) -> None:
    assert all(reason.strip() for reason in target.refused_tasks.values())
    assert not target.refused_tasks.keys() & set(target.tasks)


@every_target
def test_all_modes_state_the_bits_of_a_weight_or_none_converts_any(target: TargetSpec) -> None:
    assert len({mode.bits > 0 for mode in target.modes}) == 1


@every_mode
def test_an_exporter_is_a_name_for_stages_and_files(target: TargetSpec, mode: Mode) -> None:
    del target
    name = mode.exporter
    assert name.replace("-", "_").isidentifier()
    assert name not in {"run", "export", "packages", "code", "runtime"}


@every_target
def test_forbidden_files_are_globs_on_absolute_paths(target: TargetSpec) -> None:
    assert target.deny
    assert all(glob.startswith(("/", "*")) for glob in target.deny)


@every_target
def test_there_is_no_shell_and_no_installer_in_the_image(target: TargetSpec) -> None:
    assert {"/usr/bin/sh", "/usr/bin/bash", "*/pip/*"} <= set(target.deny)


@every_target
def test_an_image_for_cpus_forbids_cuda(target: TargetSpec) -> None:
    assert not target.cpu_only or "*/nvidia/*" in target.deny


@every_target
def test_what_is_trimmed_stays_below_the_packages(target: TargetSpec) -> None:
    assert not [glob for glob in target.runtime.trim if glob.startswith("/") or ".." in glob or " " in glob]


@every_target
def test_what_is_trimmed_belongs_to_a_package_of_the_lock(target: TargetSpec) -> None:
    locked = [wheel.name.replace("-", "_") for wheel in locks.parse(target.lock("run"))]
    folders = {glob.partition("/")[0].split(".")[0] for glob in target.runtime.trim}
    owners = {PACKAGES.get(folder, folder) for folder in folders}
    assert not [owner for owner in owners if not any(name.startswith(owner) for name in locked)]


@every_target
def test_no_part_of_numpy_is_trimmed_that_the_server_uses(target: TargetSpec) -> None:
    trimmed = {glob.removeprefix("numpy/") for glob in target.runtime.trim if glob.startswith("numpy/")}
    own = [target.folder / f"{module}.py" for module in target.runtime.modules]
    used = [re.findall(r"\bnp\.(\w+)", file.read_text()) for file in [*(ROOT / "images/inside").rglob("*.py"), *own]]
    assert not trimmed.intersection(*[set().union(*used)])


@every_target
def test_the_budget_is_a_size(target: TargetSpec) -> None:
    assert target.size_budget_mib > 0
