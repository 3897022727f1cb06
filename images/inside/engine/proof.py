"""The proof of an engine: asked for the original's answers, all without chance, some together."""

from collections.abc import Sequence

from images.inside.compare import Figures, Reference
from images.inside.engine import client
from images.inside.engine.contract import Ask, EngineError
from images.inside.errors import CannotRunError
from images.inside.generation import fidelity, proof
from images.inside.generation.request import Sampling
from images.inside.loaded import LoadedEngine, facts

GREEDY = Sampling(temperature=0.0)
RECORDED_ON = "cpu"
"""Where the original answered: on another device a near tie may fall otherwise, and all that follows with it."""


def measure(model: LoadedEngine, reference: Reference) -> list[Figures]:
    """How much of every input's answer is the original's, and of all together.

    On the device where the original answered each input is held by itself; elsewhere, all together.

    Raises:
        OutputsDifferError: an input's tokens are not the original's: template or tokenizer of another model.
        CannotRunError: the engine failed.

    """
    own = answers(model, reference)
    kept = {case.name: proof.kept(case, reference) for case in reference.cases}
    for case in reference.cases:
        proof.check_prompt(model, case, kept[case.name][0])
        proof.check_end(facts(model.manifest), case, kept[case.name][1])
    shares = {name: fidelity.matched([int(token) for token in kept[name][1].tokens], own[name]) for name in kept}
    alone = model.process.launch.facts.get("device") == RECORDED_ON
    cases = [Figures(case=name, greedy=share if alone else None) for name, share in shares.items()]
    return [*cases, Figures(case=proof.SUITE, agreement=sum(shares.values()) / len(shares))]


def answers(model: LoadedEngine, reference: Reference) -> dict[str, list[int]]:
    """What the engine answers, as long as the original's answers. Raises `CannotRunError` when it fails."""
    eos = facts(model.manifest).eos
    kept = {case.name: proof.kept(case, reference) for case in reference.cases}
    asked = [Ask(prompt, len(record.tokens), GREEDY, eos) for prompt, record in kept.values()]
    try:
        found = client.answers(model.process.launch, model.process.port, asked)
    except (EngineError, TimeoutError) as error:
        raise CannotRunError(f"the engine failed at the suite: {error}; {model.process.said()}") from error
    return {name: _ended(own, ask, eos) for name, own, ask in zip(kept, found, asked, strict=True)}


def _ended(own: list[int], ask: Ask, eos: Sequence[int]) -> list[int]:
    """The answer with the token that ended it, which an engine may keep to itself."""
    if len(own) < ask.max_tokens and (not own or own[-1] not in eos):
        return [*own, eos[0]]
    return own
