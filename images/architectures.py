"""The task that a model was made for, from the name of its architecture."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from images.errors import UsageError

SUFFIXES = (
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForImageClassification", "image-classification"),
    ("ForImageClassificationWithTeacher", "image-classification"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", "text-generation"),
    ("WithLMHeadModel", ""),
    ("LMHeadModel", "text-generation"),
    ("DoubleHeadsModel", ""),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition"),
    ("ForCTC", "automatic-speech-recognition"),
    ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("ForSeq2SeqLM", "text2text-generation"),
    ("Model", "feature-extraction"),
)
"""An architecture's suffix and its task, the first match counts; empty where the suffix says too little."""
KNOWN = tuple(dict.fromkeys(task for _, task in SUFFIXES if task))
NONE: Mapping[str, str] = MappingProxyType({})


def infer(
    config: Mapping[str, Any], has_modules_json: bool, tasks: Sequence[str], refused: Mapping[str, str] = NONE
) -> str:
    """The task that a model was made for, by its architecture's suffix: unseen architectures work as well.

    Args:
        config: the content of config.json.
        has_modules_json: whether it is a sentence-transformers model. Those are encoders, whatever their architecture
            says: all-mpnet-base-v2 says MPNetForMaskedLM.
        tasks: the target's tasks; empty for any.
        refused: as for `require`.

    Raises:
        UsageError: the architecture says nothing or several things, or the target does not have the task.

    """
    architectures = [str(name) for name in config.get("architectures") or ()]
    found = {"feature-extraction"} if has_modules_json else {_task_of(name) for name in architectures}
    if len(found) != 1 or "" in found:
        said = (
            f"its architecture {', '.join(architectures)} fits"
            if architectures
            else "config.json names no architecture; it may fit"
        )
        raise UsageError(
            f"the model's task is not clear: {said} several tasks",
            f"choose one with --task: {', '.join(tasks or KNOWN)}",
        )
    asked = f"the model ({', '.join(architectures) or 'sentence-transformers'}) is for the task"
    return require(found.pop(), tasks, asked, refused)


def _task_of(architecture: str) -> str:
    return next((task for suffix, task in SUFFIXES if architecture.endswith(suffix)), "")


def require(task: str, tasks: Sequence[str], asked: str, refused: Mapping[str, str] = NONE) -> str:
    """The task, when it is one of the target's, or when any will do.

    Raises:
        UsageError: it is not, with those that are, and with the reason where `refused` has one for the task.

    """
    if tasks and task not in tasks:
        reason = f": {refused[task]}" if task in refused else ""
        raise UsageError(
            f"{asked} {task}, which the target does not have{reason}",
            f"it has: {', '.join(tasks)}; choose with --task, or another target",
        )
    return task
