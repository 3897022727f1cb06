"""What the commands print for a person. Pure."""

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from images.build import Built
from images.engine import Engine
from images.inside import compare
from images.inside.generation.proof import SUITE
from images.inside.records import Bounds
from images.plan import Plan
from images.recommend import Advice, Choice, Facts, Offer
from images.record import MIB, Record
from images.spec import TargetSpec

if TYPE_CHECKING:  # they bring what only talks to a registry
    from images.push import Done
    from images.trust import Attachment, Known, Verified

CURL = {
    "feature-extraction": ("/v1/embeddings", '{"model": "%(model)s", "input": "Hello, world"}'),
    "text-generation": (
        "/v1/chat/completions",
        '{"model": "%(model)s", "messages": [{"role": "user", "content": "What is the capital of France?"}]}',
    ),
    "fill-mask": ("/predict", '{"inputs": "Paris is the capital of %(mask)s."}'),
    "question-answering": ("/predict", '{"inputs": {"question": "Where is Paris?", "context": "Paris is in France."}}'),
}
"""Route and body of a first request by task; the rest of the tasks take plain text."""
FILE = {"image-classification": "picture.jpg"}
"""Tasks that take a file as it is."""


def targets(specs: list[TargetSpec]) -> str:
    """One block a target."""
    return "\n".join("\n".join([spec.name, f"  {spec.summary}", *_offers(spec)]) for spec in specs)


def _offers(spec: TargetSpec) -> Iterator[str]:
    yield f"  platforms  {', '.join(spec.platforms)}"
    for task in spec.tasks:
        yield f"  {task:<22} --quantize {' | '.join(dict.fromkeys(mode.name for mode in spec.modes_for(task)))}"
    made = [(task, mode.name) for mode in spec.modes for task in mode.tasks]
    if len(set(made)) < len(made):  # the mode does not decide who makes it
        yield f"  {'exporters':<22} --exporter {' | '.join(spec.exporters)}"
    for exporter, reason in {mode.exporter: mode.deprecated for mode in spec.modes if mode.deprecated}.items():
        yield f"  {'deprecated':<22} {exporter}: {reason}"
    for name, option in spec.options.items():
        yield f"  {'--' + name:<22} {option.summary}"


def advice(advised: Advice) -> str:
    """The targets that suit a model by place, best first, with what to type; of one place their modes as well."""
    lines, detailed = [_model(advised.model)], len(advised.places) == 1
    for place, choices in advised.places.items():
        lines += ["", f"for {place}:"]
        for number, choice in enumerate(choices, 1):
            lines += [
                f"  {number}. {choice.target}: {choice.reason}",
                *(f"     {line}" for line in _choice(choice, detailed)),
            ]
    if advised.others:
        lines += ["", "not these:", *(f"  {name:<20} {why}" for name, why in advised.others.items())]
    if not detailed:
        lines += ["", f"modes, bounds and sizes: --for {' | '.join(advised.places)}"]
    return "\n".join(lines)


def _model(model: Facts) -> str:
    words = [
        model.task,
        model.architecture or model.kind or "a GGUF file",
        f"{model.parameters / 1e6:.1f} million parameters" if model.parameters else "",
        f"{model.weights / MIB:.1f} MiB of weights" if model.weights else "",
        f"at most {model.tokens} tokens" if model.tokens else "",
    ]
    revision = f" {model.revision}" if model.revision else ""
    return f"{model.id} ({model.source}{revision}): {', '.join(filter(None, words))}"


def _choice(choice: Choice, detailed: bool) -> Iterator[str]:
    yield choice.command
    if detailed:
        yield f"image   at most {choice.image_mib} MiB without the model; {', '.join(choice.platforms)}"
        yield from (
            [f"input   at most {choice.tokens} tokens, unless the build is told otherwise"] if choice.tokens else []
        )
        yield from map(_offer, choice.offers)
    yield from dict.fromkeys(f"note    {each.exporter}: {each.deprecated}" for each in choice.offers if each.deprecated)
    untried = dict.fromkeys(each.exporter for each in choice.offers if each.untried)
    yield from (f"note    {name} was tried with other kinds of models only; the gate decides" for name in untried)


def _offer(offer: Offer) -> str:
    """A mode: the flags that choose it, what it is held to, what it takes."""
    held = (f"{name} {'<=' if name in compare.UPPER else '>='} {bound:g}" for name, bound in offer.bounds.items())
    weights = f"; weights from {offer.weights / MIB:.1f} MiB" if offer.weights else ""
    flags = f" ({offer.flags})" if offer.flags else ""
    return f"mode    {offer.mode} by {offer.exporter}{flags}: {', '.join(held)}{weights}"


def built(result: Built, engine: Engine) -> str:
    """What was built, how good it is, what to type next."""
    return "\n".join([*_facts(result), "", "Next:", *(f"  {line}" for line in next_commands(result, engine))])


def plan(job: Plan) -> str:
    """What a build would do."""
    return "\n".join(f"{name:<9} {value}" for name, value in plan_facts(job).items())


def plan_facts(job: Plan) -> dict[str, str]:
    """A plan's decisions by name."""
    return {
        "target": job.target.name,
        "model": job.model.id,
        "revision": job.model.revision,
        "digest": job.model.digest,
        "task": job.task,
        "mode": job.mode,
        "exporter": job.exporter,
        "tag": job.tag,
        "plan": job.digest,
        **job.args,
    }


def next_commands(result: Built, engine: Engine) -> list[str]:
    """Serve it, ask it, prove it."""
    record, manifest = result.record, result.record.info.manifest
    # Vectors of tokens are no embeddings: only /predict has them.
    task = manifest.task if manifest.task != "feature-extraction" or manifest.embedding else ""
    route, body = CURL.get(task, ("/predict", '{"inputs": "Hello, world"}'))
    if "%(" in body:
        body %= {"model": _in_json(manifest.model.id), "mask": _in_json(manifest.mask_token)}
    asked = f"-H 'content-type: application/json' -d {shlex.quote(body)}"
    if task in FILE:
        asked = f"-H 'content-type: image/jpeg' --data-binary @{FILE[task]}"
    settings = [f"{name}={shlex.quote(value)}" for name, value in engine.environment.items()]
    docker = " ".join([*settings, shlex.quote(engine.program)])
    image = " ".join([*map(shlex.quote, result.flags), record.reference])
    return [
        f"{docker} run --rm -p 127.0.0.1:8080:8080 {image}",
        f"curl -s http://127.0.0.1:8080{route} {asked}",
        f"{docker} run --rm {image} smoke-test",
    ]


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _facts(result: Built) -> Iterator[str]:
    record = result.record
    sizes, model = record.sizes, record.info.manifest.model
    yield f"{record.reference}" + ("" if result.fresh else "   (up to date: nothing was built)")
    yield f"  image     {record.image}"
    yield f"  model     {model.id} ({model.source}) {model.revision or model.digest}"
    yield (
        f"  size      {sizes.total / MIB:.1f} MiB: {sizes.without_artifact / MIB:.1f} MiB "
        f"and the artifact's {sizes.artifact / MIB:.1f} MiB"
    )
    inputs = sum(figures.case != SUITE for figures in record.verdict.figures)
    yield f"  gate      {inputs} inputs against the original: {gate(record)}"
    if record.override:
        yield f"  OVERRIDE  the gate FAILED and was accepted: {record.override.reason}"
    if deprecated := record.info.manifest.deprecated:
        yield f"  note      {deprecated}"
    if latency := record.verdict.latency:
        yield f"  latency   p50 {latency.http_p50_ms:.1f} ms, p95 {latency.http_p95_ms:.1f} ms (first input, HTTP)"
    if tokens := record.verdict.token_latency:
        yield (
            f"  latency   first token p50 {tokens.first_p50_ms:.1f} ms, p95 {tokens.first_p95_ms:.1f} ms; "
            f"next p50 {tokens.next_p50_ms:.1f} ms, p95 {tokens.next_p95_ms:.1f} ms (first input, HTTP)"
        )
    yield f"  record    {result.file}"


def pushed(done: "Done") -> str:
    """What was pushed, what was attached, what to type next."""
    push, layers = done.pushed, done.layers
    exact = f"{push.reference.rpartition(':')[0]}@{push.digest}"
    lines = [
        push.reference,
        f"  image     {done.image}",
        f"  digest    {push.digest}",
        f"  layers    {layers.sent} sent, {layers.there} there already",
        f"  attached  {', '.join(push.attached)}",
        f"  signed    by {push.key}" if push.key else "  signed    no: name a key with --sign-key",
        *(["  WARNING   UNVERIFIED: its gate did not pass, and what is attached says so"] if push.unverified else []),
        *([f"  record    {done.file}"] if done.file else []),
    ]
    check = f"invoke verify {exact} --key KEY.pub" if push.key else f"invoke inspect --image {exact}"
    return "\n".join([*lines, "", "Next:", f"  {check}"])


def known(found: "Known") -> str:
    """What a registry knows of an image."""
    own = {key.removeprefix("dev.modelyard."): value for key, value in found.labels.items()}
    revision = own.get("model.revision") or own.get("model.digest", "")
    figures = ", ".join(f"{key[5:]} {value}" for key, value in sorted(own.items()) if key.startswith("gate."))
    return "\n".join(
        [
            found.reference,
            f"  image     {found.image}, {found.platform}, {found.created}",
            f"  layers    {found.layers}, {found.size / MIB:.1f} MiB compressed",
            f"  model     {own.get('model.id', 'not known')} {revision}",
            f"  target    {own.get('target', 'not known')}, {own.get('task', '')}, mode {own.get('mode', '')}",
            f"  gate      {own.get('gate', 'none: this image was never verified')}"
            + (f": {figures}" if figures else ""),
            *(f"  {line}" for line in map(_attachment, found.attached)),
            f"  signed    {_signed(found.signatures)}",
        ]
    )


def _signed(signatures: int) -> str:
    if not signatures:
        return "no"
    return f"{signatures} time{'s' if signatures > 1 else ''}; `invoke verify` checks it"


def _attachment(each: "Attachment") -> str:
    return f"{each.kind:<9} {each.digest}{', in a signed envelope' if each.signed else ', not signed'}"


def verified(found: "Verified") -> str:
    """One line a check."""
    lines = [f"  {'ok' if each.passed else 'FAILED':<7} {each.name:<11} {each.detail}" for each in found.checks]
    return "\n".join([found.reference, f"  key     {found.key}", *lines])


def gate(record: Record) -> str:
    """The worst figures with their bounds."""
    bounds: Bounds = record.verdict.bounds
    words = []
    for name, entry in compare.worst(record.verdict.figures).items():
        bound = getattr(bounds, name)
        words.append(
            f"{name} {getattr(entry, name):.3g} ({entry.case}" + (f", bound {bound:g})" if bound is not None else ")")
        )
    return ", ".join(words)
