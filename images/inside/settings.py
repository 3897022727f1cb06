"""The server's settings: one frozen struct, read from the environment, with command-line flags on top."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "MODELYARD_"
LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(ValueError):
    """A flag or environment variable is wrong; the message names it and what it may be."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator may set; each field is `MODELYARD_<FIELD>` and, the key aside, `--<field>`."""

    # In a container, only 0.0.0.0 is reachable from outside; `docker run -p` chooses the host's address.
    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "0.0.0.0"  # noqa: S104
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 for any free one")] = 8080
    threads: Annotated[int, Meta(ge=0, le=1024, description="runtime threads; 0 follows the CPU quota")] = 0
    max_batch_tokens: Annotated[int, Meta(ge=1, description="tokens of one batch, padding included")] = 2048
    max_queue: Annotated[int, Meta(ge=1, description="inputs that may wait; more are answered 429")] = 4096
    max_queue_tokens: Annotated[int, Meta(ge=1, description="tokens that may wait; more are answered 429")] = 262144
    max_inputs: Annotated[int, Meta(ge=1, description="inputs of one request; more are answered 413")] = 2048
    max_images: Annotated[
        int,
        Meta(
            ge=1, description="images of one request, more are answered 413; and that may wait, more are answered 429"
        ),
    ] = 128
    slots: Annotated[int, Meta(ge=1, le=1024, description="sequences that are generated at once")] = 8
    max_prefill_tokens: Annotated[
        int, Meta(ge=1, description="prompt tokens that are read between two tokens of the answers under way")
    ] = 256
    max_kv_tokens: Annotated[
        int, Meta(ge=0, description="tokens of all sequences under way; 0 for as many as slots and memory hold")
    ] = 0
    max_queue_answers: Annotated[
        int, Meta(ge=1, description="answers that may wait for a slot; more are answered 429")
    ] = 256
    device: Annotated[
        str, Meta(pattern="^([a-z]+(:[0-9]+)?)?$", description="such as cpu or cuda:1; empty for the image's own")
    ] = ""
    stall_seconds: Annotated[
        int, Meta(ge=1, description="seconds without a token after which an engine's answer is given up")
    ] = 60
    answer_seconds: Annotated[
        int, Meta(ge=1, description="seconds that an engine's answer may take, its wait for a slot included")
    ] = 600
    max_body_bytes: Annotated[int, Meta(ge=1, description="bytes of a request; more are answered 413")] = 8 << 20
    api_key: Annotated[str, Meta(description="key that clients send as a bearer token; none when empty")] = ""
    # Kubernetes kills 30 seconds after SIGTERM unless told otherwise.
    grace_seconds: Annotated[int, Meta(ge=0, description="seconds to finish requests after SIGTERM")] = 25
    drain_seconds: Annotated[
        int, Meta(ge=0, description="seconds to go on accepting after SIGTERM, while a load balancer turns away")
    ] = 0
    accept_differences: Annotated[
        bool, Meta(description="serve although the outputs differ from the original's: the build accepted it")
    ] = False
    log_level: Annotated[LogLevel, Meta(description="debug, info, warning or error")] = "info"

    def __repr__(self) -> str:
        """The settings without the key, which must not reach a log."""
        shown = {field: getattr(self, field) for field in self.__struct_fields__ if field != "api_key"}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def from_environment(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Settings by flag, else by environment variable, else by default. Raises `SettingsError`.

    Args:
        environ: such as `os.environ`.
        flags: values by field name; None is a flag that was not given.

    """
    given = {field: flags.get(field) for field in Settings.__struct_fields__}
    values = {field: given[field] if given[field] is not None else _variable(environ, field) for field in given}
    values["api_key"] = _api_key(environ, flags.get("api_key_file"))
    return Settings(**{field: _checked(field, value) for field, value in values.items() if value is not None})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting. The key has none: a command line is readable by every process of the machine."""
    for field in _FIELDS.values():
        if field.name != "api_key":
            parser.add_argument(_flag(field.name), metavar="VALUE", help=_help(field))
    parser.add_argument("--api-key-file", metavar="FILE", help=f"file with the API key ({PREFIX}API_KEY_FILE)")


def from_args(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Settings of a parser that `add_arguments` completed. Raises `SettingsError`."""
    known = {*Settings.__struct_fields__, "api_key_file"}
    return from_environment(environ, **{name: value for name, value in vars(args).items() if name in known})


_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def _help(field: msgspec.structs.FieldInfo) -> str:
    default = f"default {str(field.default).lower()}; " if field.default != "" else ""
    return f"{_description(field)} ({default}{PREFIX}{field.name.upper()})"


def _description(field: msgspec.structs.FieldInfo) -> str:
    (meta,) = field.type.__metadata__
    return str(meta.description)


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _variable(environ: Mapping[str, str], field: str) -> str | None:
    value = environ.get(PREFIX + field.upper(), "")
    # Kubernetes sets MODELYARD_PORT=tcp://ADDRESS:PORT in every pod beside a Service that is called "modelyard".
    return None if not value or value.startswith("tcp://") else value


def _checked(field: str, value: object) -> Any:
    try:
        return msgspec.convert(value, _FIELDS[field].type, strict=False)
    except msgspec.ValidationError as error:
        what = f"{error} ({_description(_FIELDS[field])})"
        raise SettingsError(f"{PREFIX}{field.upper()} ({_flag(field)}) is {value!r}: {what}") from error


def _api_key(environ: Mapping[str, str], flag: str | None) -> str:
    key, path = environ.get(f"{PREFIX}API_KEY", ""), flag or environ.get(f"{PREFIX}API_KEY_FILE", "")
    if key and path:
        raise SettingsError(f"{PREFIX}API_KEY and an API key file are both set: set one")
    return _key_of(Path(path)) if path else key


def _key_of(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the API key file {path} cannot be read: {error}") from error
    if not key:
        # An empty key would leave the server open while its operator believes it is closed.
        raise SettingsError(f"the API key file {path} is empty")
    return key
