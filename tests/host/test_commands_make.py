"""The commands that build: what they refuse, what they print, and what reaches the build."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from images import build, spec
from images.errors import EngineError
from images.plan import Options
from tests.host.invoking import TARGET, Invoke


def remembering(asked: list[build.Request]) -> Callable[..., NoReturn]:
    def fail(request: build.Request, *_: object) -> NoReturn:
        asked.append(request)
        raise EngineError("that is enough")

    return fail


def test_a_build_without_a_target_lists_them(invoke: Invoke) -> None:
    code, _, err = invoke("build")
    assert (code, err) == (
        2,
        f"error: no target was named\n  -> add --target T; the targets are: {', '.join(spec.names())}\n",
    )


def test_a_broken_line_of_a_suite_is_named_by_its_number(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"inputs": "a"}\n{"inputs": \n')
    code, _, err = invoke("build", "--target", TARGET, "--suite", tmp_path / "mine.jsonl")
    assert code == 2
    assert err.startswith(f"error: {tmp_path}/mine.jsonl, line 2 is not JSON: ")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--suite", "/nowhere.jsonl", "--suite /nowhere.jsonl cannot be read: No such file or directory"),
        ("--quantize", "int2", f"{TARGET} has no quantisation mode 'int2'"),
        ("--tag", "Not/Valid", "--tag 'Not/Valid' is not an image reference"),
        ("--pooling", "median", "there is no pooling 'median'"),
        ("--max-length", "-1", "--max-length -1 is no length"),
    ],
)
def test_a_wrong_option_is_a_usage_error(option: str, value: str, message: str, invoke: Invoke, folder: Path) -> None:
    code, _, err = invoke("build", "--target", TARGET, "--model", folder, option, value)
    assert (code, err.splitlines()[-2]) == (2, f"error: {message}")


def test_a_folder_that_is_no_model_is_a_model_error(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = invoke("build", "--target", TARGET, "--model", tmp_path / "empty")
    assert (code, out) == (3, "")
    assert "error: " in err


def test_a_base_that_can_move_is_a_usage_error(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_RUNTIME_BASE", "debian:12")
    code, _, err = invoke("build", "--target", TARGET)
    assert (code, err.partition(":")[0]) == (2, "error")
    assert "a base image is named by digest" in err


def test_targets_as_json_are_for_scripts(invoke: Invoke) -> None:
    code, out, _ = invoke("targets", "--json")
    listed = json.loads(out)
    assert (code, [entry["name"] for entry in listed]) == (0, spec.names())
    assert set(listed[0]) == {
        "name",
        "summary",
        "tasks",
        "modes",
        "exporters",
        "options",
        "platforms",
        "size_budget_mib",
    }


def test_targets_are_listed_for_people_too(invoke: Invoke) -> None:
    out = invoke("targets")[1]
    assert [line for line in out.splitlines() if not line.startswith(" ")] == spec.names()


def test_a_recommendation_names_targets_and_what_to_type(invoke: Invoke, folder: Path) -> None:
    code, out, _ = invoke("recommend", "--model", folder)
    assert code == 0
    assert f"invoke build --target {TARGET} --model {folder}\n" in out


def test_a_recommendation_as_json_prints_nothing_else(invoke: Invoke, folder: Path) -> None:
    code, out, err = invoke("recommend", "--model", folder, "--json")
    assert (code, err) == (0, "")
    assert set(json.loads(out)) == {"model", "places", "others"}


def test_a_place_that_no_target_is_for_is_refused_before_the_model_is_looked_at(invoke: Invoke) -> None:
    code, _, err = invoke("recommend", "--model", "/no/such/model", "--for", "moon")
    assert (code, err.splitlines()[0]) == (2, "error: no target is for 'moon'")


def test_a_model_that_is_not_there_is_no_traceback(invoke: Invoke) -> None:
    code, _, err = invoke("recommend", "--model", "/no/such/model")
    assert (code, "there is no folder" in err) == (3, True)


def test_a_dry_run_says_what_would_be_built(invoke: Invoke, folder: Path) -> None:
    code, out, _ = invoke("build", "--target", TARGET, "--model", folder, "--dry-run")
    assert code == 0
    assert f"tag       modelyard/tiny:{TARGET}\n" in out


def test_a_dry_run_as_json_prints_nothing_else(invoke: Invoke, folder: Path) -> None:
    code, out, err = invoke("build", "--target", TARGET, "--model", folder, "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["tag"] == f"modelyard/tiny:{TARGET}"


def test_every_option_reaches_the_build(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[build.Request] = []
    monkeypatch.setattr(build, "build", remembering(asked))
    (tmp_path / "mine.jsonl").write_text('{"inputs": "a"}\n')
    invoke(
        *("build", "--target", TARGET, "--model", "a/b@main", "--task", "fill-mask", "--quantize", "int8"),
        *("--suite", tmp_path / "mine.jsonl", "--tag", "x:y", "--pooling", "cls", "--max-length", "64"),
        *("--accept-failed-gate", "ticket 7", "--allow-pickle", "--trust-remote-code"),
    )
    assert asked[0] == build.Request(
        target=TARGET,
        model="a/b@main",
        task="fill-mask",
        options=Options(
            mode="int8",
            tag="x:y",
            suite=b'{"inputs": "a"}\n',
            pooling="cls",
            max_length=64,
            trust_remote_code=True,
            allow_pickle=True,
            override="ticket 7",
        ),
    )


def test_without_a_model_the_first_example_is_built(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[build.Request] = []
    monkeypatch.setattr(build, "build", remembering(asked))
    invoke("build", "--target", TARGET)
    assert asked[0].model.startswith("pypi:")


def test_an_example_is_named_by_its_name(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[build.Request] = []
    monkeypatch.setattr(build, "build", remembering(asked))
    invoke("build", "--target", TARGET, "--model", "example:smollm2")
    assert "smollm2" in asked[0].model.removeprefix("pypi:")


def test_an_unknown_example_is_refused_before_anything_is_done(invoke: Invoke) -> None:
    code, _, said = invoke("build", "--target", TARGET, "--model", "example:gpt5")
    assert (code, "example:minilm, example:smollm2" in said) == (2, True)
