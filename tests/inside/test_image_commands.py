"""The image's command line: what it takes, and the exit code of what it does not."""

from pathlib import Path

import pytest

from images.inside.__main__ import USAGE, main, parser
from images.inside.errors import Exit
from tests.inside.serving import served


@pytest.mark.parametrize("url", ["http://minilm", "http://minilm.team:80/", "http://127.0.0.1:8080"])
def test_a_service_is_named_by_host_and_port(url: str) -> None:
    assert parser().parse_args(["smoke-test", f"--url={url}"]).url == url


@pytest.mark.parametrize(
    "url", ["minilm", "ftp://minilm", "https://minilm", "http://", "http://minilm/v1", "http://a@b"]
)
def test_what_names_no_service_is_a_usage_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["smoke-test", f"--url={url}"])
    assert ended.value.code == USAGE
    assert f"{url!r} is not http://HOST[:PORT]" in capsys.readouterr().err


def test_a_setting_that_is_none_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELYARD_THREADS", "many")
    assert main(["smoke-test"]) == USAGE
    assert "MODELYARD_THREADS" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "info", "bench"])
def test_a_folder_without_a_manifest_is_a_damaged_artifact(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--artifact={tmp_path}", command]) == Exit.DAMAGED
    assert capsys.readouterr().err.startswith("modelyard: damaged: manifest.json")


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--seconds", "0", "seconds from 0.1"),
        ("--seconds", "-1", "seconds from 0.1"),
        ("--seconds", "nan", "seconds from 0.1"),
        ("--lengths", "0", "whole number from 1"),
        ("--clients", "-3", "whole number from 1"),
        ("--clients", "two", "whole number from 1"),
    ],
)
def test_a_measurement_of_nothing_is_a_usage_error(
    flag: str, value: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", f"{flag}={value}"])
    assert (ended.value.code, why in capsys.readouterr().err) == (USAGE, True)


def test_health_asks_the_port_that_the_server_listens_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as url:
        monkeypatch.setenv("MODELYARD_PORT", url.rpartition(":")[2])
        assert main(["health"]) == 0


def test_health_knows_kubernetes_address_of_a_service_from_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_PORT", "tcp://10.0.0.1:80")
    assert main(["health"]) == 1
