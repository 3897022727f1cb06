"""A target's facts and templates to the text of its Dockerfile. Pure."""

import jinja2

from images.config import ROOT
from images.spec import TargetSpec

TEMPLATE = "Dockerfile.j2"


def dockerfile(target: TargetSpec) -> str:
    """The Dockerfile of a target; it depends on nothing else. Raises `jinja2.TemplateError` for a broken template."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([ROOT / "templates", target.folder.parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is not HTML
    )
    return environment.get_template(f"{target.module}/{TEMPLATE}").render(target=target)
