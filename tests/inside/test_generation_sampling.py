import math
from typing import Any

import numpy as np
import pytest

from images.inside.contract import FloatArray
from images.inside.errors import InputError
from images.inside.generation.request import Request, Sampling, sampling
from images.inside.generation.sampling import LOWEST, Sampler, candidates, draw

LOGITS = np.array([2.0, -1.0, 0.5, 3.0, 1.0, -2.0, 2.5, 0.0], np.float32)
BIG = (np.random.default_rng(0).normal(size=5000) * 3).astype(np.float32)


def shares(logits: FloatArray, how: Sampling, prompt: list[int]) -> dict[int, float]:
    """How likely each token is as the first of an answer."""
    sampler = Sampler(how, prompt, 1)
    scores = sampler._shifted(logits, sampler._seen) if sampler._seen else logits
    ids, weights = candidates(scores, how)
    weights /= weights.sum()
    return dict(zip(range(logits.size) if ids is None else ids.tolist(), weights.tolist(), strict=True))


# The expected shares are the softmax of what transformers 4.57.6's logits processors leave.
@pytest.mark.parametrize(
    ("prompt", "how", "expected"),
    [
        ([0], {}, {0: 0.162, 1: 0.008, 2: 0.036, 3: 0.441, 4: 0.06, 5: 0.003, 6: 0.268, 7: 0.022}),
        ([0], {"temperature": 0.5}, {0: 0.088, 1: 0, 2: 0.004, 3: 0.653, 4: 0.012, 5: 0, 6: 0.24, 7: 0.002}),
        ([0], {"top_k": 3}, {0: 0.186, 3: 0.506, 6: 0.307}),
        ([0], {"top_p": 0.8}, {0: 0.186, 3: 0.506, 6: 0.307}),
        ([0], {"min_p": 0.2}, {0: 0.186, 3: 0.506, 6: 0.307}),
        ([0], {"temperature": 2, "top_k": 5, "top_p": 0.9, "min_p": 0.5}, {0: 0.254, 3: 0.419, 6: 0.326}),
        ([0, 3, 3, 5], {"repetition_penalty": 1.5, "top_k": 4}, {0: 0.145, 3: 0.283, 4: 0.104, 6: 0.467}),
        ([0], {"logit_bias": {5: 6.0, 3: -4.0}, "top_p": 0.7}, {5: 0.818, 6: 0.182}),
        (
            [3, 1],
            {"logit_bias": {1: 3.0}, "repetition_penalty": 2.0, "temperature": 0.7, "top_p": 0.95},
            {0: 0.249, 1: 0.06, 3: 0.122, 4: 0.06, 6: 0.509},
        ),
    ],
)
def test_tokens_are_as_likely_as_the_original_makes_them(
    prompt: list[int], how: dict[str, Any], expected: dict[int, float]
) -> None:
    assert shares(LOGITS, Sampling(**how), prompt) == pytest.approx(expected, abs=0.0006)


def picks(count: int = 50, logits: FloatArray = BIG, **how: Any) -> list[int]:
    sampler = Sampler(Sampling(**how), [0], count)
    return [sampler.pick(logits).token for _ in range(count)]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert set(picks(temperature=0)) == {int(BIG.argmax())}


@pytest.mark.parametrize("how", [{"top_k": 1}, {"top_p": 0}, {"min_p": 1}, {"temperature": 1e-5}])
def test_one_candidate_is_the_most_likely_token(how: dict[str, Any]) -> None:
    assert set(picks(**how)) == {int(BIG.argmax())}


def test_the_same_seed_draws_the_same_tokens() -> None:
    assert picks(seed=1) == picks(seed=1)


@pytest.mark.parametrize("other", [{"seed": 2}, {"seed": -1}, {"seed": 1, "choice": 1}])
def test_another_seed_or_choice_draws_others(other: dict[str, Any]) -> None:
    assert picks(**other) != picks(seed=1)


def test_a_frequency_penalty_grows_with_every_time() -> None:
    logits = np.array([1, 0.5, 0], np.float32)
    assert picks(6, logits, temperature=0, frequency_penalty=0.4) == [0, 0, 1, 0, 1, 2]


def test_a_presence_penalty_does_not_grow() -> None:
    assert picks(5, np.array([1, 0.5], np.float32), temperature=0, presence_penalty=0.6) == [0, 1, 0, 0, 0]


def test_penalties_for_the_answer_spare_the_prompt() -> None:
    sampler = Sampler(Sampling(temperature=0, presence_penalty=2, frequency_penalty=2), [0, 0, 0], 1)
    assert sampler.pick(np.array([1, 0.5], np.float32)).token == 0


def test_logits_are_not_changed() -> None:
    before = BIG.copy()
    picks(logits=BIG, logit_bias={1: 5}, presence_penalty=1, top_p=0.5)
    assert (before == BIG).all()


def test_log_probabilities_are_those_of_the_model_itself() -> None:
    how = Sampling(temperature=0.1, top_k=1, logit_bias={1: 100}, logprobs=True, top_logprobs=2)
    picked = Sampler(how, [0], 1).pick(LOGITS)
    assert (picked.token, [token for token, _ in picked.top]) == (1, [3, 6])
    found = [picked.logprob, *(logprob for _, logprob in picked.top)]
    assert found == pytest.approx([-4.818, -0.818, -1.318], abs=0.001)


def test_a_log_probability_of_minus_infinity_can_be_written_as_json() -> None:
    logits = np.array([0, -math.inf], np.float32)
    assert Sampler(Sampling(temperature=0, logprobs=True, top_logprobs=2), [0], 1).pick(logits).top[1][1] == LOWEST


def test_the_most_wanted_log_probabilities_are_no_more_with_equal_ones() -> None:
    how = Sampling(temperature=0, logprobs=True, top_logprobs=3)
    assert [token for token, _ in Sampler(how, [0], 1).pick(np.zeros(8, np.float32)).top] == [0, 1, 2]


def test_of_equals_top_p_takes_as_many_as_it_needs() -> None:
    assert set(picks(500, np.zeros(10, np.float32), top_p=0.45, seed=0)) == set(range(5))


def test_the_shares_of_what_is_drawn_are_the_weights() -> None:
    weights = np.array([1, 0, 3, 4], np.float32)
    found = np.bincount([draw(weights, (at + 0.5) / 800) for at in range(800)])
    assert found.tolist() == [100, 0, 300, 400]


@pytest.mark.parametrize("temperature", [0, 0.01, 2])
def test_a_choice_that_is_not_allowed_is_made_anew(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, top_p=0.5), [0], 1, lambda token: token == 5)
    assert sampler.pick(LOGITS).token == 5


@pytest.mark.parametrize("temperature", [0, 1])
def test_nothing_allowed_is_an_error(temperature: float) -> None:
    with pytest.raises(ArithmeticError, match="no token of the vocabulary is allowed"):
        Sampler(Sampling(temperature=temperature), [0], 1, lambda _: False).pick(LOGITS)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 5000])
def test_weights_decide_what_is_drawn(size: int) -> None:
    weights = np.zeros(size, np.float32)
    weights[size // 2] = 1
    assert {draw(weights, uniform) for uniform in (0.0, 0.5, 1 - 2**-53)} == {size // 2}


def test_a_flat_distribution_is_cut_by_top_p_too() -> None:
    logits = np.linspace(0, 0.1, 60000, dtype=np.float32)
    ids, _ = candidates(logits, Sampling(top_p=0.5))
    assert ids is not None
    assert (ids[-1], ids[0]) == (59999, pytest.approx(30000, abs=1500))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_an_error(bad: float, temperature: float) -> None:
    with pytest.raises(ArithmeticError):
        picks(1, np.array([0, bad, 1], np.float32), temperature=temperature)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("repetition_penalty", 0),
        ("frequency_penalty", 3),
        ("presence_penalty", -3),
        ("top_logprobs", 21),
        ("seed", 1 << 63),
        ("logit_bias", {1: 101}),
    ],
)
def test_a_parameter_out_of_its_bounds_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"at `\$\.{field}`"):
        Sampling(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [], "param": "messages"}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("a",) * 17}, "stop"),
        ({"stop": ("a" * 1025,)}, "stop"),
    ],
)
def test_a_request_that_cannot_be_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InputError, match=rf"at `\$\.{param}`"):
        Request(**{"prompt": [1], **fields})


def test_the_models_defaults_hold_for_what_a_request_leaves_out() -> None:
    found = sampling({"temperature": 0.6, "top_k": 20.0, "max_length": 20}, {"temperature": 0, "top_p": None})
    assert (found.temperature, found.top_k, found.top_p) == (0, 20, 1)
