"""Model folders written for tests, and what resolving them gives."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from images import model
from images.errors import ImageError, ModelError
from images.selection import Criteria

TASKS = ("feature-extraction", "text-classification", "fill-mask")
BERT = {"model_type": "bert", "architectures": ["BertModel"]}
MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Write files by their path: JSON, text, or safetensors that are full of one number."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors") and isinstance(content, int):
            save_file({"weight": np.full((4, 4), content, np.float32)}, file)
        elif name.endswith(".json") and not isinstance(content, str):
            file.write_text(json.dumps(content))
        else:
            file.write_text(content)
    return folder


def resolve(text: object, cache: Path, **criteria: Any) -> model.ModelRef:
    """The model of that name, for a target that has `TASKS`."""
    return model.resolve(str(text), Criteria(**{"tasks": TASKS, **criteria}), cache=cache)


def refused(text: object, cache: Path, kind: type[ImageError] = ModelError, **criteria: Any) -> str:
    """The message of the error with which that name is refused."""
    with pytest.raises(kind) as caught:
        resolve(text, cache, **criteria)
    return str(caught.value)


def paths(found: model.ModelRef) -> list[str]:
    """The files that a model keeps."""
    return [file.path for file in found.files]
