"""A model that is a single GGUF file, as the Hugging Face folder it stands for. Runs in the builder, before all else.

transformers dequantises the weights rightly. The tokenizer it makes of the same file is another one (its end of text
is the start of a message, it puts a token before plain text, it knows no padding), so the tokenizer is made here, of
the file's own fields; a file whose way to split text is not in `SPLITS` is refused.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from images.inside import newer, original

SUFFIX = ".gguf"
CONTROL = 3
"""The type of tokens that are never part of a text."""
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Special tokens: transformers' name and the file's."""


class Fields(NamedTuple):
    """The metadata of a GGUF file, decoded."""

    values: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Fields":
        """All of them; the tensors are not touched."""
        from gguf import GGUFReader

        return cls({key: field.contents() for key, field in GGUFReader(file).fields.items()})

    def tokenizer(self, key: str, default: Any = None) -> Any:
        """A field of the tokenizer."""
        return self.values.get(f"tokenizer.ggml.{key}", default)

    @property
    def context(self) -> int:
        """The most tokens of one sequence."""
        return int(self.values[f"{self.values['general.architecture']}.context_length"])

    def special(self) -> dict[str, int]:
        """The ids of the special tokens that the file names, by transformers' names."""
        ids = {ours: self.tokenizer(f"{theirs}_token_id") for ours, theirs in SPECIAL.items()}
        return {name: int(token) for name, token in ids.items() if token is not None}


def main(argv: Sequence[str] | None = None) -> None:
    """Make `--out` the Hugging Face folder of `--model`, as the transformers here reads it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    file = find(options.model)
    if file is None:
        newer.link(options.model, options.out)
    else:
        materialise(file, options.out)


def find(model: Path) -> Path | None:
    """The only GGUF file of a folder that has no config of its own, else None."""
    files = sorted(model.glob(f"*{SUFFIX}"))
    return files[0] if len(files) == 1 and not (model / "config.json").exists() else None


def materialise(file: Path, out: Path) -> None:
    """Write the folder: float32 weights, config, generation config, tokenizer with its chat template."""
    fields = Fields.read(file)
    tokenizer_of(fields).save_pretrained(out)
    network = _network(file)
    for config in (network.config, network.generation_config):
        for name in ("bos", "eos", "pad"):
            setattr(config, f"{name}_token_id", fields.special().get(name))
    network.save_pretrained(out)


def tokenizer_of(fields: Fields) -> Any:
    """The file's tokenizer, as transformers' fast one."""
    from transformers import PreTrainedTokenizerFast

    tokens = fields.tokenizer("tokens")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_bpe(fields),
        model_max_length=fields.context,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": tokens[token] for name, token in fields.special().items()},
    )
    fast.chat_template = fields.values.get("tokenizer.chat_template")
    return fast


def _bpe(fields: Fields) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models

    tokens, types = fields.tokenizer("tokens"), fields.tokenizer("token_type")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in fields.tokenizer("merges")]
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    bpe.pre_tokenizer = _split(fields)
    bpe.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    if fields.tokenizer("add_bos_token"):
        bpe.post_processor = _begin(tokens[fields.special()["bos"]], fields.special()["bos"])
    return bpe


def _begin(token: str, index: int) -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=[token, "$A"], pair=[token, "$A", "$B"], special_tokens=[(token, index)]
    )


def _split(fields: Fields) -> Any:
    kind = fields.tokenizer("model"), fields.tokenizer("pre")
    if kind not in SPLITS:
        original.refuse(
            f"its GGUF file splits text as {kind[1]!r} of {kind[0]!r}, which is not known here",
            "name the model's own folder or repository, with its tokenizer.json",
        )
    return SPLITS[kind]()


def _gpt2() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


SPLITS: Mapping[tuple[Any, Any], Callable[[], Any]] = {("gpt2", "gpt-2"): _gpt2, ("gpt2", "smollm"): _smollm}
"""How text is cut before the merges, by the file's model and pre-tokenizer."""


def _network(file: Path) -> Any:
    """The weights in a model of their own: transformers 5 saves none that remembers a quantised file."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    # Given, for some releases fail when a folder has no generation config; the model below has its own.
    given = GenerationConfig()
    loaded = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype="float32", generation_config=given
    )
    weights = loaded.state_dict()
    loaded.config.__dict__.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(loaded.config, dtype="float32")
    plain.load_state_dict(weights)
    return plain


if __name__ == "__main__":
    main()
