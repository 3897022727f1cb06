from pathlib import Path

import numpy as np
import pytest

from images.inside.contract import FloatArray
from images.inside.generation import fidelity

POSITIONS, VOCABULARY = 6, 1000


def some_logits(seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 4, (POSITIONS, VOCABULARY)).astype(np.float32)


def greedy(logits: FloatArray) -> list[int]:
    return [int(token) for token in logits.argmax(axis=-1)]


def test_the_same_logits_are_the_same() -> None:
    logits = some_logits()
    figures = fidelity.compare(fidelity.record(logits, greedy(logits)), logits)
    assert figures.agreement == 1.0
    assert figures.divergence == pytest.approx(0.0, abs=1e-6)
    assert figures.perplexity == pytest.approx(1.0, abs=1e-6)
    assert figures.max_abs_diff < 1e-5


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    logits = some_logits()
    figures = fidelity.compare(fidelity.record(logits, greedy(logits)), logits + 100)
    assert figures.divergence == pytest.approx(0.0, abs=1e-6)


def test_the_divergence_is_nearly_that_over_the_whole_vocabulary_and_not_above() -> None:
    logits = some_logits()
    ours = logits + np.random.default_rng(1).normal(0, 0.5, logits.shape).astype(np.float32)
    original, other = fidelity.log_softmax(logits), fidelity.log_softmax(ours)
    whole = float((np.exp(original) * (original - other)).sum(axis=-1).mean())
    found = fidelity.compare(fidelity.record(logits, greedy(logits)), ours).divergence
    assert 0.97 * whole < found <= whole


def test_agreement_is_the_share_of_equal_best_tokens() -> None:
    logits = some_logits()
    ours = logits.copy()
    ours[0, (logits[0].argmax() + 1) % VOCABULARY] = 100
    assert fidelity.compare(fidelity.record(logits, greedy(logits)), ours).agreement == pytest.approx(5 / 6)


def test_a_flatter_distribution_has_a_higher_perplexity() -> None:
    logits = some_logits()
    flat = logits / np.float32(2)
    tokens = greedy(logits)
    lost = fidelity.log_softmax(logits) - fidelity.log_softmax(flat)
    expected = np.exp(np.mean([lost[position, token] for position, token in enumerate(tokens)]))
    assert fidelity.compare(fidelity.record(logits, tokens), flat).perplexity == pytest.approx(expected, rel=1e-5)


def test_the_logits_of_the_next_position_are_told_apart() -> None:
    logits = some_logits()
    assert fidelity.compare(fidelity.record(logits, greedy(logits)), np.roll(logits, 1, axis=0)).divergence > 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_infinitely_wrong(value: float) -> None:
    logits = some_logits()
    ours = logits.copy()
    ours[2, 5] = value
    figures = fidelity.compare(fidelity.record(logits, greedy(logits)), ours)
    assert figures.agreement == 0.0
    assert figures.divergence == np.inf


def test_logits_of_another_number_of_positions_are_infinitely_wrong() -> None:
    logits = some_logits()
    assert fidelity.compare(fidelity.record(logits, greedy(logits)), logits[:-1]).divergence == np.inf


def test_a_record_survives_being_written_and_read(tmp_path: Path) -> None:
    kept = fidelity.record(some_logits(), greedy(some_logits()))
    np.savez(tmp_path / "kept.npz", **kept.arrays())
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
        assert all(np.array_equal(one, other) for one, other in zip(fidelity.Record.of(arrays), kept, strict=True))


def test_a_vocabulary_smaller_than_what_is_kept_is_kept_whole() -> None:
    logits = some_logits()[:, :10]
    figures = fidelity.compare(fidelity.record(logits, greedy(logits)), logits)
    assert figures.divergence == pytest.approx(0.0, abs=1e-6)


def test_figures_of_cases_are_weighed_by_their_positions() -> None:
    one = fidelity.Fidelity(positions=1, agreement=0.0, divergence=1.0, perplexity=4.0, max_abs_diff=0.5)
    two = fidelity.Fidelity(positions=3, agreement=1.0, divergence=0.0, perplexity=1.0, max_abs_diff=2.0)
    both = fidelity.together([one, two])
    assert (both.positions, both.agreement, both.divergence, both.max_abs_diff) == (4, 0.75, 0.25, 2.0)
    assert both.perplexity == pytest.approx(4**0.25)


@pytest.mark.parametrize(
    ("original", "ours", "share"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3, 4], [1, 2, 9, 4], 0.5),
        ([1, 2], [1, 2, 3, 4], 0.5),
        ([1, 2, 3, 4], [1, 2], 0.5),
        ([1], [2], 0.0),
        ([], [], 1.0),
    ],
)
def test_an_answer_matches_up_to_its_first_other_token(original: list[int], ours: list[int], share: float) -> None:
    assert fidelity.matched(original, ours) == share
