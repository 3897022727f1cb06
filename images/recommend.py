"""Which targets suit a model and a wish, in what order and why: from what targets say of themselves. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from images import modes
from images.errors import UsageError
from images.model import Sketch
from images.spec import Mode, Place, TargetSpec

BITS = re.compile(r"\d+")
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
"""Where configurations say how many tokens a model takes."""
NO_LIMIT = 1 << 31
"""What tokenizers without a limit write is far above."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for.

    Attributes:
        model: as `--model` was given, for the commands to type next.
        task: as `--task` was given.
        place: one that a target states; empty for any.

    """

    model: str
    task: str = ""
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A model in a few words.

    Attributes:
        architecture: as config.json names it; empty where it does not.
        kind: its `model_type`.
        parameters: how many, by the bytes of its weights; 0 where their number format is not known.
        weights: bytes of them; 0 where the source does not say.
        tokens: the most that it takes by its files; 0 where they do not say.

    """

    id: str
    source: str
    revision: str
    task: str
    architecture: str
    kind: str
    parameters: int
    weights: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A mode of a target that has the model's task.

    Attributes:
        flags: what of `invoke build` chooses it, beyond target, model and task.
        bounds: what the gate holds it to, by figure.
        weights: bytes that the weights take in the artifact, at least; 0 where they are not known.
        deprecated: that upstream gives it up, and what to take instead.
        untried: whether its exporter was tried with other kinds of models only.

    """

    mode: str
    exporter: str
    flags: str
    bounds: Mapping[str, float]
    weights: int
    deprecated: str
    untried: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A target that suits a place.

    Attributes:
        reason: what speaks for it there, and for what it asks in return.
        fallback: whether it is made for another place.
        command: what to type.
        image_mib: the most that its image takes without the model, uncompressed.
        tokens: the most of an input unless the command says otherwise; 0 for the model's own limit.
        offers: its modes, the one that the command builds first.

    """

    target: str
    summary: str
    reason: str
    fallback: bool
    command: str
    platforms: Sequence[str]
    image_mib: int
    tokens: int
    offers: Sequence[Offer]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What suits a model.

    Attributes:
        places: the targets of each place, best first.
        others: those that do not suit, each with the reason.

    """

    model: Facts
    places: Mapping[str, Sequence[Choice]]
    others: Mapping[str, str]


def require_place(targets: Sequence[TargetSpec], place: str) -> None:
    """Raise `UsageError` for a place that no target names, with those that there are: known before any model is."""
    known: dict[str, list[str]] = {}
    for target in targets:
        for each in target.places:
            known.setdefault(each.name, []).append(target.name)
    if place and place not in known:
        there = "; ".join(f"{name} ({', '.join(found)})" for name, found in sorted(known.items()))
        raise UsageError(f"no target is for {place!r}", f"they are for: {there}")


def make(targets: Sequence[TargetSpec], sketch: Sketch, wanted: Wanted) -> Advice:
    """Order the targets for a model, for one place or for each that there is.

    First those whose exporters were tried with the model's kind, then those that are made for the place, then those
    with a mode that upstream does not give up, then the smaller image.

    Raises `UsageError` when no target has the task, or none that has it is for the place.
    """
    require_place(targets, wanted.place)
    model = facts(sketch)
    against = {target.name: _against(target, model.task, wanted.place) for target in targets}
    suiting = [target for target in targets if not against[target.name]]
    if not suiting:
        raise _nothing(targets, model.task, wanted.place)
    places = dict.fromkeys(each.name for target in suiting for each in target.places if wanted.place in {"", each.name})
    return Advice(
        model=model,
        places={place: _choices(suiting, place, model, wanted) for place in sorted(places)},
        others={name: why for name, why in against.items() if why},
    )


def facts(sketch: Sketch) -> Facts:
    """What a configuration says."""
    config = sketch.config
    return Facts(
        id=sketch.id,
        source=sketch.source,
        revision=sketch.revision,
        task=sketch.task,
        architecture=", ".join(map(str, config.get("architectures") or ())),
        kind=str(config.get("model_type", "")),
        parameters=8 * sketch.weights // bits if (bits := _bits(config)) else 0,
        weights=sketch.weights,
        tokens=_tokens(sketch),
    )


def _tokens(sketch: Sketch) -> int:
    """The least of what the configuration, the tokenizer's and sentence-transformers' say, as the export has it."""
    positions = next((value for key in POSITIONS if isinstance(value := sketch.config.get(key), int)), 0)
    stated = [positions, *(limit for limit in sketch.limits if isinstance(limit, int))]
    return min((limit for limit in stated if 0 < limit < NO_LIMIT), default=0)


def _bits(config: Mapping[str, Any]) -> int:
    """Bits of a weight in the model's own files: by the name of their number format; 0 where that is not the whole."""
    if not config or config.get("quantization_config"):
        return 0
    named = BITS.search(str(config.get("dtype") or config.get("torch_dtype") or "float32"))
    return int(named[0]) if named else 0


def _against(target: TargetSpec, task: str, place: str) -> str:
    """Why a target does not suit; empty when it does."""
    if task not in target.tasks:
        return target.refused_tasks.get(task) or f"does not have {task}"
    places = [each.name for each in target.places]
    return "" if place in {"", *places} else f"is for {' and '.join(places)}"


def _nothing(targets: Sequence[TargetSpec], task: str, place: str) -> UsageError:
    having = [target for target in targets if task in target.tasks]
    if having:
        there = dict.fromkeys(each.name for target in having for each in target.places)
        return UsageError(f"no target for {place} has {task}", f"there are such targets for: {', '.join(there)}")
    tasks = dict.fromkeys(known for target in targets for known in target.tasks)
    reasons = [f"; {target.name}: {target.refused_tasks[task]}" for target in targets if task in target.refused_tasks]
    return UsageError(f"no target has {task}{''.join(reasons)}", f"they have: {', '.join(tasks)}; choose with --task")


def _choices(targets: Sequence[TargetSpec], place: str, model: Facts, wanted: Wanted) -> list[Choice]:
    """The targets that are for a place, best first."""
    return sorted(
        (_choice(target, each, model, wanted) for target in targets for each in target.places if each.name == place),
        key=_rank,
    )


def _choice(target: TargetSpec, place: Place, model: Facts, wanted: Wanted) -> Choice:
    offers = sorted(
        (_offer(target, mode, model) for mode in target.modes_for(model.task)),
        key=lambda offer: (offer.untried, bool(offer.deprecated)),
    )
    return Choice(
        target=target.name,
        summary=target.summary,
        reason=place.reason,
        fallback=place.fallback,
        command=_command(target, offers[0], wanted),
        platforms=target.platforms,
        image_mib=target.size_budget_mib,
        tokens=_capped(target, model),
        offers=offers,
    )


def _capped(target: TargetSpec, model: Facts) -> int:
    """The tokens of an input that a build without flags takes, where those are fewer than the model's own."""
    cap = modes.longest(target, modes.flags(target, {}), target.max_length)
    return cap if cap and (not model.tokens or cap < model.tokens) else 0


def _offer(target: TargetSpec, mode: Mode, model: Facts) -> Offer:
    bounds = msgspec.to_builtins(mode.bounds)
    return Offer(
        mode=mode.name,
        exporter=mode.exporter,
        flags=_flags(target, mode, model.task),
        bounds={name: value for name, value in bounds.items() if value is not None},
        weights=_weights(mode, model),
        deprecated=mode.deprecated,
        untried=bool(mode.tried and model.kind and model.kind not in mode.tried),
    )


def _weights(mode: Mode, model: Facts) -> int:
    """At least so many bytes: some tables stay wider than a mode says. A GGUF file's are made float32 first."""
    if mode.bits:
        return mode.bits * model.parameters // 8
    return model.weights if model.kind else 0


def _flags(target: TargetSpec, mode: Mode, task: str) -> str:
    """The flags that choose this mode, and no more than are needed."""
    usual = modes.choose(target, task, mode.name)
    quantize = f"--quantize {mode.name}" if mode.name != modes.choose(target, task, "").name else ""
    needs = [f"--{name} FILE" for name in mode.needs]
    return " ".join(filter(None, [quantize, f"--exporter {mode.exporter}" if mode != usual else "", *needs]))


def _command(target: TargetSpec, offer: Offer, wanted: Wanted) -> str:
    named = ["--target", target.name, "--model", wanted.model, *(["--task", wanted.task] if wanted.task else [])]
    return f"invoke build {shlex.join(named)} {offer.flags}".strip()


def _rank(choice: Choice) -> tuple[bool, bool, bool, int, str]:
    """Sorts the better choice first."""
    return (
        all(offer.untried for offer in choice.offers),
        choice.fallback,
        all(offer.deprecated for offer in choice.offers),
        choice.image_mib,
        choice.target,
    )
