"""What an app needs beside the program: how inputs are prepared, in a form that it reads, and how to generate."""

import json
import shutil
from pathlib import Path
from typing import Any

from images.inside import suite
from images.inside.contract import Exporting
from images.inside.text import TOKENIZER

AS_THEY_ARE = ("generation_config.json", "preprocessor_config.json")
"""The original's own files that an app reads, where it has them."""


def write(given: Exporting) -> dict[str, float]:
    """Write `tokenizer.json` of a model for texts, and the original's own files that an app reads.

    Returns:
        As `app_tokenizer` the share of the suite's texts to which ExecuTorch's tokenizer in C++ gives the original's
        tokens; nothing for a model that takes no texts.

    """
    for name in AS_THEY_ARE:
        if (given.model / name).exists():
            shutil.copyfile(given.model / name, given.out / name)
    if not (given.work / TOKENIZER).exists():
        return {}
    made = given.out / TOKENIZER
    made.write_text(json.dumps(normalised(json.loads((given.work / TOKENIZER).read_text())), ensure_ascii=False))
    return {"app_tokenizer": _shared(made)}


def normalised(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Without what the tokenizer in C++ refuses and Python's ignores: a normalizer that is a sequence of nothing."""
    if (tokenizer.get("normalizer") or {}).get("normalizers") == []:
        return {**tokenizer, "normalizer": None}
    return tokenizer


def _shared(file: Path) -> float:
    from pytorch_tokenizers import CppHFTokenizer
    from tokenizers import Tokenizer

    original, ours = Tokenizer.from_file(str(file)), CppHFTokenizer()
    original.no_padding()
    original.no_truncation()
    try:
        ours.load(str(file))
        same = [
            list(ours.encode(text, 0, 0)) == original.encode(text, add_special_tokens=False).ids for text in _texts()
        ]
    except RuntimeError:  # it does not know this kind
        return 0.0
    return sum(same) / len(same)


def _texts() -> list[str]:
    return [text for texts in suite.FILLED_TEXTS.values() for text in ([texts] if isinstance(texts, str) else texts)]
