"""The original model's own answers, recorded before anything is exported: what the gate holds the artifact to.

Answers come from the libraries that users of the original call: sentence-transformers for embeddings, transformers
pipelines for the rest. Raw outputs come from the PyTorch model, one sequence at a time, so that no padding is in them.
Runs in the builder.
"""

import argparse
import json
import re
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from images.inside import collate, compare, newer, original, suite, tasks
from images.inside.compare import Reference
from images.inside.contract import Item, Outputs, Runner, Task
from images.inside.errors import InputError, NoRoomError, NoTokensError
from images.inside.generation import inputs, recording
from images.inside.prompts import Prompts
from images.inside.records import REFERENCE, Bounds, Case, Manifest, Source, SourceJob, write_json
from images.inside.text import TOKENIZER, Tokenizer
from images.inside.vision import recording as recording_of_pictures

T = TypeVar("T")
UNKNOWN = re.compile(r"model type `([^`]*)` but Transformers does not recognize this architecture")
"""In what transformers says of a model that is newer than itself."""
SAME = 1e-3
"""Outputs this close are the same for the question whether padding changes them."""
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
    try:
        source, reference = (_of_pictures if job.task in tasks.PICTURES else _of_texts)(job, model, out, user_suite)
    except Exception as error:  # noqa: BLE001 - what the original's own code raises
        traceback.print_exc()  # for the log
        original.refuse(
            f"the original, {job.model.id}, fails at {job.task}: {type(error).__name__}: {original.first_line(error)}",
            "try it in transformers itself: its files may not belong together, or not to the task",
        )
    write_json(out / "source.json", source)
    compare.save(out / REFERENCE, reference)


def _of_pictures(job: SourceJob, model: Path, out: Path, user_suite: Path | None) -> tuple[Source, Reference]:
    from transformers import pipeline

    del out  # all that is needed of the original is in its facts
    processor, network = _loaded(job, lambda: (original.image_processor(model, job), original.transformer(model, job)))
    source, task = recording_of_pictures.source(processor, network, job.model.id), tasks.load(job.task)
    assert source.image  # noqa: S101 - it was just made
    recorder = recording_of_pictures.Recorder(
        task,
        draft(job, source),
        source.image,
        processor,
        original.TorchRunner(network, processor.model_input_names),
        pipeline(job.task, model=network, image_processor=processor, device="cpu"),
    )
    return source, recorder.record([*task.suite(""), *_user_cases(user_suite, job, task)])


def _of_texts(job: SourceJob, model: Path, out: Path, user_suite: Path | None) -> tuple[Source, Reference]:
    fast, sentence, network = _load(job, model)
    fast.model_input_names = original.taken(network, fast.model_input_names)
    source = _source(job, fast, sentence, network)
    fast.model_max_length = source.max_length
    fast.backend_tokenizer.save(str(out / TOKENIZER))
    if source.generation:
        generates = recording.Recorder(network, fast, source.generation, Prompts.load(out, source.generation))
        reference = generates.record(_user_cases(user_suite, job, inputs.Payloads()))
    else:
        tokenizer, task = Tokenizer.load(out, draft(job, source)), tasks.load(job.task)
        runner = original.TorchRunner(network, fast.model_input_names)
        alike = bears_padding(runner, tokenizer, draft(job, source)) and (sentence is None or embeds_alike(sentence))
        source = msgspec.structs.replace(source, padding=alike)
        recorder = _Recorder(task, draft(job, source), tokenizer, runner, sentence, _pipeline(fast, network, job.task))
        fixed = [entry for entry in task.suite(source.mask_token) if recorder.takes(entry[1])]
        reference = recorder.record([*fixed, *_user_cases(user_suite, job, task)])
    return source, reference


def bears_padding(runner: Runner, tokenizer: Tokenizer, manifest: Manifest) -> bool:
    """Whether the original says the same of a text beside longer ones as of the text alone.

    Models that convolve over tokens do not: in them padding reaches the last real tokens.
    """
    tokenwise = msgspec.structs.replace(manifest, embedding=None)
    items = [tokenizer.item(text, truncate=True) for text in suite.TEXTS["batch"]]
    alone = [collate.predict(runner, [item], tokenwise)[0] for item in items]
    try:
        together = collate.predict(runner, items, tokenwise)
    except ValueError:  # what transformers raises for a model without a padding token
        return False
    pairs = [(one[name], other[name]) for one, other in zip(alone, together, strict=True) for name in one]
    return all(np.allclose(one, other, atol=SAME, rtol=SAME) for one, other in pairs)


def embeds_alike(sentence: Any) -> bool:
    """Whether a text beside longer ones gets the vector that it gets alone: modules behind the network count too."""
    texts = suite.TEXTS["batch"]
    alone, together = (sentence.encode(texts, batch_size=count) for count in (1, len(texts)))
    return bool(np.allclose(alone, together, atol=SAME, rtol=SAME))


def _load(job: SourceJob, model: Path) -> tuple[Any, Any, Any]:
    """Tokenizer, sentence-transformers model or None, network."""
    if not original.embeds(model, job):
        return _loaded(job, lambda: (original.tokenizer(model, job), None, original.transformer(model, job)))
    sentence = _loaded(job, lambda: original.sentence_model(model, job))
    if "message" in getattr(sentence[0], "modality_config", ()):
        original.refuse(
            f"{job.model.id} embeds conversations, by its chat template: this image embeds plain texts",
            "take the model's plain-text form, or name a pooling with --pooling to embed plain texts by it",
        )
    # Its own tokenizer may lower the case, which the model's does not.
    return sentence[0].tokenizer, sentence, sentence[0].auto_model


def _loaded(job: SourceJob, load: Callable[[], T]) -> T:
    """What was loaded; or the step ends with what is wrong with the model."""
    try:
        return load()
    except Exception as error:  # noqa: BLE001 - of a damaged file, libraries raise anything
        traceback.print_exc()  # for the log
        if unknown := UNKNOWN.search(str(error)):
            original.refuse(
                f"this exporter's transformers {newer.installed()} does not know {unknown[1]}, which {job.model.id} is",
                "try another --exporter or target: those that export least have the newest transformers",
            )
        original.refuse(
            f"transformers cannot load {job.model.id} for {job.task}: {original.first_line(error)}",
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


class _Recorder(NamedTuple):
    """Asks the original one payload after the other."""

    task: Task
    manifest: Manifest
    tokenizer: Tokenizer
    runner: Runner
    sentence: Any
    pipeline: "_Pipeline | None"

    def takes(self, payload: Mapping[str, Any]) -> bool:
        """Whether this model takes a fixed input: not all make tokens of an empty text, or have room for a question."""
        try:
            self.task.prepare(payload, self.tokenizer, self.manifest)
        except (NoTokensError, NoRoomError):
            return False
        except InputError:
            pass  # whatever else is wrong is told when it is asked
        return True

    def record(self, payloads: Sequence[tuple[str, Mapping[str, Any]]]) -> Reference:
        if not payloads:
            original.refuse(
                f"no input of the suite fits into {self.manifest.max_length} tokens", "give a longer --max-length"
            )
        cases, outputs = [], {}
        for name, payload in payloads:
            outputs[name] = self._outputs(payload, self._items(name, payload))
            cases.append(Case(name=name, payload=dict(payload), answer=self._answer(payload)))
        return Reference(cases=tuple(cases), outputs=outputs)

    def _answer(self, payload: Mapping[str, Any]) -> Any:
        """The pipeline's; where transformers has none any more, what the task reads out of the original's outputs."""
        if self.task.name == "feature-extraction":
            return None  # vectors are compared as outputs
        if self.pipeline:
            return self.pipeline(payload)
        prepared = self.task.prepare(payload, self.tokenizer, self.manifest)
        outputs = [collate.predict(self.runner, [item], self.manifest)[0] for item in prepared.items]
        return _plain(self.task.answer(prepared, outputs, self.manifest))

    def _items(self, name: str, payload: Mapping[str, Any]) -> list[Item]:
        try:
            return list(self.task.prepare(payload, self.tokenizer, self.manifest).items)
        except InputError as error:
            original.refuse(
                f"the suite's input {name!r} is refused by {self.task.name}: {error}",
                "correct the suite file, if the input is yours; if not, the model is none for this task",
            )

    def _outputs(self, payload: Mapping[str, Any], items: Sequence[Item]) -> list[dict[str, Any]]:
        if self.sentence is None:
            return [self._kept(item, collate.predict(self.runner, [item], self.manifest)[0]) for item in items]
        inputs = payload["inputs"]
        vectors = self.sentence.encode([inputs] if isinstance(inputs, str) else inputs, batch_size=1)
        return [{"sentence_embedding": np.asarray(vector, np.float32)} for vector in vectors]

    def _kept(self, item: Item, outputs: Outputs) -> dict[str, Any]:
        """Of a vocabulary-wide output only the masked positions: the others are nobody's answer, and megabytes."""
        if self.task.name != "fill-mask":
            return dict(outputs)
        rows = np.flatnonzero(np.array(item.ids) == self.tokenizer.id_of(self.manifest.mask_token))
        return {compare.ROWS: rows, **{name: array[rows] for name, array in outputs.items()}}


def _pipeline(fast: Any, network: Any, task: str) -> "_Pipeline | None":
    """The original's own; None for vectors, and for a task whose pipeline this transformers has dropped."""
    from transformers.pipelines import PIPELINE_REGISTRY

    known = task != "feature-extraction" and task in PIPELINE_REGISTRY.get_supported_tasks()
    return _Pipeline(fast, network, task) if known else None


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
    max_length = original.max_length(network, fast, job, own)
    return Source(
        max_length=max_length,
        pad_token_id=int(fast.pad_token_id),
        padding_side=str(fast.padding_side),
        token_types="token_type_ids" in fast.model_input_names,
        clean_up_spaces=bool(fast.clean_up_tokenization_spaces),
        labels=original.labels(network.config) if "classification" in job.task else [],
        cls_token=str(fast.cls_token or ""),
        unk_token=str(fast.unk_token or ""),
        mask_token=str(fast.mask_token or "") if job.task == "fill-mask" else "",
        problem_type=str(network.config.problem_type or ""),
        embedding=original.embedding(sentence, network) if sentence is not None else None,
        generation=recording.facts(network, fast, max_length) if job.task == inputs.TASK else None,
        dtype=str(network.dtype).removeprefix("torch."),
    )


def _user_cases(file: Path | None, job: SourceJob, task: suite.Payloads) -> list[suite.Input]:
    try:
        return suite.read(file.read_bytes(), task) if file else []
    except InputError as error:
        original.refuse(str(error), f"correct the suite file: one JSON request of {job.task} a line")


def _plain(answer: Any) -> Any:
    """Turn numpy's numbers into Python's."""
    return json.loads(json.dumps(answer, default=lambda number: number.item()))


if __name__ == "__main__":
    main()
