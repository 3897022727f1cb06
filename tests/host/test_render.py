from pathlib import Path

import jinja2
import pytest

from images import render
from tests.host import samples

SMALLEST = '{% extends "export.Dockerfile.j2" %}\n'


def rendered(folder: Path, template: str = SMALLEST, **facts: object) -> str:
    home = folder / "targets/some_cpu"
    home.mkdir(parents=True)
    (home / render.TEMPLATE).write_text(template)
    return render.dockerfile(samples.target(folder=home, **facts))


def stages(text: str) -> list[str]:
    return [line.rpartition(" AS ")[2] for line in text.splitlines() if line.startswith("FROM ")]


def test_a_target_needs_no_more_than_to_name_its_family(tmp_path: Path) -> None:
    assert stages(rendered(tmp_path)) == [
        *("exporter-exact", "exporter-small", "reference", "export", "packages", "code", "runtime")
    ]


def test_every_exporter_installs_its_own_lock(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert [text.count(f"requirements.{name}.txt,target") for name in ("exact", "small", "run")] == [1, 1, 1]


def test_the_first_exporter_is_the_arguments_default(tmp_path: Path) -> None:
    assert "ARG EXPORTER=exact\n" in rendered(tmp_path)


def test_what_the_target_trims_is_removed_from_the_packages(tmp_path: Path) -> None:
    runtime = type(samples.target().runtime)(trim=("numpy/f2py", "numpy/*.lib"))
    assert "rm -rf /packages/bin \\\n        /packages/numpy/f2py \\\n        /packages/numpy/*.lib\n" in rendered(
        tmp_path, runtime=runtime
    )


def test_a_target_that_trims_nothing_leaves_no_dangling_line(tmp_path: Path) -> None:
    assert "rm -rf /packages/bin\n" in rendered(tmp_path)


def test_a_targets_block_lands_in_the_environment(tmp_path: Path) -> None:
    template = SMALLEST + "{% block environment %} \\\n    SPEED=11{% endblock %}"
    assert "OMP_WAIT_POLICY=PASSIVE \\\n    SPEED=11\n" in rendered(tmp_path, template)


def test_the_header_says_where_it_came_from(tmp_path: Path) -> None:
    assert rendered(tmp_path).startswith(
        "# Rendered from targets/some_cpu/Dockerfile.j2 by `invoke render --target some-cpu`. Generated, do not edit.\n"
    )


def test_an_unknown_fact_is_an_error_and_not_an_empty_string(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="has no attribute 'sizes'"):
        rendered(tmp_path, SMALLEST + "{% block environment %}{{ target.sizes }}{% endblock %}")


def test_a_family_of_its_own_must_fill_every_block(tmp_path: Path) -> None:
    with pytest.raises(jinja2.TemplateRuntimeError, match="Required block 'stages' not found"):
        rendered(tmp_path, '{% extends "base.Dockerfile.j2" %}\n')
