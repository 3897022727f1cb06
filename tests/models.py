"""Tiny models with random weights, in the form that `save_pretrained()` writes, made without torch or transformers.

Their answers mean nothing, but they differ from input to input by far more than an export may differ from its original.
Equal names make equal files, so that what a build cached of one run serves the next.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as algorithms

from images.inside import suite
from images.inside.contract import FloatArray

HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 32, 64, 2, 2, 130
SCALE = 0.3
"""Standard deviation of the weights: large enough that no two labels are close to a tie."""
BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_TOKENS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
"""By what they are for, in the order of their ids."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """One model.

    Attributes:
        config: `config.json`.
        shapes: its parameters by name.
        tokenizer: makes its tokenizer.
        tokenizer_class: the class of transformers that reads it.
        tokens: its special tokens.
        files: further JSON files by path.

    """

    config: dict[str, Any]
    shapes: Callable[[int], Shapes]
    tokenizer: Callable[[], Tokenizer]
    tokenizer_class: str
    tokens: Mapping[str, str]
    files: Mapping[str, Any] = field(default_factory=dict)


def write(name: str, folder: Path) -> Path:
    """Write the model of this name to `folder/<name>` and return that folder."""
    tiny, home = (TINY | DECODERS)[name], folder / name
    backend = tiny.tokenizer()
    size = backend.get_vocab_size()
    home.mkdir(parents=True)
    backend.save(str(home / "tokenizer.json"))
    save_file(_random(tiny.shapes(size), seed=zlib.crc32(name.encode())), home / "model.safetensors", {"format": "pt"})
    named = {f"{key}_token": token for key, token in tiny.tokens.items()}
    settings = {"tokenizer_class": tiny.tokenizer_class, "model_max_length": POSITIONS - 2, **named}
    _json(home / "config.json", {**tiny.config, "vocab_size": size})
    _json(home / "tokenizer_config.json", settings)
    for path, content in tiny.files.items():
        _json(home / path, content)
    return home


def _json(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=2))


def _random(shapes: Shapes, seed: int) -> dict[str, FloatArray]:
    generator = np.random.default_rng(seed)
    return {name: _tensor(name, shape, generator) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
    values: FloatArray = generator.normal(size=shape).astype(np.float32)
    values *= SCALE
    if name.lower().endswith("norm.weight"):
        values += 1
    return values


# Tokenizers: vocabularies are counted, not trained, because the trainers' results change from run to run


def _words() -> Counter[str]:
    texts = [text for texts in suite.TEXTS.values() for text in ([texts] if isinstance(texts, str) else texts)]
    return Counter(re.findall(r"[a-z]+", " ".join(texts).lower()))


def _characters() -> list[str]:
    return [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]


def _wordpiece(tokens: Mapping[str, str]) -> Tokenizer:
    pieces = [piece for character in _characters() for piece in (character, f"##{character}")]
    known = dict.fromkeys([*tokens.values(), *pieces, *sorted(_words())])
    vocabulary = {token: index for index, token in enumerate(known)}
    backend = Tokenizer(algorithms.WordPiece(vocabulary, unk_token=tokens["unk"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(tokens.values()))
    return backend


def bert_tokenizer() -> Tokenizer:
    """WordPiece in lower case; padding has id 0."""
    backend = _wordpiece(BERT_TOKENS)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return backend


def mpnet_tokenizer() -> Tokenizer:
    """WordPiece with RoBERTa's special tokens; padding has id 1."""
    backend = _wordpiece(ROBERTA_TOKENS)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    return backend


def roberta_tokenizer() -> Tokenizer:
    """Byte-level BPE; padding has id 1."""
    backend = Tokenizer(algorithms.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), list(ROBERTA_TOKENS.values())
    backend.train_from_iterator(
        [suite.LONG],
        trainers.BpeTrainer(vocab_size=500, show_progress=False, special_tokens=special, initial_alphabet=alphabet),
    )
    return backend


def llama_tokenizer() -> Tokenizer:
    """RoBERTa's pieces with `<s>` before texts, as Llama's tokenizers put it."""
    backend = roberta_tokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    return backend


def xlmr_tokenizer() -> Tokenizer:
    """Unigram over words that begin with a `▁`; padding has id 1."""
    words = _words()
    pieces = {f"▁{word}": float(np.log(count / words.total())) for word, count in sorted(words.items())}
    pieces |= dict.fromkeys(["▁", *_characters()], -12.0)
    special = dict.fromkeys([token for key, token in ROBERTA_TOKENS.items() if key != "mask"], 0.0)
    backend = Tokenizer(algorithms.Unigram([*special.items(), *pieces.items()], unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.add_special_tokens(list(ROBERTA_TOKENS.values()))
    return backend


# Parameters


def _linear(name: str, out: int = HIDDEN, into: int = HIDDEN) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str) -> Shapes:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}


def _embeddings(name: str, vocabulary: int, types: int) -> Shapes:
    tables = {"word": vocabulary, "position": POSITIONS, **({"token_type": types} if types else {})}
    shapes: Shapes = {f"{name}.{table}_embeddings.weight": (size, HIDDEN) for table, size in tables.items()}
    return shapes | _norm(f"{name}.LayerNorm")


def _bert(prefix: str, vocabulary: int, types: int = 2) -> Shapes:
    shapes = _embeddings(f"{prefix}embeddings", vocabulary, types)
    for layer in (f"{prefix}encoder.layer.{index}" for index in range(LAYERS)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear(f"{layer}.attention.{part}")
        shapes |= _norm(f"{layer}.attention.output.LayerNorm") | _feed_forward(layer)
    return shapes


def _feed_forward(layer: str) -> Shapes:
    wide, narrow = _linear(f"{layer}.intermediate.dense", INNER), _linear(f"{layer}.output.dense", HIDDEN, INNER)
    return wide | narrow | _norm(f"{layer}.output.LayerNorm")


def _mpnet(vocabulary: int) -> Shapes:
    shapes = _embeddings("embeddings", vocabulary, types=0) | {"encoder.relative_attention_bias.weight": (32, HEADS)}
    for layer in (f"encoder.layer.{index}" for index in range(LAYERS)):
        for part in "qkvo":
            shapes |= _linear(f"{layer}.attention.attn.{part}")
        shapes |= _norm(f"{layer}.attention.LayerNorm") | _feed_forward(layer)
    return shapes | _linear("pooler.dense")


def _distilbert(vocabulary: int) -> Shapes:
    shapes = _embeddings("distilbert.embeddings", vocabulary, types=0)
    for layer in (f"distilbert.transformer.layer.{index}" for index in range(LAYERS)):
        for part in ("q", "k", "v", "out"):
            shapes |= _linear(f"{layer}.attention.{part}_lin")
        shapes |= _norm(f"{layer}.sa_layer_norm") | _norm(f"{layer}.output_layer_norm")
        shapes |= _linear(f"{layer}.ffn.lin1", INNER) | _linear(f"{layer}.ffn.lin2", HIDDEN, INNER)
    return shapes


def _masked_head(vocabulary: int) -> Shapes:
    head = "cls.predictions"
    return {f"{head}.bias": (vocabulary,)} | _linear(f"{head}.transform.dense") | _norm(f"{head}.transform.LayerNorm")


def _llama(vocabulary: int) -> Shapes:
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in (f"model.layers.{index}" for index in range(LAYERS)):
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (HIDDEN, HIDDEN) for part in "qkvo"}
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (HIDDEN, INNER)}
        shapes |= {f"{layer}.{part}_layernorm.weight": (HIDDEN,) for part in ("input", "post_attention")}
    return shapes | {"lm_head.weight": (vocabulary, HIDDEN)}


# Configurations


def _config(architecture: str, kind: str, labels: list[str] | None = None, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    named = (
        {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
        if labels
        else {}
    )
    return {
        "architectures": [architecture],
        "model_type": kind,
        **sizes,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        **named,
        **more,
    }


def _distilbert_config(labels: list[str]) -> dict[str, Any]:
    sizes = {"dim": HIDDEN, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": HEADS}
    config = _config("DistilBertForSequenceClassification", "distilbert", labels)
    return {key: value for key, value in config.items() if "hidden" not in key} | sizes


SENTIMENT = ["NEGATIVE", "NEUTRAL", "POSITIVE"]
ENTITIES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
TOPICS = ["sports", "politics", "weather", "music"]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
CLS_POOLING = {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
BERT: dict[str, Any] = {"tokenizer": bert_tokenizer, "tokenizer_class": "BertTokenizer", "tokens": BERT_TOKENS}
SHIFTED: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
"""Of models whose positions start behind their padding's id."""

TINY = {
    "tiny-sentiment": Tiny(
        config=_distilbert_config(SENTIMENT),
        shapes=lambda size: _distilbert(size) | _linear("pre_classifier") | _linear("classifier", len(SENTIMENT)),
        tokenizer=bert_tokenizer,
        tokenizer_class="DistilBertTokenizer",
        tokens=BERT_TOKENS,
    ),
    "tiny-topics": Tiny(
        config=_config("BertForSequenceClassification", "bert", TOPICS, problem_type="multi_label_classification"),
        shapes=lambda size: _bert("bert.", size) | _linear("bert.pooler.dense") | _linear("classifier", len(TOPICS)),
        **BERT,
    ),
    "tiny-languages": Tiny(
        config=_config("XLMRobertaForSequenceClassification", "xlm-roberta", ["en", "fr", "de"], **SHIFTED),
        shapes=lambda size: (
            _bert("roberta.", size, types=1) | _linear("classifier.dense") | _linear("classifier.out_proj", 3)
        ),
        tokenizer=xlmr_tokenizer,
        tokenizer_class="XLMRobertaTokenizer",
        tokens=ROBERTA_TOKENS,
    ),
    "tiny-entities": Tiny(
        config=_config("BertForTokenClassification", "bert", ENTITIES),
        shapes=lambda size: _bert("bert.", size) | _linear("classifier", len(ENTITIES)),
        **BERT,
    ),
    "tiny-answers": Tiny(
        config=_config("RobertaForQuestionAnswering", "roberta", **SHIFTED),
        shapes=lambda size: _bert("roberta.", size, types=1) | _linear("qa_outputs", 2),
        tokenizer=roberta_tokenizer,
        tokenizer_class="RobertaTokenizer",
        tokens=ROBERTA_TOKENS,
    ),
    "tiny-masks": Tiny(
        config=_config("BertForMaskedLM", "bert"),
        shapes=lambda size: _bert("bert.", size) | _masked_head(size),
        **BERT,
    ),
    "tiny-encoder": Tiny(
        config=_config("BertModel", "bert"), shapes=lambda size: _bert("", size) | _linear("pooler.dense"), **BERT
    ),
    "tiny-sentences": Tiny(
        config=_config("MPNetForMaskedLM", "mpnet", pad_token_id=1, bos_token_id=0, eos_token_id=2),
        shapes=_mpnet,
        tokenizer=mpnet_tokenizer,
        tokenizer_class="MPNetTokenizer",
        tokens=ROBERTA_TOKENS,
        files={"modules.json": MODULES, "1_Pooling/config.json": CLS_POOLING},
    ),
}
"""By name: every task, every kind of tokenizer, padding with id 0 and 1, an encoder with and without pooling."""

CONTEXT = 64
DECODERS = {
    "tiny-stories": Tiny(
        config={
            **_config("LlamaForCausalLM", "llama", bos_token_id=0, eos_token_id=2, pad_token_id=1),
            "max_position_embeddings": CONTEXT,
        },
        shapes=_llama,
        tokenizer=llama_tokenizer,
        tokenizer_class="PreTrainedTokenizerFast",
        tokens={"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
    )
}
"""A model that generates: a small context, `<s>` before texts, no chat template."""
