"""The task that a model was made for, from the name of its architecture, and what it is given beside texts."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from images.errors import ModelError, UsageError
from images.inside.original import AUTO

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
    ("MTModel", "text2text-generation"),
    ("EncoderDecoderModel", "text2text-generation"),
    ("ForPreTraining", ""),
    ("ForRewardModel", ""),
    ("Model", "feature-extraction"),
)
"""An architecture's suffix and its task, the first match counts; empty where the suffix says too little."""
KNOWN = tuple(AUTO)
"""The tasks that targets may have."""
OTHER_SUFFIXES = (
    ("ForObjectDetection", "object-detection"),
    ("Segmentation", "image-segmentation"),
    ("ForDepthEstimation", "depth-estimation"),
    ("ForImageSuperResolution", "image-to-image"),
    ("ForMaskedImageModeling", "masked-image-modeling"),
    ("ForVideoClassification", "video-classification"),
    ("ForAudioClassification", "audio-classification"),
    ("ForAudioFrameClassification", "audio-classification"),
    ("ForXVector", "audio-xvector"),
    ("ForTextToSpeech", "text-to-audio"),
    ("ForPrediction", "time-series-forecasting"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForNextSentencePrediction", "next-sentence-prediction"),
)
"""Likewise, of tasks that no target has: named so that the answer is their name and not a choice of others."""
NONE: Mapping[str, str] = MappingProxyType({})

GIVEN: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "pictures": ("vision_config", "num_channels", "img_processor"),
        "sound": ("audio_config", "num_mel_bins", "conv_stride", "audio_channels", "sampling_rate"),
        "series of numbers": ("prediction_length", "num_input_channels", "act_dim"),
        "tables": ("max_num_rows",),
        "places of words on a page": ("max_2d_position_embeddings",),
    }
)
"""What networks are given beside texts, and the fields of a configuration that say so."""
ANSWERS = "text-generation"
"""The task for which a network that is given more may be asked with texts alone, when a user says so."""
OF_OTHER = (
    "text-to-audio",
    "image-",
    "audio-",
    "automatic-speech-",
    "object-",
    "video-",
    "depth-",
    "masked-image-",
    "time-series-",
)
"""How tasks begin whose inputs are no texts."""


def infer(
    config: Mapping[str, Any],
    embeds: bool,
    tasks: Sequence[str],
    refused: Mapping[str, str] = NONE,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The task that a model was made for, by its architecture's suffix: unseen architectures work as well.

    Args:
        config: the content of config.json.
        embeds: whether sentence-transformers makes one vector a text of it. Then it is an encoder, whatever its
            architecture says: all-mpnet-base-v2 says MPNetForMaskedLM.
        tasks: the target's tasks; empty for any.
        refused: as for `require`.
        elsewhere: as for `require`.

    Raises:
        ModelError: it is given something else than texts, for a task on them.
        UsageError: the architecture says nothing or several things, or the target does not have the task.

    """
    architectures = _names(config)
    found = {"feature-extraction"} if embeds else {_task_of(name, config) for name in architectures}
    if len(found) != 1 or "" in found:
        said = (
            f"its architecture {', '.join(architectures)} fits"
            if architectures
            else "config.json names no architecture; it may fit"
        )
        raise UsageError(
            f"the model's task is not clear: {said} several tasks, or none that is known",
            f"choose one with --task: {', '.join(tasks or KNOWN)}",
        )
    task = found.pop()
    require_given(config, task, tasks)
    asked = f"the model ({', '.join(architectures) or 'sentence-transformers'}) is for the task"
    return require(task, tasks, asked, refused, elsewhere)


def _names(config: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in config.get("architectures") or ()]


def _task_of(architecture: str, config: Mapping[str, Any]) -> str:
    task = next((task for suffix, task in (*OTHER_SUFFIXES, *SUFFIXES) if architecture.endswith(suffix)), "")
    both = config.get("is_encoder_decoder") and not architecture.endswith("EncoderModel")
    return "text2text-generation" if both and task == "feature-extraction" else task


def require_given(config: Mapping[str, Any], task: str, tasks: Sequence[str]) -> None:
    """Raise `ModelError` for a network that is given something beside texts, unless the task is about that.

    Libraries load such a network for a task on texts all the same, and it fails when it is called.
    """
    given = _given(config)
    if given and not task.startswith(OF_OTHER):
        names = _names(config)
        answers = any(name.endswith("ForConditionalGeneration") for name in names)
        named = f" ({', '.join(names)})" if names else ""
        raise ModelError(
            f"the model{named} is given {' and '.join(given)}, which {task} does not give",
            f"take a model that is given what a task of the target says: {', '.join(tasks or KNOWN)}"
            + (f"; or try this one with texts alone: --task {ANSWERS}" if answers else ""),
        )


def _given(config: Mapping[str, Any]) -> list[str]:
    """What a network is given beside texts, by its configuration and those of its parts."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict) and "model_type" in part)]
    return [kind for kind, fields in GIVEN.items() if any(part.get(field) for part in parts for field in fields)]


def require(
    task: str,
    tasks: Sequence[str],
    asked: str,
    refused: Mapping[str, str] = NONE,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The task, when it is one of the target's, or when any will do.

    Args:
        task: what is asked for.
        tasks: the target's; empty for any.
        asked: begins the message: who asks.
        refused: tasks that the target does not have, each with the reason.
        elsewhere: targets by task; None where they are not known.

    Raises:
        UsageError: it is none of them; the message has those that are, and who else has it.

    """
    if tasks and task not in tasks:
        reason = f": {refused[task]}" if task in refused else ""
        raise UsageError(
            f"{asked} {task}, which the target does not have{reason}",
            f"it has: {', '.join(tasks)}; {_elsewhere(task, elsewhere)}",
        )
    return task


def _elsewhere(task: str, elsewhere: Mapping[str, Sequence[str]] | None) -> str:
    if elsewhere is None:
        return "choose with --task, or another target"
    others = elsewhere.get(task)
    return f"choose with --task, or another target: {', '.join(others)}" if others else f"no target has {task}"
