"""What the output of a build says: its steps, and why it failed."""

from pathlib import Path

import pytest

from images import candidate
from images.errors import EngineError, ModelError
from images.inside import original
from tests.host.samples import Listening


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("#7 [exporter-optimum 2/3] RUN python3 -m venv /opt/venv", "exporter-optimum: RUN python3 -m venv /opt/venv"),
        ("#19 [export  2/12] COPY images images", "export: COPY images images"),
        ("STEP 3/7: RUN true", "RUN true"),
        ("[1/2] STEP 3/7: RUN true", "RUN true"),
    ],
)
def test_a_step_is_shown(line: str, shown: str) -> None:
    listening = Listening()
    candidate._show(line, listening)
    assert listening.details == [shown]


@pytest.mark.parametrize(
    "line", ["#1 [internal] load build definition from Dockerfile", "#19 CACHED", "#19 0.1 [1/2] loading", "", "COMMIT"]
)
def test_other_lines_are_not(line: str) -> None:
    listening = Listening()
    candidate._show(line, listening)
    assert listening.details == []


def explained(folder: Path, output: str, hint: str = "") -> Exception:
    (folder / "log").write_text(output)
    return candidate._explained(EngineError("a build step failed", hint), folder / "log")


def test_what_a_step_says_of_the_model_is_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        original.refuse('no "weights" {}', "add them")
    error = explained(tmp_path, f"#9 1.2 starting\n#9 1.3 {capsys.readouterr().err}#9 ERROR: executor failed\n")
    assert (type(error), str(error)) == (ModelError, 'no "weights" {}\n  -> add them')


def test_any_other_failure_says_where_the_whole_output_is(tmp_path: Path) -> None:
    error = explained(tmp_path, "#9 1.2 Traceback\n")
    assert str(error) == f"a build step failed\n  -> the whole output is in {tmp_path}/log"


def test_a_hint_is_kept(tmp_path: Path) -> None:
    assert str(explained(tmp_path, "", "run `invoke setup`")) == "a build step failed\n  -> run `invoke setup`"
