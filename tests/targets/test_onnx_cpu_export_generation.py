"""What is made of the exporters' graphs. The exporters are stood in for: they need torch, and a builder image."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from images.inside import original
from images.inside.contract import Exported, Exporting
from images.inside.records import Bounds, ExportJob, ModelFacts, SourceJob
from targets.onnx_cpu import builder, export_generation, generate
from tests.inside import decoders, texting

VOCABULARY, CONTEXT = 50, 64
IDS = [3, 1, 4, 1, 5]


def exporting(folder: Path, exporter: str, mode: str) -> Exporting:
    facts = ModelFacts(id="acme/tiny", source="folder", revision="", digest="sha256:0")
    for name in ("model", "out", "work"):
        (folder / name).mkdir()
    source = SourceJob(model=facts, task="text-generation")
    job = ExportJob(target="onnx-cpu", exporter=exporter, mode=mode, bounds=Bounds())
    return Exporting(folder / "model", folder / "out", folder / "work", folder / "told", source, job)


class Config:
    """A model's configuration; its type is what Optimum and transformers look models up by."""

    model_type = "tiny"
    sliding_window: int | None = None


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """What transformers reads of every model."""
    found = Config()

    class AutoConfig:
        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> Config:
            return found

    module: Any = types.ModuleType("transformers")
    module.AutoConfig, module.MODEL_FOR_CAUSAL_LM_MAPPING = AutoConfig, {Config: Network}
    monkeypatch.setitem(sys.modules, "transformers", module)
    return found


class Network:
    """A network as transformers knows it."""

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any) -> Any: ...


# The model builder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the builder is told; it writes a decoder that is as the builder leaves it."""
    arguments: list[str] = []

    def build(_: Exporting, *given: Any) -> None:
        arguments[:] = map(str, given)
        made = Path(arguments[arguments.index("-o") + 1])
        made.mkdir()
        model = onnx.load(decoders.write(made / "model.onnx", "shared", VOCABULARY, last_only=True))
        del model.metadata_props[:]
        for tensor in (*model.graph.input, *model.graph.output):
            if len(tensor.type.tensor_type.shape.dim) == 4:
                tensor.type.tensor_type.shape.dim[3].dim_param = "head_size"
        onnx.save(
            model, made / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=1024
        )
        (made / "genai_config.json").write_text(json.dumps({"model": {"decoder": {"head_size": decoders.SIZE}}}))
        (made / "tokenizer.json").write_text("{}")

    monkeypatch.setattr(export_generation, "_run", build)
    return arguments


@pytest.mark.parametrize(("mode", "precision"), [("int8", "int8"), ("int4", "int4")])
def test_the_builder_is_told_precision_and_recipe(mode: str, precision: str, told: list[str], tmp_path: Path) -> None:
    made = export_generation.export(exporting(tmp_path, "genai", mode))
    assert told[told.index("-p") + 1] == precision
    assert told[told.index("-e") + 1] == "cpu"
    assert told[told.index("--extra_options") + 1 :] == made.recipe.split(", ")
    assert made.entry == "model.onnx"


@pytest.mark.usefixtures("told")
def test_what_the_builder_made_runs_and_its_other_files_are_left(tmp_path: Path) -> None:
    given = exporting(tmp_path, "genai", "int8")
    made = export_generation.export(given)
    assert sorted(path.name for path in given.out.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert said(given, made, "in place") == pytest.approx(decoders.logits(IDS, VOCABULARY)[-1], abs=1e-4)


def said(given: Exporting, made: Exported, cache: str) -> Any:
    """The logits behind a prompt that is read in two parts."""
    manifest = texting.manifest().__replace__(entry=made.entry, max_length=CONTEXT)
    generator = generate.load(given.out, manifest, 1, 2)
    assert generator.describe()["cache"] == cache
    generator.prefill(1, IDS[:3])
    return np.asarray(generator.prefill(1, IDS[3:]))


@pytest.mark.usefixtures("told")
def test_a_window_over_all_layers_reaches_the_graph(config: Config, tmp_path: Path) -> None:
    config.sliding_window = 3
    given = exporting(tmp_path, "genai", "int8")
    made = export_generation.export(given)
    assert windows(given.out / made.entry) == [3] * decoders.LAYERS


@pytest.mark.usefixtures("told")
def test_windows_of_single_layers_are_the_builders_own_work(config: Config, tmp_path: Path) -> None:
    config.sliding_window = 3
    config.__dict__["layer_types"] = ["sliding_attention", "full_attention"]
    given = exporting(tmp_path, "genai", "int8")
    made = export_generation.export(given)
    assert windows(given.out / made.entry) == [-1] * decoders.LAYERS


def windows(file: Path) -> list[int]:
    graph = onnx.load(file, load_external_data=False).graph
    return [found.i for node in graph.node for found in node.attribute if found.name == "local_window_size"]


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("Traceback\n  ...\nKeyError: 'position_ids'\n", "(tiny): it ended with KeyError: 'position_ids'"),
        ("", "(tiny): it ended with exit code 1"),
        ("NotImplementedError: The /a/path model is not currently supported.", "(tiny)"),
    ],
)
def test_why_the_builder_failed_is_told_with_the_model_and_the_way_on(
    stderr: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = types.SimpleNamespace(returncode=1, stderr=stderr)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failed)
    with pytest.raises(SystemExit):
        export_generation._run(exporting(tmp_path, "genai", "int8"), "-i", "model")
    told = json.loads(capsys.readouterr().err.splitlines()[-1].removeprefix(original.ERROR))
    assert told["what"].endswith(f"does not take acme/tiny {said}")
    assert told["hint"].startswith("give --quantize none")


def rotary(kind: str, by_layer: bool = True) -> Any:
    """A configuration of this type, after the builder's program was through with it."""
    one, other = {"rope_type": "default", "rope_theta": 1e6}, {"rope_type": "default", "rope_theta": 1e4}
    told = {"full_attention": one, "sliding_attention": other} if by_layer else one
    return builder.flat(types.SimpleNamespace(model_type=kind, rope_parameters=told))


def test_the_builder_finds_gemma_3s_rotary_positions_where_it_looks_for_them() -> None:
    config = rotary("gemma3_text")
    assert (config.rope_parameters["rope_theta"], config.rope_local_base_freq) == (1e6, 1e4)


@pytest.mark.parametrize(("kind", "by_layer"), [("gemma4_text", True), ("llama", False), ("gemma3_text", False)])
def test_other_rotary_positions_stay_as_they_are(kind: str, by_layer: bool) -> None:
    config = rotary(kind, by_layer)
    assert ("full_attention" in config.rope_parameters, hasattr(config, "rope_local_base_freq")) == (by_layer, False)


def test_only_the_builder_is_given_a_flat_configuration(config: Config) -> None:
    config.rope_parameters = {"full_attention": {}, "sliding_attention": {"rope_theta": 1e4}}  # type: ignore[attr-defined]
    config.model_type = "gemma3_text"
    factory: Any = types.SimpleNamespace(from_pretrained=lambda _: config)
    own, factory.from_pretrained = factory.from_pretrained, builder._first(factory)
    assert factory.from_pretrained("model").rope_local_base_freq == 1e4
    assert factory.from_pretrained is own


# Optimum


class Described:
    """Optimum's description of a graph, for a model without positions of its own."""

    def __init__(self, config: Config, **flags: bool) -> None:
        assert flags == {"use_past": True, "use_past_in_inputs": True}
        self.config = config

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"input_ids": {0: "batch_size", 1: "sequence_length"}}


@pytest.fixture
def optimum(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the exporter is told; it writes a decoder."""
    asked: dict[str, Any] = {}

    def main_export(model: str, output: str, **options: Any) -> None:
        asked.update(options, model=model)
        file = decoders.write(Path(output, "model.onnx"), "concatenated", VOCABULARY)
        graph = onnx.load(file)
        del graph.metadata_props[:]
        onnx.save(graph, file)

    class TasksManager:
        @staticmethod
        def get_exporter_config_constructor(_: str, *, model_type: str, **__: Any) -> type[Described]:
            return {"tiny": Described}[model_type]

    modules: dict[str, dict[str, Any]] = {
        "optimum": {},
        "optimum.exporters": {},
        "optimum.exporters.tasks": {"TasksManager": TasksManager},
        "optimum.exporters.onnx": {"main_export": main_export},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_what_optimum_made_runs(optimum: dict[str, Any], tmp_path: Path) -> None:
    given = exporting(tmp_path, "optimum", "none")
    made = export_generation.export(given)
    assert said(given, made, "concatenated") == pytest.approx(decoders.logits(IDS, VOCABULARY)[-1], abs=1e-4)
    assert (optimum["model"], optimum["trust_remote_code"]) == (str(given.model), False)


def test_positions_are_an_input_of_a_network_that_takes_them(optimum: dict[str, Any], tmp_path: Path) -> None:
    export_generation.export(exporting(tmp_path, "optimum", "none"))
    described = optimum["custom_onnx_configs"]["model"]
    assert isinstance(described, Described)
    assert list(described.inputs) == ["input_ids", "position_ids"]


def test_a_network_without_positions_is_exported_as_optimum_describes_it(
    optimum: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Network, "forward", lambda self, input_ids: (self, input_ids))
    export_generation.export(exporting(tmp_path, "optimum", "none"))
    assert optimum["custom_onnx_configs"] is None


@pytest.mark.usefixtures("optimum")
def test_a_type_that_optimum_does_not_know_is_refused_by_name(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.model_type = "strange"
    with pytest.raises(SystemExit):
        export_generation.export(exporting(tmp_path, "optimum", "none"))
    assert "optimum does not know strange for text-generation (acme/tiny)" in capsys.readouterr().err


# Graphs of another form


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ({"position_ids": "cache_position"}, "its graph takes cache_position"),
        ({"past_key_values.0.key": "past_states.0"}, "its graph takes past_states.0"),
        (
            {f"past_key_values.{layer}.{part}": "input_ids" for layer in range(2) for part in ("key", "value")},
            "its graph keeps no keys and values",
        ),
    ],
)
def test_a_graph_that_the_image_cannot_feed_is_refused_with_what_to_do(
    renamed: dict[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = onnx.load(decoders.write(tmp_path / "model.onnx", "concatenated", VOCABULARY))
    for tensor in graph.graph.input:
        tensor.name = renamed.get(tensor.name, tensor.name)
    with pytest.raises(SystemExit):
        export_generation._require_inputs(graph, exporting(tmp_path, "optimum", "none"), "position_ids")
    marker, _, told = capsys.readouterr().err.partition(" ")
    assert marker == original.ERROR
    assert words in json.loads(told)["what"]
    assert "--quantize" in json.loads(told)["hint"]
