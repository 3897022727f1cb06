import pytest

from images import architectures
from images.errors import UsageError
from tests.checkpoints import TASKS


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("DebertaV2ForSequenceClassification", "text-classification"),
        ("NewThingForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
        ("BertForMaskedLM", "fill-mask"),
        ("LlamaForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("ViTForImageClassification", "image-classification"),
        ("DeiTForImageClassificationWithTeacher", "image-classification"),
        ("BertModel", "feature-extraction"),
    ],
)
def test_the_task_follows_from_the_architecture(architecture: str, task: str) -> None:
    assert architectures.infer({"architectures": [architecture]}, False, [task]) == task


def test_any_task_will_do_where_none_is_asked_for() -> None:
    assert architectures.infer({"architectures": ["ViTForImageClassification"]}, False, ()) == "image-classification"


def test_where_any_task_will_do_the_known_ones_are_listed() -> None:
    with pytest.raises(UsageError, match=r"choose one with --task: text-classification, .*feature-extraction$"):
        architectures.infer({}, False, ())


def test_a_sentence_transformer_is_an_encoder_whatever_its_architecture_says() -> None:
    assert architectures.infer({"architectures": ["MPNetForMaskedLM"]}, True, TASKS) == "feature-extraction"


@pytest.mark.parametrize(
    "names", [None, [], ["BertForPreTraining"], ["BertModel", "BertForMaskedLM"], ["XLMWithLMHeadModel"]]
)
def test_an_ambiguous_architecture_lists_the_tasks(names: list[str] | None) -> None:
    with pytest.raises(UsageError, match=r"--task: feature-extraction, text-classification, fill-mask"):
        architectures.infer({"architectures": names}, False, TASKS)
