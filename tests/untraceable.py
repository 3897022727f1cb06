"""A tiny model with code of its own: its positions are counted in a loop over its input, so a trace is of one shape."""

import json
from pathlib import Path

from tests import models

MODULE = "counting"
CODE = """
import torch
from transformers import BertModel


class CountingModel(BertModel):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **kwargs):
        positions = []
        for position in range(input_ids.shape[1]):
            positions.append(position)
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=torch.tensor([positions]),
            **kwargs,
        )
"""
"""Right as it stands, and padding changes nothing: only a module made from one run of it is wrong elsewhere."""


def write(folder: Path) -> Path:
    """Write the model to `folder/counting`; it loads with `--trust-remote-code` only."""
    home = models.write("tiny-encoder", folder).rename(folder / MODULE)
    config = json.loads((home / "config.json").read_text())
    config["auto_map"] = {"AutoModel": f"{MODULE}.CountingModel"}
    (home / "config.json").write_text(json.dumps(config, indent=2))
    (home / f"{MODULE}.py").write_text(CODE)
    return home
