"""How the tflite target prepares a network for its converter. PyTorch is stood in for by numpy."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from targets.tflite import export_generation, export_litert

SIZE = 4


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("torch")
    module.cat = np.concatenate
    module.nn = types.SimpleNamespace(Parameter=lambda values, **_: Values(values))
    monkeypatch.setitem(sys.modules, "torch", module)


class Values:
    """Numbers of a layer."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def detach(self) -> Any:
        """As an array."""
        return self.values


class Projection:
    """A linear layer to so many heads."""

    def __init__(self, heads: int) -> None:
        self.out_features = heads * SIZE
        self.weight, self.bias = Values(np.arange(heads * SIZE * 2).reshape(-1, 2)), Values(np.arange(heads * SIZE))

    def named_parameters(self) -> Iterator[tuple[str, Values]]:
        """By name."""
        yield from (("weight", self.weight), ("bias", self.bias))


class Attention:
    """Four heads of queries on some heads of keys and values."""

    head_dim = SIZE

    def __init__(self, heads: int) -> None:
        self.num_key_value_groups = 4 // heads
        self.k_proj, self.v_proj = Projection(heads), Projection(heads)


class Network:
    """A network of one layer, and what it was told of its attention."""

    def __init__(self, layer: Any, window: int | None = None) -> None:
        self.config, self.layer, self.attention = types.SimpleNamespace(sliding_window=window), layer, "sdpa"

    def modules(self) -> list[Any]:
        """All of them."""
        return [self, self.layer]

    def set_attn_implementation(self, name: str) -> None:
        """Noted."""
        self.attention = name


def test_the_only_head_of_keys_is_copied_for_each_head_of_queries() -> None:
    layer = Attention(1)
    export_litert._prepare(Network(layer))
    assert (layer.num_key_value_groups, layer.k_proj.out_features) == (1, 4 * SIZE)
    assert (layer.v_proj.weight.values == np.tile(Projection(1).weight.values, (4, 1))).all()
    assert (layer.k_proj.bias.values == np.tile(np.arange(SIZE), 4)).all()


@pytest.mark.parametrize("layer", [Attention(2), Attention(4), types.SimpleNamespace(num_key_value_groups=4)])
def test_other_layers_stay_as_they_are(layer: Any) -> None:
    before = layer.num_key_value_groups
    export_litert._prepare(Network(layer))
    assert layer.num_key_value_groups == before


@pytest.mark.parametrize(("window", "attention"), [(512, "eager"), (None, "sdpa")])
def test_attention_is_written_out_where_padding_may_see_nothing(window: int | None, attention: str) -> None:
    network = Network(Attention(4), window)
    export_litert._prepare(network)
    assert network.attention == attention


# Decoders

GIVEN: Any = types.SimpleNamespace(
    job=types.SimpleNamespace(exporter="litert"),
    source=types.SimpleNamespace(model=types.SimpleNamespace(id="acme/tiny")),
)


class Plain:
    """A configuration of a network with a head of keys and values for each head of queries."""

    num_attention_heads = 4


class Grouped(Plain):
    """One that says how many heads of keys and values there are."""

    num_key_value_heads = 2


@pytest.mark.parametrize(("config", "heads"), [(Plain, 4), (Grouped, 2)])
def test_every_configuration_says_how_many_heads_of_keys_there_are(config: type[Plain], heads: int) -> None:
    known: Any = type("Config", (config,), {})
    export_generation._count_heads(known)
    assert known().num_key_value_heads == heads


def test_a_network_with_an_attention_of_its_own_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    network = type("BloomForCausalLM", (), {"_supports_attention_backend": False})
    with pytest.raises(SystemExit):
        export_generation._require_attention(network, GIVEN)
    assert "cannot export acme/tiny: the attention of BloomForCausalLM" in capsys.readouterr().err


@pytest.mark.parametrize("network", [type("Other", (), {"_supports_attention_backend": True}), None])
def test_a_network_whose_attention_can_be_replaced_is_exported(network: Any) -> None:
    export_generation._require_attention(network, GIVEN)


def test_positions_that_change_with_the_length_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export_generation._require_positions(types.SimpleNamespace(rope_parameters={"rope_type": "longrope"}), GIVEN)
    assert "its rotary positions (longrope) change" in capsys.readouterr().err


@pytest.mark.parametrize("rotary", [None, {"rope_type": "yarn"}, {"full_attention": {}, "sliding_attention": {}}])
def test_positions_that_stay_are_exported(rotary: Any) -> None:
    export_generation._require_positions(types.SimpleNamespace(rope_parameters=rotary), GIVEN)


def test_layers_with_a_state_of_their_own_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export_generation._require_layers(types.SimpleNamespace(layer_types=["conv", "full_attention"]), GIVEN)
    assert "acme/tiny with layers of conv: they keep" in capsys.readouterr().err


@pytest.mark.parametrize("kinds", [None, ["sliding_attention", "full_attention"]])
def test_layers_of_attention_are_exported(kinds: list[str] | None) -> None:
    export_generation._require_layers(types.SimpleNamespace(layer_types=kinds), GIVEN)
