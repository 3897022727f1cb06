"""The contract between exporters, runners, tasks and the rest: batches, what they are made of, and the protocols."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from images.inside.records import ExportJob, FileDigest, Manifest, SourceJob, Struct

HEADROOM = 192 << 20
"""Bytes beyond the weights that an idle server with a small batch was seen to use: Python, numpy, the runtime."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
Batch = Mapping[str, NDArray[Any]]
"""What a runner is given, by the names of the model's inputs: int64 for tokens, float32 for pixels."""
Outputs = Mapping[str, FloatArray]


class Item(NamedTuple):
    """One tokenised sequence, ready for a batch.

    Attributes:
        ids: token ids, special tokens included.
        type_ids: 0 for the first segment, 1 for the second; as long as `ids`.

    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.ids)


class Pixels(NamedTuple):
    """One preprocessed picture, ready for a batch.

    Attributes:
        values: float32 of shape [3, height, width].

    """

    values: FloatArray

    @property
    def length(self) -> int:
        """How many patches it has, as a vision transformer counts them; at least 1."""
        return max(1, int(self.values[0].size) // PATCH)


Input = Item | Pixels
"""What a batch is made of: which one, the artifact's modality says."""
PATCH = 16 * 16
"""Pixels of a patch: what is to a picture as a token to a text, when work is measured."""


class Runner(Protocol):
    """An artifact loaded by its runtime. Calls come one at a time."""

    def predict(self, batch: Batch) -> Outputs:
        """The artifact's outputs for one batch.

        Args:
            batch: of texts, `input_ids`, `attention_mask`, `token_type_ids`; int64 of shape [batch, sequence], padded.
                A runner ignores those that its artifact does not take. Of pictures, `pixel_values`; float32 of shape
                [batch, 3, height, width], with height and width as `Manifest.image` has them.

        Returns:
            Float32 arrays whose first axis is the batch; those with one row a token have the sequence second.

        """
        ...

    def describe(self) -> dict[str, str]:
        """The runtime's name, version, threads and what else explains its speed."""
        ...


class LoadRunner(Protocol):
    """`targets.<name>.run.load`."""

    def __call__(self, artifact: Path, manifest: Manifest, threads: int) -> Runner:
        """Load the artifact. Raises `ArtifactError` when a file is not what the manifest says."""
        ...


class Exporting(NamedTuple):
    """What an exporter is given.

    Attributes:
        model: the original's folder.
        out: the artifact's folder; the exporter writes its own files there.
        work: what the reference step left: `source.json`, `reference/` and, for texts, `tokenizer.json`.
        told: the folder of the files that flags of the target named: `<flag>.jsonl`, one JSON request a line.
        source: which model, for which task.
        job: what to make of it.

    """

    model: Path
    out: Path
    work: Path
    told: Path
    source: SourceJob
    job: ExportJob


class Exported(NamedTuple):
    """What an exporter made.

    Attributes:
        entry: the file or folder that the runtime loads.
        recipe: how it was made, in words, where the mode leaves a choice.
        measures: what was measured of the artifact, by name; the manifest repeats it, the mode's `least` holds it.
        memory: bytes that the runtime was seen to take for it, where that is more than the entry's size.
        elsewhere: files that the artifact only links to: they are mounted when the image runs, and must be these.
        overhead: bytes of memory that the runtime takes beyond weights and cache.

    """

    entry: str
    recipe: str = ""
    measures: Mapping[str, float] = MappingProxyType({})
    memory: int = 0
    elsewhere: Sequence[FileDigest] = ()
    overhead: int = HEADROOM


class Export(Protocol):
    """`targets.<name>.export.export`."""

    def __call__(self, given: Exporting) -> Exported:
        """Write the artifact's own files."""
        ...


class Prepared(NamedTuple):
    """A request turned into items of batches.

    Attributes:
        items: the items to run, in order: `Item` of texts, `Pixels` of pictures.
        state: what the task's `answer` needs again (offsets, parameters); nobody else looks into it.

    """

    items: Sequence[Any]
    state: Any


class Task(Protocol):
    """One task's requests and answers: `images.inside.tasks.load(name)`.

    All methods are pure; the server, the smoke test and the gate share them. Payloads and answers are those of the
    Hugging Face inference API (https://huggingface.co/docs/inference-providers/tasks), and the answers are what
    `transformers.pipeline(task)` says.
    """

    name: str
    payload_type: type[Struct]
    """The JSON body of `/predict`, for the OpenAPI document and for checking a payload without a processor."""

    def suite(self, mask_token: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The fixed inputs of the gate: 8 pairs of (name, payload)."""
        ...

    def prepare(self, payload: Mapping[str, Any], processor: Any, manifest: Manifest) -> Prepared:
        """Validate and preprocess one request. Raises `InputError` (with the field's path) and `TooLargeError`.

        Args:
            payload: the decoded JSON body.
            processor: what the modality loads: a `text.Tokenizer`, a `vision.preprocessing.Preprocessor`.
            manifest: the artifact's.

        """
        ...

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], manifest: Manifest) -> Any:
        """The JSON answer. `outputs` has one entry an item, without the batch axis, padding cut off."""
        ...

    def agreement(self, ours: Any, original: Any) -> float:
        """Share, 0 to 1, of the best answers that are the same in two answers to one payload; scores do not count."""
        ...

    def score_difference(self, ours: Any, original: Any) -> float:
        """The largest absolute difference of scores over the answers that agree; 0 when there is none."""
        ...
