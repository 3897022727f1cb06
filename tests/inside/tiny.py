"""Tokenizers small enough to read, and manifests for them."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from images.inside.records import Bounds, Manifest, ModelFacts
from images.inside.text import TOKENIZER, Tokenizer

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "anna",
    "smith",
    "works",
    "for",
    "sie",
    "##mens",
    "in",
    "mun",
    "##ich",
    ".",
    ",",
    "is",
    "the",
    "capital",
    "of",
    "'",
    "s",
    "a",
    "b",
    "c",
    "d",
    "berlin",
    "hamburg",
]
BYTE_TOKENS: dict[str, Any] = {"mask_token": "<mask>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token_id": 1}
"""What a manifest says of `bytelevel`."""
BYTES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]


def wordpiece() -> Backend:
    """As BERT's: lower case, `##` before the rest of a word, [CLS] and [SEP]."""
    backend = Backend(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[1]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(WORDS[:5])
    return backend


def bytelevel() -> Backend:
    """As RoBERTa's: one token a byte, `Ġ` for a space, two separators between a pair."""
    backend = Backend(models.BPE({token: i for i, token in enumerate(BYTES)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(BYTES[:5])
    return backend


def manifest(task: str = "feature-extraction", **fields: Any) -> Manifest:
    """A manifest that goes with `wordpiece`."""
    facts = ModelFacts(id="tiny", source="folder", revision="", digest="sha256:0")
    known = {"max_length": 16, "pad_token_id": 0, "mask_token": "[MASK]", "cls_token": "[CLS]", "unk_token": "[UNK]"}
    needed = {"target": "t", "exporter": "e", "mode": "none", "entry": "model", "architecture": "x86_64"}
    empty: dict[str, Any] = {"bounds": Bounds(), "memory_bytes": 0, "packages": {}}
    return Manifest(task=task, model=facts, **{**needed, **empty, **known, **fields})


def load(folder: Path, backend: Backend, facts: Manifest) -> Tokenizer:
    """The tokenizer from a file that pads and truncates, as those of many models do."""
    written = json.loads(backend.to_str())
    written["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    written["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (folder / TOKENIZER).write_text(json.dumps(written))
    return Tokenizer.load(folder, facts)
