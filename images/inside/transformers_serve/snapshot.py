"""The model's own files as the artifact: nothing is converted. Runs in the builder.

The engine's folder in the artifact is the snapshot with another tokenizer, by which ids pass through it unchanged.
Weights are part of it, or links to where they are mounted when the image runs; the manifest has their digests anyway.
"""

import json
import shutil
from pathlib import Path

from images.inside import original
from images.inside.contract import Exported, Exporting
from images.inside.export import sha256
from images.inside.records import FileDigest, Source
from images.inside.text import TOKENIZER

FOLDER = "model"
"""The engine's folder in the artifact."""
WEIGHTS = "weights"
"""The flag that says where the weights are."""
MOUNTED = "mounted"
MOUNT = Path("/weights")
"""Where the weights of an image without them are looked for."""
SAFE = "*.safetensors"
PICKLED = "pytorch_model*.bin"
CONFIGS = ("config.json", "generation_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json")
CODE = "*.py"
OVERHEAD = 1 << 30
"""Bytes that engine and server were seen to take beyond weights and cache, on a CPU."""


def export(given: Exporting) -> Exported:
    """Put the snapshot into the artifact. Raises `ValueError` when it has no weights that may be used."""
    folder = given.out / FOLDER
    folder.mkdir()
    for name in CONFIGS:
        if (given.model / name).exists():
            shutil.copy(given.model / name, folder)
    if given.source.trust_remote_code:
        for file in given.model.glob(CODE):
            shutil.copy(file, folder)
    write_tokenizer(folder, _vocabulary(given))
    mounted = given.job.options.get(WEIGHTS) == MOUNTED
    files = weights(given.model, allow_pickle=given.source.allow_pickle)
    if mounted:
        return Exported(FOLDER, "weights mounted", elsewhere=_links(files, folder, given), overhead=OVERHEAD)
    for file in files:
        shutil.copy(file, folder)
    return Exported(FOLDER, "weights baked", overhead=OVERHEAD)


def weights(model: Path, *, allow_pickle: bool) -> list[Path]:
    """The files with the model's numbers. Raises `ValueError` when only pickles have them, unless these are allowed."""
    safe = sorted(model.glob(SAFE))
    if safe:
        return safe
    pickled = sorted(model.glob(PICKLED))
    if pickled and allow_pickle:
        return pickled
    raise ValueError("it has no safetensors" + (", only pickles: --allow-pickle takes them" if pickled else ""))


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A tokenizer whose text of a token is the token's id."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {str(token): token for token in range(vocabulary)}
    numbers = Tokenizer(models.WordLevel(ids, unk_token="0"))  # noqa: S106  # no secret
    numbers.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    numbers.save(str(folder / TOKENIZER))
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts, indent=2) + "\n")


def _links(files: list[Path], folder: Path, given: Exporting) -> list[FileDigest]:
    """Links to where each file is mounted; their digests are of what was proved."""
    if not given.model.is_symlink():  # `images.inside.gguf` links a model that it need not make
        original.refuse("its weights were made here of a GGUF file", "leave --weights mounted out: they are baked in")
    for file in files:
        (folder / file.name).symlink_to(MOUNT / file.name)
    return [FileDigest(path=f"{FOLDER}/{file.name}", size=file.stat().st_size, sha256=sha256(file)) for file in files]


def _vocabulary(given: Exporting) -> int:
    import msgspec

    source = msgspec.json.decode((given.work / "source.json").read_bytes(), type=Source)
    if source.generation is None:
        raise ValueError("it does not generate")
    return source.generation.vocabulary
