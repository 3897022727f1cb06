"""What the original answers to the suite of a model that generates. Runs in the builder."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from images.inside import original
from images.inside.compare import Reference
from images.inside.contract import FloatArray
from images.inside.errors import InputError
from images.inside.generation import fidelity, inputs, proof
from images.inside.generation.request import BOUNDS
from images.inside.prompts import Prompts
from images.inside.records import Case, GenerationFacts
from images.inside.suite import Input

TOKENS = 24
"""Of an answer."""
PROBE = "a"
"""A text that shows what the tokenizer puts around it."""


def facts(network: Any, fast: Any, context: int) -> GenerationFacts:
    """What the manifest says of the model."""
    config, given = network.generation_config, network.generation_config.to_diff_dict()
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    special = {token for token, added in fast.added_tokens_decoder.items() if added.special}
    return GenerationFacts(
        context=context,
        vocabulary=len(network.get_output_embeddings().weight),
        eos=sorted({int(token) for token in [*ends, fast.eos_token_id] if token is not None}),
        bos=_bos(fast),
        chat_template=str(fast.get_chat_template()) if fast.chat_template else "",
        special=sorted(special.union(fast.all_special_ids)),
        defaults={name: float(given[name]) for name in BOUNDS if given.get(name) is not None},
        names={name: token for name, token in fast.special_tokens_map.items() if isinstance(token, str)},
        kv_bytes=_kv_bytes(network.config),
    )


def _bos(fast: Any) -> int | None:
    """The token before a text, where the tokenizer puts one."""
    put, bare = fast(PROBE).input_ids, fast(PROBE, add_special_tokens=False).input_ids
    return int(put[0]) if put[0] == fast.bos_token_id != bare[0] else None


def _kv_bytes(config: Any) -> int:
    """What a token takes in the cache. The step ends for a model that keeps something else than keys and values."""
    own = config.get_text_config()
    if not hasattr(own, "num_attention_heads"):
        original.refuse(
            f"a model of type {config.model_type} has no attention, so no cache of keys and values",
            "text generation is served of transformers with attention in every layer: name one of these",
        )
    heads = getattr(own, "num_key_value_heads", None) or own.num_attention_heads
    size = getattr(own, "head_dim", None) or own.hidden_size // own.num_attention_heads
    return int(2 * own.num_hidden_layers * heads * size * np.dtype(np.float32).itemsize)


class Recorder(NamedTuple):
    """Asks the original one input after the other.

    Attributes:
        network: the original in PyTorch.
        fast: its tokenizer.
        facts: what the manifest says of it.
        prompts: the image's own way to tokens, which must be the original's.

    """

    network: Any
    fast: Any
    facts: GenerationFacts
    prompts: Prompts

    def record(self, own: Sequence[Input]) -> Reference:
        """The fixed inputs, those left out that this model's template or context does not take, and the user's own."""
        fixed = [(entry, self._ids(entry.payload)) for entry in inputs.suite(chat=bool(self.facts.chat_template))]
        taken = [(entry, ids) for entry, ids in fixed if ids and self._fits(ids)]
        taken += [(entry, self._own(entry)) for entry in own]
        if not taken:
            original.refuse(
                f"no input of the suite fits into a context of {self.facts.context} tokens",
                "give a longer --max-length",
            )
        cases, outputs = [], {}
        for entry, ids in taken:
            self._check(entry, ids)
            record = self._answer(ids)
            outputs[entry.name] = [{proof.PROMPT: np.array(ids, np.int32), **record.arrays()}]
            cases.append(Case(name=entry.name, payload=entry.payload, answer=self._said(record)))
        return Reference(cases=tuple(cases), outputs=outputs)

    def _ids(self, payload: Mapping[str, Any]) -> list[int]:
        """As the original's own library makes them; none when its template does not take the messages."""
        from jinja2 import TemplateError

        if "prompt" in payload:
            return [int(token) for token in self.fast(payload["prompt"]).input_ids]
        try:
            text = self.fast.apply_chat_template(
                copy.deepcopy(payload["messages"]), tokenize=False, add_generation_prompt=True, **inputs.VARIABLES
            )
        except (TemplateError, TypeError, ValueError):
            return []
        return [int(token) for token in self.fast(text, add_special_tokens=False).input_ids]

    def _own(self, entry: Input) -> list[int]:
        ids = self._ids(entry.payload)
        if not ids:
            original.refuse(f"the suite's input {entry.name!r} is refused by the model's chat template", _CORRECT)
        if not self._fits(ids):
            original.refuse(
                f"the suite's input {entry.name!r} has {len(ids)} tokens, and {TOKENS} are answered: the model's "
                f"context is {self.facts.context}",
                _CORRECT,
            )
        return ids

    def _fits(self, ids: Sequence[int]) -> bool:
        return len(ids) + TOKENS <= self.facts.context

    def _check(self, entry: Input, ids: Sequence[int]) -> None:
        try:
            ours = list(inputs.prompt(entry.payload, self.prompts))
        except InputError as error:
            original.refuse(f"the suite's input {entry.name!r} is refused in the image: {error}", _OTHER)
        if ours != list(ids):
            original.refuse(
                f"the suite's input {entry.name!r} has other tokens in the image than in the original", _OTHER
            )

    def _answer(self, ids: Sequence[int]) -> fidelity.Record:
        """The most likely token, again and again."""
        tokens: list[int] = []
        rows: list[FloatArray] = []
        fed, past = list(ids), None
        while len(tokens) < TOKENS and not (tokens and tokens[-1] in self.facts.eos):
            logits, past = self._step(fed, past)
            rows.append(logits)
            tokens.append(int(logits.argmax()))
            fed = tokens[-1:]
        return fidelity.record(np.stack(rows), tokens)

    def _step(self, ids: Sequence[int], past: Any) -> tuple[FloatArray, Any]:
        import torch

        with torch.no_grad():
            result = self.network(input_ids=torch.tensor([list(ids)]), past_key_values=past, use_cache=True)
        return result.logits[0, -1].float().numpy(), result.past_key_values

    def _said(self, record: fidelity.Record) -> dict[str, str]:
        stopped = int(record.tokens[-1]) in self.facts.eos
        text = str(self.fast.decode(record.tokens.tolist(), skip_special_tokens=True))
        return {"text": text, "finish_reason": proof.STOP if stopped else proof.LENGTH}


_CORRECT = "correct the suite file"
_OTHER = "its tokenizer or chat template does something that the image does not do: please report it"
