"""Templates and what is known to text: a target's facts to its Dockerfile, a service to its manifests. Pure."""

from pathlib import Path

import jinja2

from images.config import ROOT
from images.spec import TargetSpec

TEMPLATE = "Dockerfile.j2"


def dockerfile(target: TargetSpec) -> str:
    """The Dockerfile of a target; it depends on nothing else. Raises `jinja2.TemplateError` for a broken template."""
    environment = _environment(ROOT / "templates", target.folder.parent)
    return environment.get_template(f"{target.module}/{TEMPLATE}").render(target=target)


def manifest(name: str, **known: object) -> str:
    """The Kubernetes manifest of that name. Raises `jinja2.TemplateError` for a broken template."""
    return _environment(ROOT / "templates/kubernetes").get_template(f"{name}.yaml.j2").render(known).lstrip("\n")


def _environment(*folders: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is not HTML, and manifests print values as JSON, which is YAML
    )
