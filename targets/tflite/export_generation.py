"""A decoder to LiteRT by litert-torch: one signature that reads a part of a prompt, one that goes on by a token.

Both take the key-value cache and return it, so that the image's own loop drives them. What litert-torch bundles them
for, the engine of LiteRT-LM, answers texts with texts: no logits come out of it that a gate could look at.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images.inside.contract import Exporting
from images.inside.records import Source
from targets.tflite import cached, tensorflow_stand_in


def convert(given: Exporting, source: Source, lengths: Sequence[int], out: Path) -> None:
    """Write the exact file, whose cache has room for the longest of the lengths."""
    # The packages that the exporter looks for are looked for before there is a stand-in of one.
    import litert_torch
    import transformers.pipelines

    del litert_torch, transformers
    tensorflow_stand_in.install()
    from litert_torch.generative.export_hf.export import export

    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(sys.stderr):
        export(
            str(given.model),
            work,
            trust_remote_code=given.source.trust_remote_code,
            prefill_lengths=[min(cached.PART, source.max_length)],
            cache_length=lengths[-1],
            prefill_logits=True,
            quantization_recipe="none",
            bundle_litert_lm=False,
        )
        shutil.move(next(Path(work).rglob("model.tflite")), out)
