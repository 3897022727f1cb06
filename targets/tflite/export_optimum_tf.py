"""The model to LiteRT by TensorFlow and Optimum: Optimum says what a model takes, TensorFlow converts it.

Optimum's own command makes one length a file. Here its configuration makes a signature for each length of one model,
so that they share their weights.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from images.inside import newer
from images.inside.contract import Exporting
from images.inside.records import Source
from targets.tflite import shapes

VECTOR = "sentence_embedding"
TINY, FAR = 1e-24, 1e9
"""Below any length of a vector, squared; beyond any number in one."""
KNOWN = {"Transformer", "Pooling", "Normalize"}
"""Parts of a sentence-transformers model that are written again here; it has PyTorch only."""


def convert(given: Exporting, source: Source, lengths: Sequence[int], out: Path) -> None:
    """Write the exact file: a signature for each length, inputs int64 [1, length], outputs float32 by name."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # read when TensorFlow is imported: transformers' classes are of Keras 2
    import tensorflow as tf

    network = _load(given)
    model = Embedder(network, source, _parts(given)) if source.embedding else network
    holder = tf.Module()
    holder.network = network
    signatures = {shapes.name(length): _signature(model, network, given.source.task, length) for length in lengths}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(holder, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        out.write_bytes(converter.convert())


def _load(given: Exporting) -> Any:
    """The model as transformers' TensorFlow class for the task loads it, of the PyTorch weights."""
    from optimum.exporters.tasks import TasksManager

    with tempfile.TemporaryDirectory() as folder:
        readable = Path(folder) / "model"
        newer.link(given.model, readable)  # its transformers is older than the one that recorded the answers
        network = TasksManager.get_model_from_task(
            given.source.task,
            str(readable),
            framework="tf",
            library_name="transformers",
            trust_remote_code=given.source.trust_remote_code,
        )
    network.config.return_dict = True
    return network


def _signature(model: Any, network: Any, task: str, length: int) -> Any:
    """The model as a function of inputs of one shape, as Optimum's configuration for its architecture makes it."""
    from optimum.exporters.tasks import TasksManager

    make = TasksManager.get_exporter_config_constructor("tflite", network, task=task, library_name="transformers")
    config = make(network.config, task=task, batch_size=1, sequence_length=length)
    if model is not network:
        config.__class__ = type("Embedding", (type(config),), {"outputs": [VECTOR]})
    return config.model_to_signatures(model)["model"]


def _parts(given: Exporting) -> list[str]:
    """The kinds of modules that the embedding is made by, in order; without those that PyTorch alone has."""
    if given.source.pooling:
        return ["Transformer", "Pooling", "Normalize"]
    modules = json.loads((given.model / "modules.json").read_text())
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if unknown := sorted(set(kinds) - KNOWN):
        raise NotImplementedError(f"its sentence-transformers modules {', '.join(unknown)} exist in PyTorch only")
    return kinds


class Embedder:
    """A network, its pooling and its normalisation; called as a network is."""

    def __init__(self, network: Any, source: Source, parts: Sequence[str]) -> None:
        assert source.embedding  # noqa: S101  # who asks for an embedder has one
        if source.embedding.pooling not in POOLINGS:
            raise NotImplementedError(f"its pooling {source.embedding.pooling} exists in PyTorch only")
        self._network, self._parts = network, parts
        self._pool = POOLINGS[source.embedding.pooling]

    def call(self, **inputs: Any) -> dict[str, Any]:
        """The vectors [1, dimension]."""
        import tensorflow as tf

        tokens = self._network.call(**inputs)["last_hidden_state"]
        vectors = self._pool(tokens, tf.cast(inputs["attention_mask"], tokens.dtype)[:, :, None])
        return {VECTOR: tf.math.l2_normalize(vectors, axis=1, epsilon=TINY) if "Normalize" in self._parts else vectors}


def _mean(tokens: Any, mask: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tokens * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1e-9)


def _first(tokens: Any, mask: Any) -> Any:
    del mask
    return tokens[:, 0]


def _largest(tokens: Any, mask: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_max(tokens + (mask - 1) * FAR, axis=1)


POOLINGS: Mapping[str, Callable[[Any, Any], Any]] = {"mean": _mean, "cls": _first, "max": _largest}
"""From token vectors [1, length, dimension] and their mask [1, length, 1] to one vector, by name."""
