"""A program for the Python of an image that runs `transformers serve` on the CPU: what it was taught agrees with torch.

It ends with 0, or with the assertion that does not hold.
"""

import os
from collections import Counter
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.cli.serving.utils import CBGenerateManager
from transformers.generation.continuous_batching import cb_logits_processors as processors
from transformers.generation.continuous_batching import continuous_api
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from images.inside.transformers_serve import cpu, launch, program

ROWS, WIDTH, VOCABULARY = 4, 96, 4 * cpu.FEW
ANSWER, PATIENCE = 3, 60.0
"""Tokens of a generated answer, and seconds in which it must be there."""


def layers() -> Any:
    """Two layers whose weights are one, one with a weight of its own, and one of a format that stays as it is."""
    made = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=at == 2) for at in range(3)))
    made[1].weight = made[0].weight
    return made.append(torch.nn.Linear(WIDTH, WIDTH, dtype=torch.float16))


def check_products() -> None:
    """Every layer gives what it gave, whatever the number of rows; a weight can still be looked at."""
    model, given = layers(), torch.randn(1, 3 * ROWS, WIDTH)
    before, weight = [layer(given) for layer in model[:3]], model[2].weight.detach().clone()
    cpu.multiply_by_onednn(model, ROWS)
    for layer, usual in zip(model[:3], before, strict=True):
        assert type(layer) is not torch.nn.Linear
        assert torch.allclose(layer(given), usual, atol=1e-5)
        assert torch.allclose(layer(given[:, :1]), usual[:, :1], atol=1e-5)
    assert model[0].weight is model[1].weight
    assert torch.equal(model[2].weight, weight)
    assert type(model[3]) is torch.nn.Linear


def check_short_products() -> None:
    """In bfloat16 too, on processors that multiply it; others go on as before."""
    model, given = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16)), torch.randn(ROWS, WIDTH)
    before = model(given.bfloat16())
    cpu.multiply_by_onednn(model, ROWS)
    assert torch.allclose(model(given.bfloat16()), before, rtol=2**-7)


def drawn(scores: Any) -> list[int]:
    """The token that the batching draws for each row."""
    runner = continuous_api.ModelRunner.__new__(continuous_api.ModelRunner)
    runner.do_sample, runner.return_logprobs = True, False
    told = torch.zeros(1, len(scores) + 1, dtype=torch.int32)
    runner._sample(scores.unsqueeze(0), told)
    ids: list[int] = told[0, : len(scores)].tolist()
    return ids


def check_draws() -> None:
    """The only one that is left is drawn; of several, those and no others, as often as they are likely."""
    scores = torch.full((ROWS, VOCABULARY), -torch.inf)
    scores[:, 7] = 1.0
    assert drawn(scores) == [7] * ROWS
    scores[1, 9] = 1.0 + torch.tensor(3.0).log()
    found = [drawn(scores) for _ in range(400)]
    assert {(row[0], row[2], row[3]) for row in found} == {(7, 7, 7)}
    assert 0.65 < sum(row[1] == 9 for row in found) / len(found) < 0.85
    assert {row[1] for row in found} == {7, 9}
    everything = torch.zeros(ROWS, VOCABULARY)
    everything[:, 11] = 50.0
    assert drawn(everything) == [11] * ROWS


def check_limits() -> None:
    """Each row keeps as many candidates as it asks for; of equals, a row without chance keeps the first."""
    limit = processors.CLASSIC_TO_CB_PROCESSORS_MAP[TopKLogitsWarper](TopKLogitsWarper(program.SAMPLED["top_k"]))
    scores = torch.zeros(3, 8)
    scores[:, [3, 5]] = 2.0
    kept = limit(scores, torch.tensor([1, 2, 8], dtype=torch.int32))
    assert [(row != -torch.inf).nonzero().squeeze(-1).tolist() for row in kept[:2]] == [[3], [3, 5]]


def check_attention() -> None:
    """Attention is told to read shared keys as they are, and gives what it gives with a copy for each head."""
    mask = torch.zeros(1, 1, ROWS, WIDTH).masked_fill(torch.rand(1, 1, ROWS, WIDTH) < 0.5, -torch.inf)
    query = torch.randn(1, 9, ROWS, 64)
    key, value = torch.randn(1, 3, WIDTH, 64), torch.randn(1, 3, WIDTH, 64)
    os.environ.update(launch.ON_A_CPU)
    assert sdpa_attention.use_gqa_in_sdpa(mask, key, value)
    attend = torch.nn.functional.scaled_dot_product_attention
    copied = attend(query, *(sdpa_attention.repeat_kv(one, 3) for one in (key, value)), attn_mask=mask)
    assert torch.allclose(attend(query, key, value, attn_mask=mask, enable_gqa=True), copied, atol=1e-5)


class Attending:
    """A layer and its cache: three heads share a key, and all that was kept comes with every step."""

    layer_idx, num_key_value_groups = 0, 3

    def __init__(self, key: Any, value: Any) -> None:
        self.kept = key, value

    def update(self, key_states: Any, value_states: Any, layer_idx: int, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """What is kept, for this kind of layer."""
        assert (key_states, value_states, layer_idx) == (None, None, 0)
        kwargs["cu_seq_lens_k"] = kwargs["cu_seq_lens_k"]["full_attention"]
        return self.kept


def check_apart(own: list[int], kept: list[int]) -> None:
    """Answers that look at their own keys only get what they get with all keys and a mask."""
    queries, keys = (torch.tensor([0, *counts]).cumsum(0) for counts in (own, kept))
    query = torch.randn(1, 9, int(queries[-1]), 64)
    layer = Attending(*(torch.randn(1, 3, int(keys[-1]), 64) for _ in range(2)))
    mask = torch.full((1, 1, query.size(2), int(keys[-1])), torch.finfo(torch.float32).min)
    for place in range(len(own)):
        mask[:, :, queries[place] : queries[place + 1], keys[place] : keys[place + 1]] = 0
    usual = sdpa_attention.sdpa_attention_forward(layer, query, *layer.kept, mask, scaling=0.125, is_causal=False)
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert attend is not sdpa_attention.sdpa_attention_forward
    lengths = {"cu_seq_lens_q": queries, "cu_seq_lens_k": {"full_attention": keys}}
    found = attend(layer, query, None, None, mask, cache=layer, scaling=0.125, is_causal=False, **lengths)
    assert torch.allclose(found[0], usual[0], atol=1e-5)


def decoder() -> Any:
    """A small decoder whose weights are random, and those of its head its embeddings'."""
    size = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "vocab_size": VOCABULARY}
    heads = {"num_attention_heads": 3, "num_key_value_heads": 1, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(**size, **heads)).eval()


def counting(calls: Counter[str], owner: Any, name: str, what: str) -> None:
    """Count the calls of a function."""
    usual = getattr(owner, name)

    def counted(*args: Any, **named: Any) -> Any:
        calls[what] += 1
        return usual(*args, **named)

    setattr(owner, name, counted)


def generate(batching: Any) -> None:
    """Answer some prompts at once, each with limits of its own."""
    batching._how = {"temperature": 1.0, "top_k": 5, "top_p": 0.9}
    for prompt in range(ROWS):
        batching._cb.add_request([prompt + 1] * 8, max_new_tokens=ANSWER)
    found = [batching._cb.get_result(timeout=PATIENCE) for _ in range(ROWS)]
    assert [len(one.generated_tokens) for one in found] == [ANSWER] * ROWS


def check_use() -> None:
    """The batching calls what it was taught: what it calls no more costs its time again, and nothing else tells."""
    size = {"page": launch.PAGE, "pages": 2 * ROWS, "batch_tokens": launch.BATCH_TOKENS, "slots": ROWS}
    model = decoder()
    batching = program.batching(CBGenerateManager, program.Options(model="", device=program.CPU, port=0, **size))()
    batching.init_cb(model, GenerationConfig(eos_token_id=VOCABULARY))
    limits, calls = processors.CLASSIC_TO_CB_PROCESSORS_MAP, Counter[str]()
    taught = {
        "top-k among the candidates": (limits[TopKLogitsWarper], "_limited"),
        "top-p where it is asked for": (limits[TopPLogitsWarper], "__call__"),
        "draws among the left": (continuous_api.ModelRunner, "_sample"),
        "attention apart": (cpu, "_idle"),
        "products of weights laid out": (type(model.model.layers[0].mlp.up_proj), "forward"),
        "products of shared weights": (type(model.lm_head), "forward"),
    }
    for what, (owner, name) in taught.items():
        counting(calls, owner, name, what)
    counting(calls, continuous_api.ModelRunner, "_usual", "draws among the vocabulary")
    try:
        generate(batching)
    finally:
        batching._cb.stop()
    assert not taught.keys() - calls.keys(), f"never called: {', '.join(sorted(taught.keys() - calls.keys()))}"
    assert not calls["draws among the vocabulary"]


torch.manual_seed(0)
cpu.skip_idle_sampling()
cpu.draw_among_the_left()
cpu.attend_apart()
check_products()
check_short_products()
check_draws()
check_limits()
check_attention()
check_apart([1, 1], [5, 9])
check_apart([1, 1, 60], [740, 900, 90])
check_use()
