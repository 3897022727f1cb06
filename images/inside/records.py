"""The records: what the builder, the artifact and its reference have on disk as JSON.

Each is a msgspec struct that refuses unknown fields, so a manifest of another version fails with the field's path and
not somewhere later.
"""

from pathlib import Path
from typing import Any, Literal, dataclass_transform

import msgspec

from images.inside.errors import ArtifactError

SCHEMA = 1
"""Version of the manifest's and the reference's form; raised when a reader of the old one would go wrong."""
MANIFEST = "manifest.json"
REFERENCE = "reference"
"""Folder in the artifact with the original model's answers: `cases.json` and `outputs.npz`."""
KV_TOKENS = 4096
"""Tokens of sequences under way that `Manifest.memory_bytes` has room for; the model's context, if that is shorter."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen record read from or written to JSON."""


class ModelFacts(Struct, kw_only=True):
    """Where the original model came from; enough to fetch it again.

    Attributes:
        id: the name it is served under, such as `sentence-transformers/all-MiniLM-L6-v2`.
        source: `hub`, `folder` or `pypi`.
        revision: the commit sha, the wheel's version, or empty for a folder.
        digest: sha256 over the sorted `sha256  path` lines of its files, with `sha256:` in front.

    """

    id: str
    source: str
    revision: str
    digest: str


class FileDigest(Struct, kw_only=True):
    """One file: path relative to its root with forward slashes, size in bytes, sha256 as hex."""

    path: str
    size: int
    sha256: str


class Bounds(Struct, kw_only=True):
    """What the gate holds a mode to; a figure that a task does not have is not held.

    Attributes:
        max_abs_diff: the largest allowed absolute difference of any raw output on real tokens.
        cosine: the smallest allowed cosine similarity between an embedding and the original's.
        agreement: the smallest allowed share of answers (top-1 label, span, token) equal to the original's.
        kl: the largest allowed mean Kullback-Leibler divergence of next tokens from the original's, in nats.
        perplexity: the largest allowed perplexity of the original's answers, as a multiple of its own.
        greedy: the smallest allowed share of an answer without chance that is the original's, from its beginning.
        pixels: the largest allowed absolute difference of a preprocessed image's values from the original's.

    """

    max_abs_diff: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    kl: float | None = None
    perplexity: float | None = None
    greedy: float | None = None
    pixels: float | None = None


class Embedding(Struct, kw_only=True):
    """How a text becomes one vector. Pooling and normalisation are part of the exported graph.

    Attributes:
        dimension: the vector's length.
        pooling: its name in sentence-transformers, for `info`.
        normalized: whether vectors have length 1.
        prompt: text put before every input, as the model's own default prompt says.

    """

    dimension: int
    pooling: str
    normalized: bool
    prompt: str = ""


class GenerationFacts(Struct, kw_only=True):
    """What the manifest says of a model that generates.

    Attributes:
        context: the most tokens of one sequence, prompt and answer together.
        vocabulary: how many logits a step gives.
        eos: ids that end an answer.
        bos: the id put before plain text, or None where the original's tokenizer puts none.
        chat_template: the model's own Jinja template; empty for a model without one.
        special: ids that are never part of a text.
        defaults: sampling parameters of the original's generation config, such as temperature and top_p.
        names: the tokenizer's special tokens by name, such as `bos_token`, for the template.
        kv_bytes: what a token's keys and values take in float32.

    """

    context: int
    vocabulary: int
    eos: list[int]
    bos: int | None
    chat_template: str
    special: list[int]
    defaults: dict[str, float]
    names: dict[str, str] = {}
    kv_bytes: int = 0


class ImageFacts(Struct, kw_only=True):
    """How a picture becomes `pixel_values`: decoded to RGB, resized, cropped, normalised, channels first.

    An 8-bit value v of a channel becomes ((v * scale - offset) - mean) / std.

    Attributes:
        height: of what the model is given, in pixels.
        width: likewise.
        resize: [height, width], or [shortest edge] to keep the proportions; empty to leave the size.
        resample: the number of Pillow's filter.
        crop: [height, width] around the centre, filled up with black; empty for no crop.
        scale: factor of the 8-bit values.
        offset: taken off after scaling.
        mean: by channel.
        std: by channel.
        twice: whether the normalised values are divided by std once more, as EfficientNet's are.
        channels: their order: `RGB` or `BGR`.
        processor: the name of the original's image processor, for `info`.

    """

    height: int
    width: int
    resize: list[int]
    resample: int
    crop: list[int]
    scale: float
    offset: float = 0.0
    mean: list[float]
    std: list[float]
    twice: bool = False
    channels: Literal["RGB", "BGR"] = "RGB"
    processor: str = ""


class SourceJob(Struct, kw_only=True):
    """What the reference step in the builder is told: which model, for which task.

    Attributes:
        max_length: cap on tokens; 0 for the model's own limit.
        pooling: pooling for an encoder that states none: `mean`, `cls`, `max`, `lasttoken`; empty for its own.
        suite: file name of the user's own inputs in the job folder, one JSON request a line; empty for none.
        dtype: what the original answers in: `float32`, or `auto` for its weights' own.

    """

    model: ModelFacts
    task: str
    pooling: str = ""
    max_length: int = 0
    suite: str = ""
    dtype: str = "float32"
    trust_remote_code: bool = False
    allow_pickle: bool = False


class ExportJob(Struct, kw_only=True):
    """What the export step in the builder is told: what to make of the model, and what to hold it to.

    Attributes:
        bounds: what the gate holds the artifact's outputs to.
        least: the smallest allowed value of what the exporter measures, by the measure's name.
        options: the flags that the target itself added to `invoke build`, each with what was given or its default.
        deprecated: that upstream gives this way up, and what to take instead.

    """

    target: str
    exporter: str
    mode: str
    bounds: Bounds
    least: dict[str, float] = {}
    options: dict[str, str | bool] = {}
    deprecated: str = ""


class Manifest(Struct, kw_only=True):
    """What the artifact is, and what it needs. `manifest.json` at the artifact's root.

    Attributes:
        task: such as `feature-extraction`.
        mode: the quantisation mode; `none` is the exact export.
        entry: the file or folder that the runtime loads.
        recipe: how the exporter made the mode, where it had a choice.
        measures: what the exporter measured of the artifact, by name, such as the share of operators in a delegate.
        options: the flags that the target itself added to `invoke build`.
        deprecated: that upstream gives this way up, and what to take instead; empty while it does not.
        max_length: the most tokens of one input, special tokens included; 0 when inputs are no text.
        pad_token_id: the id that fills a batch up; its attention mask is 0.
        padding_side: `right` or `left`.
        padding: whether the original gives the same outputs beside padding; without, only equal lengths share a batch.
        token_types: whether the original's tokenizer tells segments apart; without, all are segment 0.
        labels: class names by index, for classifiers.
        mask_token: the token that fill-mask replaces.
        cls_token: the tokenizer's class token, for question-answering (whose scores count it); empty for none.
        unk_token: the tokenizer's unknown token, for token-classification; empty for none.
        clean_up_spaces: the tokenizer's `clean_up_tokenization_spaces`, for texts that fill-mask decodes.
        problem_type: `single_label_classification`, `multi_label_classification` or `regression`.
        embedding: set when the artifact's output is one vector a text.
        generation: set when the artifact generates token by token.
        image: set when its inputs are pictures.
        dtype: what the original answered in.
        architecture: machine architecture the artifact was made for, as `platform.machine()` says it.
        memory_bytes: memory below which serving is refused: measured at export.
        packages: name -> version of the exporter's packages that decide the result.
        files: every other file of the artifact, those too that it only links to.

    """

    schema: int = SCHEMA
    target: str
    task: str
    exporter: str
    mode: str
    model: ModelFacts
    entry: str
    recipe: str = ""
    measures: dict[str, float] = {}
    options: dict[str, str | bool] = {}
    deprecated: str = ""
    max_length: int
    pad_token_id: int
    padding_side: str = "right"
    padding: bool = True
    token_types: bool = True
    labels: list[str] = []
    mask_token: str = ""
    cls_token: str = ""
    unk_token: str = ""
    clean_up_spaces: bool = False
    problem_type: str = ""
    embedding: Embedding | None = None
    generation: GenerationFacts | None = None
    image: ImageFacts | None = None
    dtype: str = "float32"
    bounds: Bounds
    architecture: str
    memory_bytes: int
    packages: dict[str, str]
    files: list[FileDigest] = []


class Source(Struct, kw_only=True):
    """What the reference step found out about the original; the manifest repeats it."""

    max_length: int
    pad_token_id: int
    padding_side: str
    padding: bool = True
    token_types: bool
    labels: list[str]
    mask_token: str
    cls_token: str = ""
    unk_token: str = ""
    clean_up_spaces: bool = False
    problem_type: str
    embedding: Embedding | None = None
    generation: GenerationFacts | None = None
    image: ImageFacts | None = None
    dtype: str = "float32"


class Case(Struct, kw_only=True):
    """One input of the suite with the original model's answer.

    Attributes:
        name: such as `unicode`, unique in the suite.
        payload: the JSON body that `/predict` takes for the task.
        answer: what the original's own pipeline answered, as `/predict` would say it.

    """

    name: str
    payload: dict[str, Any]
    answer: Any


def read_manifest(artifact: Path) -> Manifest:
    """The manifest of an artifact folder. Raises `ArtifactError` when it is missing or of another form."""
    try:
        return msgspec.json.decode((artifact / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{MANIFEST}: {error}") from error


def write_json(path: Path, value: object) -> None:
    """Write a struct as indented JSON with sorted keys, so that equal values are equal files."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n")
