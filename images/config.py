"""What this machine's builds start from: `[tool.modelyard]` in pyproject.toml, overridden by MODELYARD_* variables."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import platformdirs

from images.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = "example:"
"""Begins a model's name that stands for one of `[tool.modelyard.examples]`."""


class Bootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the base images are made of Debian packages.

    Attributes:
        suite: Debian's release, such as `bookworm`.
        python: its Python's minor version, for which the wheels are locked.
        builder_packages: packages of the builder base beyond Debian's essential ones.
        runtime_packages: the packages whose files make the runtime base; nothing else is in it.
        runtime_drop: globs on absolute paths, left out of the runtime base.

    """

    suite: str
    python: str
    builder_packages: tuple[str, ...]
    runtime_packages: tuple[str, ...]
    runtime_drop: tuple[str, ...]


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model to try, as `--model` takes it."""

    model: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The project's configuration.

    Attributes:
        extra_index_url: index tried only for a wheel that pip's own configuration does not have.
        builder_base: image to build in, `name@sha256:...`; empty to bootstrap one.
        runtime_base: image to ship on, `name@sha256:...`; empty to bootstrap one.
        examples: models to try, by name; the first is built when none is named.
        cache: folder for wheels, models, base images and the engine's data.

    """

    extra_index_url: str
    builder_base: str
    runtime_base: str
    examples: Annotated[dict[str, Example], msgspec.Meta(min_length=1)]
    bootstrap: Bootstrap
    cache: Path

    @property
    def example(self) -> Example:
        """What is built when no model is named."""
        return next(iter(self.examples.values()))

    def model(self, text: str) -> str:
        """What `--model` stands for: an example by name, the first one when empty, or the text itself.

        Raises `UsageError` for an example that there is not.
        """
        if not text:
            return self.example.model
        if not text.startswith(EXAMPLE):
            return text
        if (name := text.removeprefix(EXAMPLE)) not in self.examples:
            raise UsageError(
                f"there is no example {name!r}",
                f"the examples are: {', '.join(EXAMPLE + known for known in self.examples)}",
            )
        return self.examples[name].model


def load(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> Config:
    """The configuration. Raises `UsageError` for an unknown key or a base image that is not named by digest."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["modelyard"]
    settings |= {
        key: environment[_variable(key)]
        for key in ("extra_index_url", "builder_base", "runtime_base")
        if _variable(key) in environment
    }
    settings["cache"] = environment.get(_variable("cache")) or platformdirs.user_cache_dir("modelyard")
    try:
        config = msgspec.convert(settings, Config, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise UsageError(f"pyproject.toml, [tool.modelyard]: {error}", "correct it there") from error
    _require_digest("builder_base", config.builder_base)
    _require_digest("runtime_base", config.runtime_base)
    return config


def _variable(key: str) -> str:
    return f"MODELYARD_{key.upper()}"


def _require_digest(key: str, image: str) -> None:
    if image and "@sha256:" not in image:
        raise UsageError(
            f"{key} is {image!r}: a base image is named by digest, name@sha256:<64 hex digits>",
            f"look the digest up in your registry and set {key} or {_variable(key)} to it",
        )
