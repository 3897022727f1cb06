"""The commands that prove, serve and measure an image."""

import json
from pathlib import Path

import pytest

from images import record
from images.errors import GateError
from tests.host import samples
from tests.host.invoking import TARGET, Invoke


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


@pytest.mark.parametrize("command", ["smoke", "run", "bench"])
def test_an_image_that_is_not_here_is_not_looked_for_elsewhere(
    command: str, invoke: Invoke, machine: samples.FakeEngine
) -> None:
    code, _, err = invoke(command, "--image", "nginx")
    assert (code, machine.asked, err.splitlines()[0]) == (5, [], "error: there is no image nginx")


@pytest.mark.parametrize(
    "wrong",
    [
        ("run", "--port", "http"),
        ("run", "--port", "0"),
        ("run", "--port", "65536"),
        ("bench", "--seconds", "long"),
        ("bench", "--seconds", "nan"),
        ("bench", "--seconds", "0"),
    ],
    ids=" ".join,
)
def test_a_number_that_is_none_is_a_usage_error(
    wrong: tuple[str, str, str], invoke: Invoke, machine: samples.FakeEngine
) -> None:
    code, _, err = invoke(*wrong, "--image", "a:b")
    assert (code, machine.asked, err.startswith(f"error: {wrong[1]} ")) == (2, [], True)


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
