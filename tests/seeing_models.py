"""A tiny vision transformer with random weights, in the form that `save_pretrained()` writes."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from images.inside.contract import FloatArray

HIDDEN, INNER, LAYERS, HEADS, SIZE, PATCH = 32, 64, 2, 2, 48, 16
LABELS = ["tench", "goldfish", "hen", "ostrich", "house finch"]
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIZE, "width": SIZE},
    "resample": 2,
    # not all the same: a swapped channel or a mean that is taken for a deviation shows
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


NAME = "tiny-vit"


def write(folder: Path, **processor: object) -> Path:
    """Write the model to `folder`; equal settings make equal files."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": SIZE,
        "patch_size": PATCH,
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: index for index, label in enumerate(LABELS)},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **processor}, indent=2))
    save_file(_weights(), folder / "model.safetensors", {"format": "pt"})
    return folder


def _weights() -> dict[str, FloatArray]:
    generator, embeddings = np.random.default_rng(0), "vit.embeddings"
    shapes: dict[str, tuple[int, ...]] = {
        f"{embeddings}.cls_token": (1, 1, HIDDEN),
        f"{embeddings}.position_embeddings": (1, 1 + (SIZE // PATCH) ** 2, HIDDEN),
        f"{embeddings}.patch_embeddings.projection.weight": (HIDDEN, 3, PATCH, PATCH),
        f"{embeddings}.patch_embeddings.projection.bias": (HIDDEN,),
        **_norm("vit.layernorm"),
        **_linear("classifier", len(LABELS), HIDDEN),
    }
    for layer in (f"vit.encoder.layer.{index}" for index in range(LAYERS)):
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= _linear(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        shapes |= _linear(f"{layer}.intermediate.dense", INNER, HIDDEN) | _linear(
            f"{layer}.output.dense", HIDDEN, INNER
        )
        shapes |= _norm(f"{layer}.layernorm_before") | _norm(f"{layer}.layernorm_after")
    return {name: _tensor(name, shape, generator) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
    """Scaled by what goes into an output; the picture counts for more than where it is, so that answers differ."""
    gain = 0.1 if name.endswith(("_token", "_embeddings", "bias")) else 6 if "projection.weight" in name else 1.4
    values = generator.normal(size=shape) * gain / np.sqrt(np.prod(shape[1:]) if len(shape) in {2, 4} else 4)
    return np.asarray(values + (1 if "norm" in name and name.endswith("weight") else 0), np.float32)


def _linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}
