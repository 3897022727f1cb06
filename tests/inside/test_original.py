"""What is asked of the original network, by what it says of itself. Networks are stood in for: they need torch."""

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from images.inside import original
from images.inside.records import ModelFacts, SourceJob

FACTS = ModelFacts(id="acme/tiny", source="folder", revision="", digest="sha256:0")
JOB = SourceJob(model=FACTS, task="text-classification")
NAMES = ["input_ids", "token_type_ids", "attention_mask"]


class Network:
    """A network with two tables: one of numbers, one of indexes."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(is_encoder_decoder=False)

    def forward(self, input_ids: Any, attention_mask: Any) -> None:
        """As DistilBERT: it tells no segments apart."""

    def named_buffers(self) -> list[tuple[str, Any]]:
        """By name."""
        return [
            ("norm.running_mean", SimpleNamespace(is_floating_point=lambda: True)),
            ("layer.relative_position_index", SimpleNamespace(is_floating_point=lambda: False)),
        ]


def require(*missing: str) -> None:
    original._require_weights(Network(), {"missing_keys": [*missing], "mismatched_keys": []}, JOB)


def test_a_network_is_given_what_it_takes_of_a_tokenizers_outputs() -> None:
    assert original.taken(Network(), NAMES) == ["input_ids", "attention_mask"]


def test_a_network_that_does_not_say_what_it_takes_is_given_all() -> None:
    assert original.taken(SimpleNamespace(forward=lambda **_: None), NAMES) == NAMES


def test_indexes_that_a_network_makes_itself_are_no_missing_weights() -> None:
    require("layer.relative_position_index", "bert.pooler.dense.weight")


@pytest.mark.parametrize(
    ("task", "both", "advised"),
    [("feature-extraction", True, True), ("feature-extraction", False, False), ("text-classification", True, False)],
)
def test_an_encoder_without_its_decoder_is_advised_a_pooling(
    task: str, both: bool, advised: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    network, job = Network(), SourceJob(model=FACTS, task=task)
    network.config.is_encoder_decoder = both
    with pytest.raises(SystemExit):
        original._require_weights(network, {"missing_keys": ["decoder.weight"], "mismatched_keys": []}, job)
    assert ("--pooling" in capsys.readouterr().err) is advised


LONG = {"rope_type": "longrope", "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("config", "dtype", "tokens"),
    [
        ({"rope_parameters": LONG}, "float32", 64),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 32}, "float32", 32),
        ({"rope_parameters": LONG}, "auto", 128),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 64}}, "float32", 128),
        ({"rope_parameters": None}, "float32", 128),
    ],
)
def test_an_exported_graph_ends_where_rotary_positions_become_others(
    config: dict[str, Any], dtype: Literal["float32", "auto"], tokens: int
) -> None:
    network = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=128, **config), named_modules=dict)
    job = SourceJob(model=FACTS, task="text-generation", dtype=dtype)
    assert original.max_length(network, SimpleNamespace(model_max_length=10**30), job) == tokens


def test_numbers_for_names_of_classes_become_names() -> None:
    config = SimpleNamespace(id2label={1: 7, 0: "no"})
    original._name_labels(config)
    assert config.id2label == {0: "no", 1: "7"}


@pytest.mark.parametrize("name", ["classifier.weight", "norm.running_mean"])
def test_weights_that_would_be_random_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        require(name)
    assert f"{name} would be random" in capsys.readouterr().err


@pytest.mark.parametrize("key", [("embeddings.weight", (1000, 32), (500, 32)), "embeddings.weight"])
def test_weights_of_another_shape_than_the_config_says_are_refused(
    key: object, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"missing_keys": [], "mismatched_keys": [key]}
    with pytest.raises(SystemExit):
        original._require_weights(Network(), told, JOB)
    assert "another shape than its config.json says: embeddings.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (RuntimeError("Error(s) in loading:\n\tsize mismatch for weight\n\tand more"), None),
        (KeyError(), "KeyError"),
    ],
)
def test_an_error_of_a_library_is_told_in_one_line(error: Exception, line: str | None) -> None:
    assert original.first_line(error) == (line or "Error(s) in loading: size mismatch for weight")
