"""The original model in PyTorch: how it is loaded, how long its inputs may be, whether it makes embeddings.

Runs in the builder only. Everything heavy is imported inside functions.
"""

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from images.inside.contract import Batch, Outputs
from images.inside.records import Embedding, SourceJob

ERROR = "MODELYARD-ERROR"
"""Starts the line by which a step in the builder tells the host what is wrong with a user's model."""
NO_LIMIT = 1_000_000
"""transformers says 1e30 for a tokenizer without a limit."""
DEFAULT_LENGTH = 512
"""For models with relative positions, which state no limit at all."""
AUTO = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "image-classification": "AutoModelForImageClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "token-classification": "AutoModelForTokenClassification",
}

PLAIN_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
"""What sentence-transformers is told that a model takes: with a chat template, it would make texts conversations."""
OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")
"""What the artifact's outputs are called too."""


class TorchRunner:
    """The original network as a `Runner`: what the artifact is compared with."""

    def __init__(self, network: Any, inputs: Sequence[str]) -> None:
        self._network, self._inputs = network, inputs

    def predict(self, batch: Batch) -> Outputs:
        """The network's float32 outputs for one batch."""
        import torch

        with torch.no_grad():
            result = self._network(**{name: torch.from_numpy(batch[name]) for name in batch if name in self._inputs})
        return {name: result[name].float().numpy() for name in OUTPUTS if name in result}

    def describe(self) -> dict[str, str]:
        """The runtime and its version."""
        import torch

        return {"runtime": "torch", "version": torch.__version__}


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line: the second one too where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def refuse(what: str, hint: str) -> NoReturn:
    """End the step with an error that the host repeats in one readable line."""
    print(f"{ERROR} {json.dumps({'what': what, 'hint': hint})}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def embeds(model: Path, source: SourceJob) -> bool:
    """Whether the model makes one vector a text: it says so, or the user does."""
    return source.task == "feature-extraction" and bool(source.pooling or (model / "modules.json").exists())


def sentence_model(model: Path, source: SourceJob) -> Any:
    """The model as sentence-transformers loads it: with its pooling, normalisation and whatever else it states."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    weights = {"dtype": "float32", "use_safetensors": not source.allow_pickle or None}
    if not source.pooling:
        trust = source.trust_remote_code
        whole = SentenceTransformer(str(model), device="cpu", trust_remote_code=trust, model_kwargs=weights)
        return whole.eval()
    code = {"trust_remote_code": source.trust_remote_code}
    tokens = Transformer(
        str(model),
        model_kwargs=weights | code,
        config_kwargs=code,
        processor_kwargs=code,
        max_seq_length=source.max_length or None,
        modality_config=PLAIN_TEXT,
        module_output_name="token_embeddings",
    )
    pooling = Pooling(tokens.get_embedding_dimension(), pooling_mode=source.pooling)
    return SentenceTransformer(modules=[tokens, pooling, Normalize()], device="cpu").eval()


def sentence_folder(model: Path, source: SourceJob, work: Path) -> Path:
    """A folder that sentence-transformers can load: the model's own, or one with the pooling that the user named."""
    if not source.pooling:
        return model
    sentence_model(model, source).save(str(work))
    return work


def transformer(model: Path, source: SourceJob) -> Any:
    """The model as transformers loads it for the task, on the CPU, in the job's number format."""
    import transformers

    factory = getattr(transformers, AUTO[source.task])
    loaded, info = factory.from_pretrained(
        model,
        dtype=source.dtype,
        trust_remote_code=source.trust_remote_code,
        use_safetensors=not source.allow_pickle or None,
        ignore_mismatched_sizes=True,  # refused below, by name
        output_loading_info=True,
    )
    _require_weights(loaded, info, source)
    if "classification" in source.task:
        _name_labels(loaded.config)
    return loaded.eval()


def tokenizer(model: Path, source: SourceJob) -> Any:
    """The model's fast tokenizer; the image has no other."""
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(model, use_fast=True, trust_remote_code=source.trust_remote_code)
    if not fast.is_fast:
        refuse(
            f"{source.model.id} has a {type(fast).__name__}, which exists in Python only",
            "this target serves fast tokenizers: add a tokenizer.json to the model",
        )
    return fast


def taken(network: Any, names: Sequence[str]) -> list[str]:
    """Those of a tokenizer's outputs that the network takes: a tokenizer without a class of its own gives them all."""
    known = inspect.signature(network.forward).parameters
    return [name for name in names if name in known or "input_ids" not in known]


def image_processor(model: Path, source: SourceJob) -> Any:
    """The model's image processor, in the form that needs Pillow and numpy only."""
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(model, use_fast=False, trust_remote_code=source.trust_remote_code)


def max_length(network: Any, fast: Any, source: SourceJob, own: int | None = None) -> int:
    """The most tokens of one input: the least of what tokenizer, positions, model and user say."""
    stated = [fast.model_max_length, own, source.max_length, *_positions(network), _switched(network.config, source)]
    limits = [int(limit) for limit in stated if limit and 0 < limit < NO_LIMIT]
    return min(limits, default=DEFAULT_LENGTH)


def embedding(sentence: Any, network: Any) -> Embedding:
    """What the manifest says of an embedding model."""
    names = [type(module).__name__ for module in sentence]
    pooling = next((module for module in sentence if type(module).__name__ == "Pooling"), None)
    prompt = (sentence.prompts or {}).get(sentence.default_prompt_name or "", "")
    return Embedding(
        dimension=int(sentence.get_sentence_embedding_dimension() or network.config.hidden_size),
        pooling=_pooling_name(pooling) if pooling else "none",
        normalized=names[-1] == "Normalize",
        prompt=prompt,
    )


def _pooling_name(pooling: Any) -> str:
    modes = pooling.pooling_mode
    return modes if isinstance(modes, str) else "+".join(modes)


def labels(config: Any) -> list[str]:
    """Class names in the order of their index."""
    return [str(config.id2label[index]) for index in range(len(config.id2label))]


def _name_labels(config: Any) -> None:
    """Let the original's own answers have the names that the artifact's have: a number for a name stays one there."""
    config.id2label = dict(enumerate(labels(config)))


def _positions(network: Any) -> list[int]:
    """Lengths of the tables of absolute positions; those with a padding row start counting behind it."""
    tables = [
        len(module.weight) - (0 if getattr(module, "padding_idx", None) is None else module.padding_idx + 1)
        for name, module in network.named_modules()
        if name.endswith("position_embeddings") and hasattr(module, "weight")
    ]
    return tables or [getattr(network.config, "max_position_embeddings", 0) or 0]


def _switched(config: Any, source: SourceJob) -> int:
    """The tokens behind which rotary positions become others (longrope): an exported graph has one set. 0 for none.

    What answers in its weights' own numbers is transformers itself, which has both.
    """
    rotary = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if source.dtype == "auto" or rotary.get("rope_type", rotary.get("type")) != "longrope":
        return 0
    own = rotary.get("original_max_position_embeddings")
    return int(own or getattr(config, "original_max_position_embeddings", 0) or 0)


def _require_weights(network: Any, info: dict[str, Any], source: SourceJob) -> None:
    """A head that is missing from the checkpoint would be filled with random numbers, and pass every later check.

    So would weights of another shape. Tables of whole numbers are no weights: networks make them themselves, and newer
    releases do not save them.
    """
    if wrong := sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]):
        refuse(
            f"{source.model.id} has weights of another shape than its config.json says: {', '.join(wrong[:4])}",
            "its files do not belong together: download the model again",
        )
    made = {name for name, buffer in network.named_buffers() if not buffer.is_floating_point()}
    missing = sorted(key for key in {*info["missing_keys"]} - made if "pooler" not in key)
    if missing:
        pooled = source.task == "feature-extraction" and network.config.is_encoder_decoder
        refuse(
            f"{source.model.id} has no weights for {source.task}: {', '.join(missing[:4])} would be random",
            "name the task that the checkpoint was trained for with --task"
            + (", or a pooling with --pooling, which takes its encoder alone" if pooled else ""),
        )
