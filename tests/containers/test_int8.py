"""The quantised MiniLM: as close to the original as stated, and worth having."""

import pytest

from images.build import Built
from images.inside.errors import Exit
from images.verify import ISOLATED
from tests.containers.yard import Yard


def test_every_embedding_keeps_its_direction(minilm_int8: Built) -> None:
    verdict = minilm_int8.record.verdict
    assert verdict.passed
    cosines = [entry.cosine for entry in (*verdict.figures, *verdict.http_figures)]
    assert len(cosines) == 16
    assert all(cosine is not None and cosine >= 0.985 for cosine in cosines)


def test_it_is_quantised(minilm: Built, minilm_int8: Built) -> None:
    assert minilm_int8.record.info.manifest.recipe
    assert minilm_int8.record.sizes.artifact < 0.7 * minilm.record.sizes.artifact
    assert not any(entry.max_abs_diff == 0 for entry in minilm_int8.record.verdict.figures)


def test_its_smoke_test_passes_hardened(yard: Yard, minilm_int8: Built) -> None:
    assert yard.engine.run(minilm_int8.record.reference, "smoke-test", flags=ISOLATED).returncode == Exit.PASS


@pytest.mark.parametrize("fact", ["model", "max_length", "embedding", "task"])
def test_it_is_the_same_model(fact: str, minilm: Built, minilm_int8: Built) -> None:
    exact, quantised = minilm.record.info.manifest, minilm_int8.record.info.manifest
    assert getattr(exact, fact) == getattr(quantised, fact)
