"""What transformers' batching is taught where a CPU runs it: to multiply by oneDNN, and to leave out idle work.

What is replaced is named here: a version of torch or transformers without it ends the engine's start, and so the build.
One that has it and calls it no more is found by `tests/containers/cpu_engine.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

FEW = 128
"""Candidates that are found and drawn ten times faster than a random number is made for each token of 49152."""

IDLE = 500
"""Products of a query with another answer's key that take as long as one more call of attention."""


def multiply_by_onednn(model: Any, rows: int) -> None:
    """Let a model's linear layers multiply by oneDNN, with weights laid out for it once.

    torch multiplies float32 by MKL, which lays out the weights anew each time that there are several rows: with 8, that
    is two thirds of a step. Its sums are the same but for their order. bfloat16 goes to oneDNN by itself, but lays out
    the weights anew as well; other formats stay as they are.

    Args:
        model: changed in place. Weights that several modules share stay as they are, or they would be held twice.
        rows: of the inputs that the weights are laid out for: the answers that run at once.

    """
    import torch

    onednn = torch.ops.mkldnn
    multiply, lay_out = onednn._linear_pointwise, onednn._reorder_linear_weight  # noqa: SLF001  # what inductor calls
    formats = {torch.float32} | ({torch.bfloat16} if onednn._is_mkldnn_bf16_supported() else set())  # noqa: SLF001

    class Shared(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, given: Any) -> Any:
            return multiply(given, self.weight, self.bias, "none", [], "")

    class LaidOut(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, given: Any) -> Any:
            return multiply(given, self.laid_out, self.bias, "none", [], "")

        @property
        def weight(self) -> Any:  # for a model that looks at it beside calling the layer
            return self.laid_out.to_dense()

    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    for layer in [module for module in model.modules() if type(module) is torch.nn.Linear]:
        if layer.weight.dtype not in formats:
            continue
        if uses[id(layer.weight)] > 1:
            layer.__class__ = Shared
        else:
            laid_out = lay_out(layer.weight.detach(), rows)
            del layer.weight
            layer.__class__, layer.laid_out = LaidOut, laid_out


def skip_idle_sampling() -> None:
    """Leave out the sorting of the vocabulary that no answer of a step asks for: on a CPU it is a quarter of the time.

    A GPU sorts faster than it can be asked whether to.
    """
    import torch
    from transformers.generation.continuous_batching import cb_logits_processors as processors

    class TopK(processors.ContinuousBatchingTopKLogitsWarper):  # type: ignore[misc]
        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            wanted = tensor_arg[: scores.size(0)].long()
            if int(wanted.min()) == scores.size(-1):
                return scores
            kept = self._limited(scores, wanted, tensor_arg)
            alone = (wanted == 1).nonzero().squeeze(-1)  # without chance the first of equals is the answer
            first = scores[alone].argmax(-1)
            kept[alone] = self.filter_value
            kept[alone, first] = scores[alone, first]
            return kept

        def _limited(self, scores: Any, wanted: Any, tensor_arg: Any) -> Any:
            most = int(wanted.max())
            if most == scores.size(-1):
                return super().__call__(scores, tensor_arg)
            least = scores.topk(most, dim=-1).values.gather(-1, (wanted - 1).unsqueeze(-1))
            return scores.masked_fill(scores < least, self.filter_value)

    class TopP(processors.ContinuousBatchingTopPLogitsWarper):  # type: ignore[misc]
        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            asked = tensor_arg[: scores.size(0)].view(dtype=torch.float32)  # floats in the memory of integers
            return scores if bool((asked >= 1).all()) else super().__call__(scores, tensor_arg)

    processors.CLASSIC_TO_CB_PROCESSORS_MAP |= {processors.TopKLogitsWarper: TopK, processors.TopPLogitsWarper: TopP}


def draw_among_the_left() -> None:
    """Draw a token among those that a request's own limits leave, often a handful or one, not among the vocabulary."""
    import torch
    from transformers.generation.continuous_batching import continuous_api

    class Runner(continuous_api.ModelRunner):  # type: ignore[misc]
        _usual = continuous_api.ModelRunner._sample  # noqa: SLF001  # an error where there is none

        def _sample(self, scores: Any, output_ids: Any) -> None:
            values, tokens = scores[0].topk(min(FEW, scores.size(-1)), dim=-1)
            if bool((values[:, -1] != -torch.inf).any()):  # there may be more
                self._usual(scores, output_ids)
                return
            drawn = tokens.gather(-1, torch.multinomial(values.softmax(-1), 1)).squeeze(-1)
            output_ids[0, : drawn.size(0)].copy_(drawn)

    continuous_api.ModelRunner = Runner


def attend_apart() -> None:
    """Let each answer of a step look at its own keys, where those of all together are many.

    The batching multiplies all queries with the keys of all answers and masks those of others: part of a long prompt,
    beside 7 answers behind 740 tokens each, takes nine times as long as it must.
    """
    import torch
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as usual

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, cache: Any = None, **how: Any) -> Any:
        if cache is None or mask is None:
            return usual(module, query, key, value, mask, cache=cache, **how)
        key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=how)
        answers = _answers(how)
        if _idle(answers) < IDLE * len(answers):
            return usual(module, query, key, value, mask, **how)
        each = [
            usual(module, query[:, :, own], key[:, :, kept], value[:, :, kept], mask[:, :, own, kept], **how)[0]
            for own, kept in answers
        ]
        return torch.cat(each, dim=1), None

    AttentionInterface.register("sdpa", attend)


def _answers(how: Mapping[str, Any]) -> list[tuple[slice, slice]]:
    """Where the queries and the keys of each answer are."""
    queries, keys = (how[name].tolist() for name in ("cu_seq_lens_q", "cu_seq_lens_k"))
    return [(slice(*own), slice(*kept)) for own, kept in zip(pairwise(queries), pairwise(keys), strict=True)]


def _idle(answers: Sequence[tuple[slice, slice]]) -> int:
    """Products of queries with keys of others, if all are multiplied with all."""
    counted: int = sum((own.stop - own.start) * (kept.stop - kept.start) for own, kept in answers)
    last, last_kept = answers[-1]
    return int(last.stop * last_kept.stop) - counted
