"""What is made of an encoder's graph. Optimum is stood in for: it needs torch, and a builder image."""

import sys
import types
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from images.inside.contract import Exporting
from images.inside.records import Bounds, ExportJob, ModelFacts, SourceJob
from targets.onnx_cpu import export

FACTS = ModelFacts(id="acme/tiny", source="folder", revision="", digest="sha256:0")


@pytest.fixture
def given(tmp_path: Path) -> Exporting:
    for name in ("model", "out", "work"):
        (tmp_path / name).mkdir()
    source = SourceJob(model=FACTS, task="text-classification")
    job = ExportJob(target="onnx-cpu", exporter="optimum", mode="none", bounds=Bounds())
    return Exporting(tmp_path / "model", tmp_path / "out", tmp_path / "work", tmp_path / "told", source, job)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Optimum was asked; `inputs` are those of the graph that it writes."""
    found: dict[str, Any] = {"inputs": ["input_ids", "attention_mask"], "known": ["tiny"]}

    def main_export(_: str, *, output: Path, **options: Any) -> None:
        found.update(options)
        output.mkdir(parents=True)
        onnx.save(graph(found["inputs"]), output / export.ENTRY)

    class TasksManager:
        @staticmethod
        def get_exporter_config_constructor(_: str, *, model_type: str, **__: Any) -> None:
            if model_type not in found["known"]:
                raise KeyError(model_type)

    modules: dict[str, dict[str, Any]] = {
        "optimum": {},
        "optimum.exporters": {},
        "optimum.exporters.tasks": {"TasksManager": TasksManager},
        "optimum.exporters.onnx": {"main_export": main_export},
        "transformers": {"AutoConfig": types.SimpleNamespace(from_pretrained=lambda *_, **__: Config)},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return found


class Config:
    """A model's configuration."""

    model_type = "tiny"


def graph(inputs: list[str]) -> Any:
    tensors = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in inputs]
    output = helper.make_tensor_value_info("logits", TensorProto.INT64, ["b", "s"])
    node = helper.make_node("Identity", [inputs[0]], ["logits"])
    return helper.make_model(helper.make_graph([node], "g", tensors, [output]))


def test_a_graph_whose_inputs_the_image_feeds_is_kept(given: Exporting, asked: dict[str, Any]) -> None:
    assert export.export(given).entry == export.ENTRY
    assert asked["task"] == "text-classification"
    assert (given.out / export.ENTRY).exists()


def test_a_graph_that_takes_what_the_image_does_not_feed_is_refused(
    given: Exporting, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["inputs"] = ["input_ids", "attention_mask", "global_attention_mask"]
    with pytest.raises(SystemExit):
        export.export(given)
    assert "its graph takes global_attention_mask" in capsys.readouterr().err


def test_a_classifier_without_padding_takes_no_token_of_a_text_for_it(given: Exporting, asked: dict[str, Any]) -> None:
    export.export(given)
    assert asked["pad_token_id"] < 0


def test_a_type_that_optimum_does_not_know_is_refused_by_name(
    given: Exporting, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["known"] = ["bert"]
    with pytest.raises(SystemExit):
        export.export(given)
    assert "optimum does not know tiny for text-classification (acme/tiny)" in capsys.readouterr().err
