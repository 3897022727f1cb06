"""The original model's own answers, recorded before anything is exported: what the gate holds the artifact to.

Answers come from the libraries that users of the original call: sentence-transformers for embeddings, transformers
pipelines for the rest. Raw outputs come from the PyTorch model, one sequence at a time, so that no padding is in them.
Runs in the builder.
"""

import argparse
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from images.inside import compare, original, suite, tasks
from images.inside.contract import (
    REFERENCE,
    Bounds,
    Case,
    FloatArray,
    InputError,
    Item,
    Manifest,
    Source,
    SourceJob,
    write_json,
)
from images.inside.text import Tokenizer

PIPELINE: Mapping[str, dict[str, Any]] = {
    "text-classification": {"truncation": True, "top_k": None},
    "fill-mask": {"tokenizer_kwargs": {"truncation": True}},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the job, record the reference into `--out`: `source.json`, `tokenizer.json` and the folder `reference`."""
    parser = argparse.ArgumentParser()
    for option in ("--job", "--model", "--out"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args(argv)
    job = msgspec.json.decode(options.job.read_bytes(), type=SourceJob)
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    record(job, options.model, options.out, options.job.parent / job.suite if job.suite else None)


def record(job: SourceJob, model: Path, out: Path, user_suite: Path | None) -> None:
    """Write what the exporter, the gate and the manifest need to know about the original."""
    fast, sentence, network = _load(job, model)
    source = _source(job, fast, sentence, network)
    fast.model_max_length = source.max_length
    fast.backend_tokenizer.save(str(out / "tokenizer.json"))
    write_json(out / "source.json", source)
    manifest = draft(job, source)
    tokenizer = Tokenizer.load(out, manifest)
    payloads = [*tasks.load(job.task).suite(source.mask_token), *_user_cases(user_suite, job)]
    _Recorder(job, fast, sentence, network, manifest, tokenizer).record(payloads, out / REFERENCE)


def _load(job: SourceJob, model: Path) -> tuple[Any, Any, Any]:
    """Tokenizer, sentence-transformers model or None, network; or the step ends with what is wrong with the model."""
    try:
        fast = original.tokenizer(model, job)
        if not original.embeds(model, job):
            return fast, None, original.transformer(model, job)
        sentence = original.sentence_model(model, job)
        # Its own tokenizer may lower the case, which the model's does not.
        return sentence[0].tokenizer, sentence, sentence[0].auto_model
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        original.refuse(
            f"transformers cannot load {job.model.id} for {job.task}: {_first_line(error)}",
            "check that its architecture is known to the pinned transformers, and that it belongs to the task",
        )


def draft(job: SourceJob, source: Source) -> Manifest:
    """A manifest with what is known before the export, for the code that needs one."""
    return Manifest(
        target="",
        task=job.task,
        exporter="",
        mode="none",
        model=job.model,
        entry="",
        bounds=Bounds(),
        architecture="",
        memory_bytes=0,
        packages={},
        **{name: getattr(source, name) for name in source.__struct_fields__},
    )


class _Recorder:
    """Asks the original one payload after the other."""

    def __init__(
        self, job: SourceJob, fast: Any, sentence: Any, network: Any, manifest: Manifest, tokenizer: Tokenizer
    ) -> None:
        self._task, self._manifest, self._tokenizer = tasks.load(job.task), manifest, tokenizer
        self._fast, self._sentence, self._network = fast, sentence, network

    def record(self, payloads: Sequence[tuple[str, Mapping[str, Any]]], out: Path) -> None:
        cases, outputs = [], {}
        for name, payload in payloads:
            outputs[name] = self._outputs(payload, self._items(name, payload))
            cases.append(Case(name=name, payload=dict(payload), answer=self._answer(payload)))
        compare.save(out, compare.Reference(cases=tuple(cases), outputs=outputs))

    def _items(self, name: str, payload: Mapping[str, Any]) -> list[Item]:
        try:
            return self._task.prepare(payload, self._tokenizer, self._manifest).items
        except InputError as error:
            original.refuse(
                f"the suite's input {name!r} is refused by {self._task.name}: {error}", "correct the suite file"
            )

    def _answer(self, payload: Mapping[str, Any]) -> Any:
        return (
            None
            if self._task.name == "feature-extraction"
            else _Pipeline(self._fast, self._network, self._task.name)(payload)
        )

    def _outputs(self, payload: Mapping[str, Any], items: Sequence[Item]) -> list[dict[str, Any]]:
        if self._sentence is not None:
            inputs = payload["inputs"]
            vectors = self._sentence.encode([inputs] if isinstance(inputs, str) else inputs)
            return [{"sentence_embedding": np.asarray(vector, np.float32)} for vector in vectors]
        return [self._forward(item) for item in items]

    def _forward(self, item: Item) -> dict[str, Any]:
        import torch

        feed = {"input_ids": item.ids, "attention_mask": (1,) * len(item.ids), "token_type_ids": item.type_ids}
        taken = {name: torch.tensor([values]) for name, values in feed.items() if name in self._fast.model_input_names}
        with torch.no_grad():
            result = self._network(**taken)
        outputs = {
            name: _array(result[name])
            for name in ("logits", "start_logits", "end_logits", "last_hidden_state")
            if name in result
        }
        return self._kept(item, outputs)

    def _kept(self, item: Item, outputs: dict[str, FloatArray]) -> dict[str, Any]:
        """Of a vocabulary-wide output only the masked positions: the others are nobody's answer, and megabytes."""
        if self._task.name != "fill-mask":
            return outputs
        rows = np.flatnonzero(np.array(item.ids) == self._fast.mask_token_id)
        return {compare.ROWS: rows, **{name: array[rows] for name, array in outputs.items()}}


class _Pipeline:
    """A transformers pipeline that is asked with the payloads of `/predict`."""

    def __init__(self, fast: Any, network: Any, task: str) -> None:
        from transformers import pipeline

        self._pipeline, self._task = pipeline(task, model=network, tokenizer=fast, device="cpu"), task

    def __call__(self, payload: Mapping[str, Any]) -> Any:
        inputs = payload["inputs"]
        options = {key: value for key, value in payload.get("parameters", {}).items() if key != "truncate"}
        answers = [self._one(entry, options) for entry in (inputs if isinstance(inputs, list) else [inputs])]
        nested = isinstance(inputs, list) or self._task == "text-classification"
        return _plain(answers if nested else answers[0])

    def _one(self, entry: Any, options: Mapping[str, Any]) -> Any:
        options = PIPELINE.get(self._task, {}) | dict(options)
        if self._task == "question-answering":
            return self._pipeline(question=entry["question"], context=entry["context"], **options)
        if self._task == "token-classification":
            return self._pipeline(entry, **{"aggregation_strategy": "simple", **options})
        return self._pipeline(entry, **options)


def _source(job: SourceJob, fast: Any, sentence: Any, network: Any) -> Source:
    own = sentence.get_max_seq_length() if sentence is not None else None
    if fast.pad_token_id is None:
        fast.pad_token_id = 0  # padding is masked: any token will do
    return Source(
        max_length=original.max_length(network, fast, job, own),
        pad_token_id=int(fast.pad_token_id),
        padding_side=str(fast.padding_side),
        clean_up_spaces=bool(fast.clean_up_tokenization_spaces),
        labels=original.labels(network.config) if "classification" in job.task else [],
        cls_token=str(fast.cls_token or ""),
        unk_token=str(fast.unk_token or ""),
        mask_token=str(fast.mask_token or "") if job.task == "fill-mask" else "",
        problem_type=str(network.config.problem_type or ""),
        embedding=original.embedding(sentence, network) if sentence is not None else None,
    )


def _user_cases(file: Path | None, job: SourceJob) -> list[tuple[str, dict[str, Any]]]:
    try:
        return list(suite.read(file.read_bytes(), tasks.load(job.task))) if file else []
    except InputError as error:
        original.refuse(str(error), f"correct the suite file: one JSON request of {job.task} a line")


def _array(tensor: Any) -> FloatArray:
    array: FloatArray = tensor[0].float().numpy()
    return array


def _plain(answer: Any) -> Any:
    """Turn numpy's numbers into Python's."""
    return json.loads(json.dumps(answer, default=lambda number: number.item()))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    main()
