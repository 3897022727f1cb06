import argparse
from pathlib import Path

import pytest

from images.inside.settings import Settings, SettingsError, add_arguments, from_args, from_environment


def parsed(*argv: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_args(parser.parse_args(argv), environ)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_environment({}) == Settings()


def test_a_variable_sets_a_field() -> None:
    assert from_environment({"MODELYARD_MAX_QUEUE": "7"}).max_queue == 7


def test_a_flag_wins_over_its_variable() -> None:
    assert parsed("--port", "1", MODELYARD_PORT="2").port == 1


def test_the_address_that_kubernetes_injects_for_a_service_is_not_a_port() -> None:
    assert from_environment({"MODELYARD_PORT": "tcp://10.0.0.1:80"}).port == 8080


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "65536"), ("MAX_INPUTS", "0"), ("LOG_LEVEL", "loud"), ("GRACE_SECONDS", "-1")],
)
def test_a_bad_value_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"MODELYARD_{name}.*{value}"):
        from_environment({f"MODELYARD_{name}": value})


def test_a_bad_value_is_told_what_may_stand_there() -> None:
    with pytest.raises(SettingsError, match="debug, info, warning or error"):
        from_environment({"MODELYARD_LOG_LEVEL": "loud"})


def test_help_shows_defaults_as_they_are_typed() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser)

    assert [text in parser.format_help() for text in ("(default false; ", "(default ; ")] == [True, False]


def test_the_key_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")

    assert parsed("--api-key-file", str(tmp_path / "key")).api_key == "secret"


def test_a_key_and_a_key_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="both"):
        from_environment({"MODELYARD_API_KEY": "a", "MODELYARD_API_KEY_FILE": str(tmp_path)})


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        from_environment({"MODELYARD_API_KEY_FILE": str(tmp_path / "nowhere")})


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")

    with pytest.raises(SettingsError, match="is empty"):
        from_environment({"MODELYARD_API_KEY_FILE": str(tmp_path / "key")})


def test_the_key_is_not_in_the_settings_printed_form() -> None:
    assert "secret" not in repr(Settings(api_key="secret"))


def test_the_key_has_no_flag() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    assert "--api-key " not in parser.format_help()
