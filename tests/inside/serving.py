"""What the server's tests serve: a small real model, and the server around it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from images.inside import tasks
from images.inside.contract import IntArray, Outputs
from images.inside.loaded import Loaded
from images.inside.records import Bounds, Embedding, Manifest, ModelFacts
from images.inside.server import running
from images.inside.settings import Settings
from images.inside.text import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four", "five", "six", "seven", "eight"]
DIMENSION = 4
MODEL = "acme/tiny"


def manifest(**changes: Any) -> Manifest:
    """An embedding model's manifest."""
    facts = ModelFacts(id=MODEL, source="folder", revision="abc", digest="sha256:0")
    usual = Manifest(
        target="onnx-cpu",
        task="feature-extraction",
        exporter="none",
        mode="none",
        model=facts,
        entry="model",
        max_length=16,
        pad_token_id=0,
        embedding=Embedding(dimension=DIMENSION, pooling="mean", normalized=False),
        bounds=Bounds(),
        architecture="any",
        memory_bytes=0,
        packages={},
    )
    return msgspec.structs.replace(usual, **changes)


class TableRunner:
    """A model that is a table: a token's vector is its row, a text's vector the mean of its tokens'.

    Attributes:
        shapes: the shape of each batch that ran.
        open: cleared, it holds batches up.
        started: set when a batch has begun.

    """

    def __init__(self, *, per_token: bool = False) -> None:
        self.table = np.random.default_rng(0).normal(size=(len(WORDS), DIMENSION)).astype(np.float32)
        self.shapes: list[tuple[int, ...]] = []
        self.open, self.started = threading.Event(), threading.Event()
        self.open.set()
        self._per_token = per_token

    def predict(self, batch: Mapping[str, IntArray]) -> Outputs:
        """One vector a text, or one a token. The word "eight" breaks it."""
        self.shapes.append(batch["input_ids"].shape)
        self.started.set()
        self.open.wait()
        if (batch["input_ids"] == WORDS.index("eight")).any():
            raise RuntimeError("the model cannot count to eight")
        vectors = self.table[batch["input_ids"]]
        if self._per_token:
            return {"last_hidden_state": vectors}
        mask = batch["attention_mask"][..., None].astype(np.float32)
        return {"sentence_embedding": (vectors * mask).sum(axis=1) / mask.sum(axis=1)}

    def describe(self) -> dict[str, str]:
        """Its name."""
        return {"runtime": "table"}

    def vector(self, text: str) -> list[float]:
        """The vector of a text, worked out without the server."""
        ids = [WORDS.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
        mean: list[float] = self.table[ids].mean(axis=0).tolist()
        return mean


def tokenizer(facts: Manifest) -> Tokenizer:
    """A word a token, with [CLS] and [SEP] around."""
    backend = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[1]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return Tokenizer(backend, facts)


def loaded(facts: Manifest, runner: TableRunner) -> Loaded:
    """The model as the server's start gives it."""
    task = tasks.load(facts.task)
    return Loaded(artifact=Path(), manifest=facts, processor=tokenizer(facts), task=task, runner=runner)


@contextmanager
def served(runner: TableRunner | None = None, facts: Manifest | None = None, **settings: Any) -> Iterator[str]:
    """A ready server on the loopback: its URL."""
    facts, runner = facts or manifest(), runner or TableRunner()
    with running(facts, Settings(**settings), lambda: loaded(facts, runner)) as url:
        yield url


def until(true: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def metric(url: str, name: str) -> float:
    """The value of one of the server's metrics."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))
