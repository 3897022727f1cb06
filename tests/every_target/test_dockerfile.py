"""What every rendered Dockerfile keeps to: the features that all engines share, and the image's contract."""

import re

import pytest

from images import render, spec
from images.spec import TargetSpec

TARGETS = [spec.load(name) for name in spec.names()]
every_target = pytest.mark.parametrize("target", TARGETS, ids=spec.names())
LONGEST_LINE = 160


def text(target: TargetSpec) -> str:
    return render.dockerfile(target)


def instructions(target: TargetSpec) -> list[str]:
    """One string an instruction: comments left out, continued lines joined."""
    lines = [line for line in text(target).splitlines() if not line.startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def runtime(target: TargetSpec) -> list[str]:
    """The instructions of the last stage."""
    whole = instructions(target)
    last = max(place for place, line in enumerate(whole) if line.startswith("FROM "))
    return whole[last:]


@every_target
def test_the_committed_file_is_the_rendered_one(target: TargetSpec) -> None:
    assert (target.folder / "Dockerfile").read_text() == text(target), f"run `invoke render --target {target.name}`"


@every_target
def test_no_frontend_is_fetched(target: TargetSpec) -> None:
    assert not re.search(r"^#\s*syntax\s*=", text(target), re.MULTILINE | re.IGNORECASE)


@every_target
@pytest.mark.parametrize(
    "feature", ["<<", "COPY --link", "ADD ", "--checksum", "--network=", "--start-interval", "--parents"]
)
def test_no_feature_is_used_that_some_engine_lacks(feature: str, target: TargetSpec) -> None:
    assert not [line for line in instructions(target) if feature in line]


@every_target
def test_nothing_of_the_template_is_left(target: TargetSpec) -> None:
    assert not re.search(r"\{[{%#]|[}%#]\}", text(target))


@every_target
def test_no_line_ends_in_blanks_and_none_is_very_long(target: TargetSpec) -> None:
    lines = text(target).splitlines()
    assert not [line for line in lines if line != line.rstrip() or len(line) > LONGEST_LINE]


@every_target
def test_there_is_one_blank_line_at_most_and_one_newline_at_the_end(target: TargetSpec) -> None:
    assert "\n\n\n" not in text(target)
    assert re.search(r"[^\n]\n\Z", text(target))


@every_target
def test_every_stage_starts_from_a_base_of_the_build_or_from_another_stage(target: TargetSpec) -> None:
    found = [re.fullmatch(r"FROM (\S+) AS (\S+)", line) for line in instructions(target) if line.startswith("FROM")]
    assert all(found)
    known = {"${BUILDER_BASE}", "${RUNTIME_BASE}", "exporter-${EXPORTER}"}
    assert {match[1] for match in found if match} <= known | {match[2] for match in found if match}


@every_target
def test_every_exporter_has_a_stage(target: TargetSpec) -> None:
    for name in target.exporters:
        assert f"FROM ${{BUILDER_BASE}} AS exporter-{name}" in instructions(target)


@every_target
def test_the_originals_answers_are_recorded_in_the_exporter_that_is_named_for_it(target: TargetSpec) -> None:
    named = target.reference or "${EXPORTER}"
    assert not target.reference or target.reference in target.exporters
    assert f"FROM exporter-{named} AS reference" in instructions(target)


@every_target
def test_packages_come_from_the_context_and_are_checked_by_hash(target: TargetSpec) -> None:
    installs = [line for line in instructions(target) if "pip install" in line]
    assert len(installs) == len(target.environments)
    for line in installs:
        assert {"--no-index", "--require-hashes", "--no-deps", "--find-links=/wheels"} <= set(line.split())


@every_target
def test_no_program_that_would_need_a_network_is_called(target: TargetSpec) -> None:
    assert not re.search(r"\b(curl|wget|apt-get|apt|git|huggingface-cli|hf)\b", "\n".join(instructions(target)))


@every_target
def test_no_model_is_named(target: TargetSpec) -> None:
    arguments = [line.split()[1].partition("=")[0] for line in instructions(target) if line.startswith("ARG")]
    assert arguments == ["BUILDER_BASE", "RUNTIME_BASE", "EXPORTER"]


@every_target
def test_nothing_runs_in_the_last_stage_for_it_has_no_shell(target: TargetSpec) -> None:
    assert not [line for line in runtime(target) if line.startswith(("RUN", "SHELL"))]


@every_target
def test_the_most_stable_layer_comes_first_and_the_artifact_last(target: TargetSpec) -> None:
    copied = [line.split()[-1] for line in runtime(target) if line.startswith("COPY")]
    assert copied[-2:] == ["/opt/modelyard", "/artifact"]


@every_target
@pytest.mark.parametrize(
    "line",
    [
        "USER 65532:65532",
        "STOPSIGNAL SIGTERM",
        "EXPOSE 8080",
        'ENTRYPOINT ["/usr/bin/python3", "-m", "images.inside"]',
        'CMD ["serve"]',
    ],
)
def test_the_image_keeps_the_contract(line: str, target: TargetSpec) -> None:
    assert line in runtime(target)


@every_target
def test_whatever_starts_a_process_is_a_list(target: TargetSpec) -> None:
    starts = [line for line in runtime(target) if re.search(r"(ENTRYPOINT|CMD) ", line)]
    assert starts
    assert all(re.search(r"(ENTRYPOINT|CMD) \[.*\]$", line) for line in starts)


@every_target
def test_threads_do_not_spin(target: TargetSpec) -> None:
    assert "OMP_WAIT_POLICY=PASSIVE" in "\n".join(runtime(target))
