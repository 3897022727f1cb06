"""The commands of the project itself: the machine, rendered files, locks, tests, benchmarks."""

import shlex
import sys

from invoke.context import Context
from invoke.exceptions import Exit

from images import config, spec
from images.commands import common
from images.commands.common import as_json, command, readable
from images.config import ROOT
from images.errors import UsageError


@command(help={"check": "only say what would be done; exit code 1 if anything"})
@readable
def setup(_context: Context, check: bool = False) -> None:
    """Make this machine able to build: a container engine, the base images."""
    from images import setup as machine

    if not check:
        machine.run(config.load(), print)
        return
    missing = machine.check(config.load())
    print("\n".join(f"missing: {entry}" for entry in missing) or "ready")
    if missing:
        raise Exit(code=1)


@command(
    help={"target": "which target; all when left out", "check": "write nothing; exit code 1 when a Dockerfile is stale"}
)
@readable
def render(_context: Context, target: str = "", check: bool = False) -> None:
    """Render targets/T/Dockerfile from target.toml and templates."""
    from images import render as renderer

    for name in [target] if target else spec.names():
        chosen = spec.load(name)
        file, text = chosen.folder / "Dockerfile", renderer.dockerfile(chosen)
        stale = not file.exists() or file.read_text() != text
        if stale and check:
            raise UsageError(
                f"{file.relative_to(ROOT)} is stale", f"run `invoke render --target {name}` and commit the result"
            )
        if stale:
            file.write_text(text)
            print(f"rendered {file.relative_to(ROOT)}")


@command(help={"target": "whose requirements; with nothing, every target's and the project's own"})
@readable
def lock(_context: Context, target: str = "") -> None:
    """Regenerate the hash-locked requirements from the .in files."""
    from images import resolver

    settings = config.load()
    python, index = settings.bootstrap.python, settings.extra_index_url
    for chosen in map(spec.load, [target] if target else spec.names()):
        for environment in chosen.environments:
            resolver.lock(
                chosen.lock_source(environment),
                chosen.lock(environment),
                python=python,
                platform=chosen.platforms[0],
                without=chosen.without(environment),
                cpu=chosen.cpu_only,
                extra_index_url=index,
                report=print,
            )
    if not target:
        resolver.lock(ROOT / "pyproject.toml", ROOT / "requirements.lock", python=python, report=print)


@command(help={"all": "also images, wheels, models, bases and the engine that setup started"})
@readable
def clean(_context: Context, all: bool = False) -> None:  # noqa: A002 - the flag's name
    """Remove what builds left: logs, build folders, unnamed images, the build cache; with --all everything of ours."""
    from images import clean as cleaner

    cleaner.run(config.load(), common.DIST, everything=all, say=print)


@command()
@readable
def check(context: Context) -> None:
    """Ruff, mypy, rendered Dockerfiles and locks up to date, unit tests."""
    for checker in ("ruff check .", "ruff format --check .", "mypy", "invoke render --check"):
        _python(context, checker)
    _python(context, "pytest tests/host tests/inside tests/targets tests/every_target -q")


@command(
    help={
        "all": "also the slow ones",
        "cluster": "a context of the kubeconfig: deploy to that cluster, into a namespace of its own, and nothing else",
        "registry": "with --cluster: HOST:PORT of this machine, from which the cluster's nodes pull by plain HTTP",
    }
)
@readable
def test(
    context: Context,
    all: bool = False,  # noqa: A002, PT028 - a flag, not a test's parameter
    cluster: str = "",  # noqa: PT028
    registry: str = "",  # noqa: PT028
) -> None:
    """Everything: setup, check, container tests with real images; or, with --cluster, the tests of a deployment."""
    setup(context)
    if cluster:
        where = shlex.join([f"--cluster={cluster}", f"--registry={registry}"])
        _python(context, f"pytest tests/cluster -v --durations=15 {where}")
        return
    check(context)
    slow = "" if all else ' -m "not slow"'
    _python(context, f"pytest tests/containers -v --durations=15{slow}")


@command(
    help={
        "task": "feature-extraction (the default) or text-generation",
        "model": "as for build; the task's example when left out",
        "rounds": "how often all take their turn (default 3)",
        "target": "whose images take part; those of the README's first tables when left out",
        "modes": "of these images, separated by commas; all that need no file of yours when left out",
        "only": "contestants of text-generation, separated by commas; all when left out",
        "json": "print JSON",
    }
)
@readable
def benchmark(
    _context: Context,
    task: str = "feature-extraction",
    model: str = "",
    rounds: int = 3,
    target: str = "",
    modes: str = "",
    only: str = "",
    json: bool = False,
) -> None:
    """Compare served images with their runtime alone and with what is commonly used instead, side by side."""
    from images import progress
    from tests.benchmarks import suites
    from tests.benchmarks.choice import Choice

    choice = Choice(target=target, modes=modes, only=only)
    with progress.shown(quiet=json) as shown:
        result, table = suites.run(task, config.load(), shown, common.DIST, rounds=rounds, model=model, choice=choice)
    print(as_json(result) if json else table)


def _python(context: Context, command: str) -> None:
    """Run a tool of this very environment, and end with its exit code if it fails."""
    print(f"$ {command}", flush=True)
    if code := context.run(f"{sys.executable} -m {command}", warn=True, pty=sys.stdout.isatty()).exited:
        raise Exit(f"error: `{command}` failed", code)
