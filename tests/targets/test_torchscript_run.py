"""The torchscript runner's own part: the order of tensors, the one shape of a fixed module, the processor it needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from images.inside.errors import ArtifactError, CannotRunError
from images.inside.records import Embedding, Manifest
from targets.torchscript import run
from targets.torchscript.signature import Signature
from tests.inside import tiny

FIXED = 6
BATCH = {
    "input_ids": np.array([[5, 6, 7], [8, 9, 0]]),
    "attention_mask": np.array([[1, 1, 1], [1, 1, 0]]),
    "token_type_ids": np.zeros((2, 3), np.int64),
}
TOKENWISE = Signature(inputs=("attention_mask", "input_ids"), outputs=("logits",), fixed=FIXED)


class Seen:
    """A module that says what it was given: each token's id as a row of its output."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        self.calls.append([array.tolist() for array in inputs])
        return [inputs[-1][..., None].astype(np.float32)]


def fixed(manifest: Manifest) -> tuple[run.ModuleRunner, Seen]:
    seen = Seen()
    return run.runner(seen, TOKENWISE, manifest, threads=1), seen


def test_tensors_are_given_in_the_signatures_order_and_no_others() -> None:
    seen = Seen()
    signature = Signature(inputs=("attention_mask", "input_ids"), outputs=("logits",))
    outputs = run.runner(seen, signature, tiny.manifest(), threads=1).predict(BATCH)
    assert seen.calls == [[BATCH["attention_mask"].tolist(), BATCH["input_ids"].tolist()]]
    assert outputs["logits"][..., 0].tolist() == BATCH["input_ids"].tolist()


def test_a_fixed_module_gets_one_padded_row_at_a_time() -> None:
    runner, seen = fixed(tiny.manifest("token-classification", pad_token_id=3))
    runner.predict(BATCH)
    assert seen.calls == [
        [[[1, 1, 1, 0, 0, 0]], [[5, 6, 7, 3, 3, 3]]],
        [[[1, 1, 0, 0, 0, 0]], [[8, 9, 0, 3, 3, 3]]],
    ]


def test_padding_is_on_the_models_own_side() -> None:
    runner, seen = fixed(tiny.manifest("token-classification", padding_side="left"))
    runner.predict(BATCH)
    assert seen.calls[0] == [[[0, 0, 0, 1, 1, 1]], [[0, 0, 0, 5, 6, 7]]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_tokens_are_cut_back_to_the_batch(side: str) -> None:
    runner, _ = fixed(tiny.manifest("token-classification", padding_side=side))
    assert runner.predict(BATCH)["logits"][..., 0].tolist() == BATCH["input_ids"].tolist()


@pytest.mark.parametrize(
    "manifest",
    [
        tiny.manifest("text-classification"),
        tiny.manifest(embedding=Embedding(dimension=FIXED, pooling="mean", normalized=True)),
    ],
    ids=["labels", "embedding"],
)
def test_a_row_of_a_text_is_not_cut_though_it_is_as_long(manifest: Manifest) -> None:
    runner, _ = fixed(manifest)
    assert runner.predict(BATCH)["logits"].shape == (2, FIXED, 1)


def test_a_module_without_machine_code_runs_anywhere(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t: fpu\n")
    run.require_cpu(Signature(inputs=(), outputs=()), tmp_path / "cpuinfo")


def test_a_processor_that_lacks_something_is_told_what(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx sse2\n")
    needs = Signature(inputs=(), outputs=(), cpu=("avx", "avx2", "fma"))
    with pytest.raises(CannotRunError, match="needs avx2, fma, which"):
        run.require_cpu(needs, tmp_path / "cpuinfo")


def test_a_signature_is_read_as_it_was_written(tmp_path: Path) -> None:
    TOKENWISE.save(tmp_path)
    assert Signature.load(tmp_path) == TOKENWISE


def test_an_artifact_without_a_signature_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"signature\.json"):
        run.load(tmp_path, tiny.manifest(), threads=1)
