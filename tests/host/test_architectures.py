import pytest

from images import architectures
from images.errors import ModelError, UsageError
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
        ("MarianMTModel", "text2text-generation"),
        ("DetrForObjectDetection", "object-detection"),
        ("SegformerForSemanticSegmentation", "image-segmentation"),
        ("TimesFmModelForPrediction", "time-series-forecasting"),
    ],
)
def test_the_task_follows_from_the_architecture(architecture: str, task: str) -> None:
    assert architectures.infer({"architectures": [architecture]}, False, [task]) == task


def test_any_task_will_do_where_none_is_asked_for() -> None:
    assert architectures.infer({"architectures": ["ViTForImageClassification"]}, False, ()) == "image-classification"


def test_where_any_task_will_do_the_known_ones_are_listed() -> None:
    with pytest.raises(UsageError, match=r"choose one with --task: feature-extraction, .*token-classification$"):
        architectures.infer({}, False, ())


def test_a_sentence_transformer_is_an_encoder_whatever_its_architecture_says() -> None:
    assert architectures.infer({"architectures": ["MPNetForMaskedLM"]}, True, TASKS) == "feature-extraction"


@pytest.mark.parametrize(
    "names", [None, [], ["BertForPreTraining"], ["BertModel", "BertForMaskedLM"], ["XLMWithLMHeadModel"]]
)
def test_an_ambiguous_architecture_lists_the_tasks(names: list[str] | None) -> None:
    with pytest.raises(UsageError, match=r"--task: feature-extraction, text-classification, fill-mask"):
        architectures.infer({"architectures": names}, False, TASKS)


@pytest.mark.parametrize(
    ("architecture", "task"), [("BartModel", "text2text-generation"), ("T5EncoderModel", "feature-extraction")]
)
def test_a_network_that_encodes_and_decodes_is_no_encoder(architecture: str, task: str) -> None:
    assert architectures.infer({"architectures": [architecture], "is_encoder_decoder": True}, False, [task]) == task


@pytest.mark.parametrize(
    ("architecture", "config", "given"),
    [
        ("CLIPModel", {"vision_config": {"model_type": "clip_vision_model"}}, "pictures"),
        ("ViTModel", {"num_channels": 3}, "pictures"),
        ("VisionEncoderDecoderModel", {"encoder": {"model_type": "vit", "num_channels": 3}}, "pictures"),
        ("LlavaForConditionalGeneration", {"vision_config": {"model_type": "clip_vision_model"}}, "pictures"),
        ("Wav2Vec2ForSequenceClassification", {"conv_stride": [5, 2]}, "sound"),
        ("ClapModel", {"audio_config": {"model_type": "clap_audio_model"}}, "sound"),
        ("TapasForQuestionAnswering", {"max_num_rows": 64}, "tables"),
        ("LayoutLMv3ForTokenClassification", {"num_channels": 3, "max_2d_position_embeddings": 99}, "pictures and pl"),
    ],
)
def test_a_model_that_is_given_more_than_texts_is_refused_with_what_it_is_given(
    architecture: str, config: dict[str, object], given: str
) -> None:
    with pytest.raises(ModelError, match=rf"\({architecture}\) is given {given}") as caught:
        architectures.infer({"architectures": [architecture], **config}, False, TASKS)
    assert "text-classification, fill-mask" in caught.value.hint


def test_a_model_for_a_task_on_pictures_may_be_given_pictures() -> None:
    config = {"architectures": ["ViTForImageClassification"], "num_channels": 3}
    assert architectures.infer(config, False, ["image-classification"]) == "image-classification"


def test_a_class_called_after_pictures_makes_no_model_of_them() -> None:
    config = {"architectures": ["BertForSequenceClassification"], "label2id": {"num_channels": 3}}
    assert architectures.infer(config, False, TASKS) == "text-classification"


def test_a_task_of_other_targets_is_answered_with_them() -> None:
    with pytest.raises(UsageError, match="or another target: a, b"):
        architectures.require("cooking", TASKS, "--task asks for", elsewhere={"cooking": ["a", "b"]})


def test_a_task_that_no_target_has_is_answered_so() -> None:
    with pytest.raises(UsageError, match="no target has cooking"):
        architectures.require("cooking", TASKS, "--task asks for", elsewhere={})
