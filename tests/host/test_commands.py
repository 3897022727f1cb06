"""The commands as Invoke runs them: exit codes, messages, no traceback."""

import copy
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from invoke.collection import Collection
from invoke.context import MockContext
from invoke.exceptions import Exit
from invoke.program import Program
from invoke.runners import Result
from invoke.tasks import Task

import tasks
from images import build, cluster, engines, push, record, remote, sign, spec, trust
from images.commands import common
from images.errors import INTERRUPTED, ClusterError, EngineError, GateError, ImageError, TrustError, UsageError
from images.plan import Options
from tests.host import samples
from tests.host.test_manifests import IMAGE, LABELS

TARGET = next(name for name in spec.names() if "feature-extraction" in spec.load(name).tasks)
BASE = f"reg.example/base@sha256:{'0' * 64}"
KINDS = [ImageError, *ImageError.__subclasses__()]

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Invoke]:
    """Runs `invoke ...` in this process: exit code, what it printed, what it complained of."""
    for name in ("BUILDER_BASE", "RUNTIME_BASE"):
        monkeypatch.setenv(f"MODELYARD_{name}", BASE)
    monkeypatch.setenv("MODELYARD_CACHE", str(cache))
    monkeypatch.setattr(common, "DIST", tmp_path / "dist")
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[int, str, str]:
        program = Program(namespace=Collection.from_module(tasks))
        code = 0
        try:
            program.run(["invoke", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield run
    signal.signal(signal.SIGTERM, before)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def remembering(asked: list[build.Request]) -> Callable[..., NoReturn]:
    def fail(request: build.Request, *_: object) -> NoReturn:
        asked.append(request)
        raise EngineError("that is enough")

    return fail


# Errors


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_is_one_message_and_its_exit_code(
    kind: type[ImageError], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", raising(kind("what happened", "what to do")))
    assert invoke("build", "--target", TARGET) == (kind.exit_code, "", "error: what happened\n  -> what to do\n")


def test_an_interrupted_command_says_so_and_has_the_shells_exit_code(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", raising(KeyboardInterrupt()))
    assert invoke("build", "--target", TARGET) == (
        INTERRUPTED,
        "",
        "interrupted: what was half-made is removed\n",
    )


def test_sigterm_unwinds_as_ctrl_c_does(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert invoke("build", "--target", TARGET)[0] == INTERRUPTED


@pytest.mark.parametrize("command", ["build", "smoke", "run", "bench", "lock", "render"])
def test_an_unknown_target_is_a_usage_error_that_lists_them(command: str, invoke: Invoke) -> None:
    code, out, err = invoke(command, "--target", "nope")
    assert (code, out) == (2, "")
    assert err == f"error: there is no target 'nope'\n  -> the targets are: {', '.join(spec.names())}\n"


def test_a_build_without_a_target_lists_them(invoke: Invoke) -> None:
    code, _, err = invoke("build")
    assert (code, err) == (
        2,
        f"error: no target was named\n  -> add --target T; the targets are: {', '.join(spec.names())}\n",
    )


@pytest.mark.parametrize("command", ["smoke", "run", "bench"])
@pytest.mark.parametrize("arguments", [(), ("--target", TARGET, "--image", "a:b")])
def test_an_image_is_named_by_target_or_by_reference_and_not_by_both(
    command: str, arguments: tuple[str, ...], invoke: Invoke
) -> None:
    code, _, err = invoke(command, *arguments)
    assert (code, err) == (2, "error: name either a target or an image\n  -> add --target T, or --image REF\n")


@pytest.mark.parametrize("command", ["smoke", "run", "bench"])
def test_a_target_of_which_nothing_was_built_says_how_to_build_it(command: str, invoke: Invoke) -> None:
    code, _, err = invoke(command, "--target", TARGET)
    assert (code, err.splitlines()[0]) == (2, f"error: no image of {TARGET} was built here")


def test_a_broken_line_of_a_suite_is_named_by_its_number(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"inputs": "a"}\n{"inputs": \n')
    code, _, err = invoke("build", "--target", TARGET, "--suite", tmp_path / "mine.jsonl")
    assert code == 2
    assert err.startswith(f"error: {tmp_path}/mine.jsonl, line 2 is not JSON: ")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--suite", "/nowhere.jsonl", "the suite /nowhere.jsonl cannot be read: No such file or directory"),
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


# What they print


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


def test_renders_that_are_current_are_left_alone(invoke: Invoke) -> None:
    assert invoke("render", "--check") == (0, "", "")


# Smoke test and benchmark of an image


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> samples.FakeEngine:
    fake = samples.engine()
    monkeypatch.setattr(engines, "require", lambda _: fake)
    return fake


def test_a_smoke_test_prints_its_table(invoke: Invoke, machine: samples.FakeEngine) -> None:
    code, out, _ = invoke("smoke", "--image", "a:b")
    assert (code, out.splitlines()[-1]) == (0, "  PASS (exit code 0)")
    assert " a:b smoke-test --json" in machine.asked[0]


def test_a_failed_smoke_test_prints_its_report_and_the_error(invoke: Invoke, machine: samples.FakeEngine) -> None:
    machine.answers["smoke-test"] = samples.engine(samples.failed(misses=["a miss"])).answers["smoke-test"]
    code, out, err = invoke("smoke", "--image", "a:b", "--json")
    assert (code, json.loads(out)["misses"]) == (GateError.exit_code, ["a miss"])
    assert err.startswith("error: the artifact does not reproduce")


def test_a_served_image_is_told_its_device_and_weights(
    invoke: Invoke, machine: samples.FakeEngine, tmp_path: Path
) -> None:
    assert invoke("run", "--image", "a:b", "--device", "cpu", "--weights", tmp_path)[0] == 0
    assert machine.asked == [f"serve 8080 --env=MODELYARD_DEVICE=cpu --volume={tmp_path}:/weights:ro a:b"]


@pytest.mark.parametrize("command", ["run", "smoke", "bench"])
def test_weights_that_are_not_there_are_not_mounted(command: str, invoke: Invoke, machine: samples.FakeEngine) -> None:
    code, _, err = invoke(command, "--image", "a:b", "--weights", "/no/such/folder")
    assert (code, machine.asked) == (2, [])
    assert err.startswith("error: there is no folder '/no/such/folder'\n  -> ")


def test_the_newest_image_of_a_target_is_tested(invoke: Invoke, machine: samples.FakeEngine, tmp_path: Path) -> None:
    record.write(tmp_path / "dist", samples.record(reference="x:y", info=samples.info(target=TARGET)))
    invoke("smoke", "--target", TARGET)
    assert " x:y smoke-test" in machine.asked[0]


def test_a_benchmark_prints_what_the_image_measured(invoke: Invoke, machine: samples.FakeEngine) -> None:
    machine.answers["bench"] = "{}\n"
    assert invoke("bench", "--image", "a:b", "--json", "--seconds", "1") == (0, "{}\n", "")
    assert machine.asked == ["run a:b bench --seconds=1.0 --json"]


def test_a_benchmark_may_be_told_lengths_and_clients(invoke: Invoke, machine: samples.FakeEngine) -> None:
    machine.answers["bench"] = ""
    invoke("bench", "--image", "a:b", "--lengths", "16, 128", "--clients", "8")
    assert machine.asked == ["run a:b bench --seconds=3.0 --lengths 16 128 --clients 8"]


@pytest.mark.parametrize("text", ["many", "8,", "0", "-1", "1.5", "1 8"])
def test_lengths_that_are_no_numbers_are_refused(text: str, invoke: Invoke) -> None:
    code, _, err = invoke("bench", "--image", "a:b", f"--clients={text}")
    message = f"error: --clients is {text!r}: numbers above 0 were expected\n  -> write, say, --clients 1,8\n"
    assert (code, err) == (2, message)


def test_a_failed_benchmark_says_why(invoke: Invoke, machine: samples.FakeEngine) -> None:
    del machine
    assert invoke("bench", "--image", "a:b") == (1, "", "error: the benchmark failed:\nit broke\n")


# Registries


@pytest.mark.parametrize("command", ["pull", "inspect"])
def test_an_image_in_a_registry_must_be_named(command: str, invoke: Invoke) -> None:
    code, _, err = invoke(command)
    assert (code, err.splitlines()[0]) == (2, "error: no image was named")


@pytest.mark.parametrize("command", [("pull", "--image"), ("inspect", "--image"), ("verify", "--key=k")])
def test_a_name_without_a_registry_is_a_usage_error(command: tuple[str, str], invoke: Invoke) -> None:
    code, out, err = invoke(*command, "modelyard/m:1")
    assert (code, out) == (2, "")
    assert err.startswith("error: 'modelyard/m:1' names no registry")


def test_an_image_is_verified_against_a_key_only(invoke: Invoke) -> None:
    code, _, err = invoke("verify", "reg.example/m:1")
    assert (code, err.splitlines()[0]) == (2, "error: no key was named")


def test_a_push_needs_a_registry(invoke: Invoke) -> None:
    code, _, err = invoke("push", "--image", "modelyard/m:1")
    assert (code, err.splitlines()[0]) == (2, "error: no registry was named, and modelyard/m:1 names none")


def test_a_push_with_a_key_that_is_not_there_pushes_nothing(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(push, "run", raising(AssertionError()))
    code, _, err = invoke(
        *("push", "--image", "a:1", "--registry", "reg.example/m", "--sign-key", tmp_path / "none.key")
    )
    assert (code, err.splitlines()[0]) == (
        2,
        f"error: the key {tmp_path}/none.key cannot be read: No such file or directory",
    )


def test_every_option_of_a_push_reaches_it(
    invoke: Invoke, machine: samples.FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[push.Order] = []
    done = record.Pushed(
        reference="reg.example/m:2", digest="sha256:1", at="now", unverified=True, attached={"sbom": "s"}
    )

    def run(order: push.Order, on: object, *_: object) -> push.Done:
        assert on is machine
        asked.append(order)
        return push.Done(pushed=done, file=None)

    monkeypatch.setattr(push, "run", run)
    flags = ("--image", "a:1", "--registry", "reg.example/m", "--tag", "2", "--unverified", "--plain-http")
    code, out, _ = invoke("push", *flags)
    assert asked == [push.Order(image="a:1", to=remote.parse("reg.example/m:2"), unverified=True, plain_http=True)]
    assert code == 0
    assert "reg.example/m@sha256:1" in out
    assert "UNVERIFIED" in out


def verified(*, passed: bool) -> trust.Verified:
    checks = [trust.Check(name="signature", passed=passed, detail="what was found")]
    return trust.Verified(reference="reg.example/m@sha256:1", key="SHA256:k", checks=checks)


@pytest.mark.parametrize(("passed", "expected", "word"), [(True, 0, "ok"), (False, TrustError.exit_code, "FAILED")])
def test_checks_are_printed_whether_they_hold_or_not(
    passed: bool, expected: int, word: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "verify", lambda *_, **__: verified(passed=passed))
    monkeypatch.setattr(sign, "public_key", lambda _: None)
    code, out, _ = invoke("verify", "reg.example/m:1", "--key", "k.pub")
    assert code == expected
    assert out.splitlines()[-1].split() == [word, "signature", "what", "was", "found"]


@pytest.mark.parametrize("command", ["inspect", "pull"])
def test_what_a_registry_knows_is_printed(
    command: str, invoke: Invoke, machine: samples.FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    del machine
    known = trust.Known(
        reference="reg.example/m@sha256:1",
        digest="sha256:1",
        image="sha256:2",
        created="then",
        platform="linux/amd64",
        layers=1,
        size=1 << 20,
        labels={"dev.modelyard.gate": "passed", "dev.modelyard.gate.cosine": "0.99"},
        signatures=0,
        attached=[trust.Attachment(kind="sbom", digest="sha256:3", signed=False, statement={})],
    )
    monkeypatch.setattr(trust, command, lambda *_, **__: known)
    out = invoke(command, "--image", "reg.example/m:1")[1]
    assert "gate      passed: cosine 0.99" in out
    assert "sbom       sha256:3, not signed" in out
    assert json.loads(invoke(command, "--image", "reg.example/m:1", "--json")[1])["digest"] == "sha256:1"


# Kubernetes


@pytest.fixture
def in_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in a registry, with a passed verdict."""
    known = trust.Known(
        reference=IMAGE,
        digest=IMAGE.partition("@")[2],
        image="sha256:2",
        created=samples.CREATED,
        platform="linux/amd64",
        layers=1,
        size=1,
        labels=LABELS,
        signatures=0,
        attached=[],
    )
    monkeypatch.setattr(trust, "inspect", lambda *_, **__: known)


@pytest.mark.usefixtures("in_registry")
def test_manifests_are_written_to_the_named_folder(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, _ = invoke("manifests", "--image", IMAGE, "--out", out, "--name", "mini", "--replicas", 3)
    assert (code, printed) == (0, f"{out}: kubectl apply --server-side -k {out}\n")
    assert 'name: "mini"' in (out / "service.yaml").read_text()
    assert "minReplicas: 3" in (out / "horizontalpodautoscaler.yaml").read_text()


def test_manifests_of_a_tag_are_refused_before_the_registry_is_asked(invoke: Invoke) -> None:
    code, printed, said = invoke("manifests", "--image", "registry.example/team/minilm:1")
    assert (code, printed) == (2, "")
    assert said.startswith("error: registry.example/team/minilm:1 is not named by digest")


def test_an_image_that_was_not_pushed_from_here_has_no_manifests(invoke: Invoke, tmp_path: Path) -> None:
    record.write(tmp_path / "dist", samples.record())
    code, _, said = invoke("manifests", "--target", TARGET)
    assert (code, said.partition("\n")[0]) == (2, f"error: no image of {TARGET} was built here")


@pytest.mark.parametrize("flag", ["model", "quantize", "registry"])
def test_what_belongs_to_a_build_job_is_refused_without_it(flag: str, invoke: Invoke) -> None:
    code, _, said = invoke("manifests", "--image", IMAGE, f"--{flag}", "x")
    assert (code, said.partition("\n")[0]) == (2, f"error: --{flag} belongs to --build-job")


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A cluster that takes everything: the contexts and namespaces that were asked for."""
    asked: list[tuple[str, str]] = []

    def find(context: str, namespace: str) -> cluster.Cluster:
        asked.append((context, namespace))
        return cluster.Cluster(program="kubectl", context=context, namespace=namespace)

    monkeypatch.setattr(cluster, "find", find)
    monkeypatch.setattr(cluster, "deploy", lambda *_: samples.report())
    monkeypatch.setattr(cluster.Cluster, "check", lambda *_: "deployment.apps/mini serverside-applied\n")
    return asked


WHERE = ("--context", "prod", "--namespace", "models")


@pytest.mark.usefixtures("in_registry")
def test_a_deployment_says_where_it_serves(invoke: Invoke, deployed: list[tuple[str, str]]) -> None:
    code, printed, _ = invoke("deploy", "--image", IMAGE, *WHERE, "--name", "mini")
    assert (code, printed, deployed) == (0, "mini serves at http://mini.models\n", [("prod", "models")])


@pytest.mark.usefixtures("in_registry", "deployed")
def test_a_dry_run_says_what_the_cluster_would_take(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "deploy", raising(AssertionError("deployed")))
    code, printed, _ = invoke("deploy", "--image", IMAGE, *WHERE, "--dry-run")
    assert (code, printed) == (0, "deployment.apps/mini serverside-applied\n")


@pytest.mark.usefixtures("in_registry", "deployed")
@pytest.mark.parametrize(
    "error", [ClusterError("no pod"), GateError("it answers otherwise"), UsageError("another's")], ids=repr
)
def test_a_deployment_that_fails_ends_with_the_exit_code_of_its_failure(
    error: ImageError, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "deploy", raising(error))
    code, _, said = invoke("deploy", "--image", IMAGE, *WHERE)
    assert (code, said) == (error.exit_code, f"error: {error}\n")


# Tools


def test_the_first_tool_that_fails_ends_the_check_with_its_exit_code() -> None:
    context = MockContext(run={re.compile(".*mypy"): Result(exited=3), re.compile(".*"): Result(exited=0)}, repeat=True)
    with pytest.raises(Exit) as caught:
        tasks.check(context)
    assert (caught.value.code, caught.value.message) == (3, "error: `mypy` failed")


def test_tools_are_those_of_this_very_environment(capsys: pytest.CaptureFixture[str]) -> None:
    context = MockContext(run=True, repeat=True)
    tasks.check(context)
    runner: Any = context.run
    ran = [call.args[0] for call in runner.call_args_list]
    assert all(command.startswith(f"{sys.executable} -m ") for command in ran)
    assert capsys.readouterr().out.startswith("$ ruff check .\n")


# Invoke takes the help out of a command when it reads it, so these are copied before it does.
COMMANDS = {name: copy.copy(each) for name, each in vars(tasks).items() if isinstance(each, Task)}
for _command in COMMANDS.values():
    _command.help = dict(_command.help)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    assert str(COMMANDS[name].__doc__).strip().endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    assert all(argument.help for argument in COMMANDS[name].get_arguments())
