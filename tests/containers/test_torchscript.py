"""torchscript: MiniLM and tiny models by both exporters, proved and served; what a trace cannot hold is refused."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from images import base
from images.build import Built
from images.errors import ModelError
from images.inside.errors import Exit
from images.inside.report import Report
from images.verify import ISOLATED
from targets.torchscript.signature import Signature
from tests import untraceable
from tests.containers import faults
from tests.containers.yard import Yard, extract, serving

TARGET = "torchscript"
TASKS = {
    "tiny-sentiment": "text-classification",
    "tiny-entities": "token-classification",
    "tiny-answers": "question-answering",
    "tiny-masks": "fill-mask",
    "tiny-sentences": "feature-extraction",
    "tiny-vit": "image-classification",
}
FIXED = 64
FIXED_SHAPE = {"fixed-shape": True}
COUNTING: dict[str, Any] = {"trust_remote_code": True, "max_length": FIXED}


def build(yard: Yard, name: str, exporter: str) -> Built:
    """The image of a tiny model by one of the exporters."""
    return yard.image(f"{name}-{exporter}", str(yard.model(name)), target=TARGET, exporter=exporter)


@pytest.fixture(scope="module")
def minilm(yard: Yard) -> Built:
    return yard.image("minilm-torchscript", yard.config.example.model, target=TARGET)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(untraceable.write(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def fixed(yard: Yard, counting: str) -> Built:
    return yard.image("counting-fixed", counting, target=TARGET, extra=FIXED_SHAPE, **COUNTING)


def require_proved(built: Built, task: str) -> None:
    """The gate passed for the task, and the module is the original at every shape that it was tried at."""
    manifest, verdict = built.record.info.manifest, built.record.verdict
    assert manifest.task == task
    assert verdict.passed
    assert len(verdict.figures) == len(verdict.http_figures) == 8
    assert manifest.measures["right_shapes"] == 1
    assert manifest.measures["shapes"] >= 4


def test_minilm_is_the_original_bit_for_bit_without_padding(minilm: Built) -> None:
    require_proved(minilm, "feature-extraction")
    assert {entry.max_abs_diff for entry in minilm.record.verdict.figures if entry.case in {"short", "long"}} == {0}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_traced(name: str, yard: Yard) -> None:
    require_proved(build(yard, name, "trace"), TASKS[name])


@pytest.mark.parametrize(
    "name", [name if name == "tiny-sentiment" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]
)
def test_every_task_is_compiled(name: str, yard: Yard) -> None:
    require_proved(build(yard, name, "aoti"), TASKS[name])


@pytest.mark.slow
def test_minilm_is_compiled(yard: Yard) -> None:
    model = yard.config.example.model
    require_proved(yard.image("minilm-aoti", model, target=TARGET, exporter="aoti"), "feature-extraction")


def test_a_model_that_has_no_fast_attention_is_traced_with_the_plain_one(yard: Yard) -> None:
    assert build(yard, "tiny-sentences", "trace").record.info.manifest.recipe == "eager attention"


def test_the_image_says_that_torchscript_is_deprecated(yard: Yard, minilm: Built) -> None:
    text = yard.engine.run(minilm.record.reference, "info").stdout
    assert "deprecated PyTorch has deprecated TorchScript" in text
    assert "onnx-cpu" in text


def test_it_serves_in_the_memory_that_it_states(yard: Yard, minilm: Built) -> None:
    stated = minilm.record.info.manifest.memory_bytes
    with serving(yard.engine, minilm.record.reference, f"--memory={stated}", f"--memory-swap={stated}") as served:
        body = {"model": minilm.record.info.manifest.model.id, "input": ["A long text. " * 100] * 8, "truncate": True}
        answer = httpx.post(f"{served.url}/v1/embeddings", json=body, timeout=60, trust_env=False)
    assert len(answer.json()["data"]) == 8


def test_the_image_is_far_smaller_than_one_with_torch_installed(yard: Yard, minilm: Built) -> None:
    """Of the same base and locked wheels, as pip unpacks them."""
    bases = base.cached(yard.config)
    assert bases
    sizes = minilm.record.sizes
    assert sizes.without_artifact <= 0.7 * (bases[1].tar.stat().st_size + sizes.wheels)


def test_nothing_of_pythons_torch_is_in_the_image(yard: Yard, minilm: Built) -> None:
    with yard.engine.files(minilm.record.reference) as members:
        torch = {Path(member.name).name for member in members if "/torch/" in member.name and member.isfile()}
    assert torch == {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libmodel.so"}


# What a trace cannot hold


def test_a_loop_over_the_input_is_found_out(yard: Yard, counting: str) -> None:
    with pytest.raises(ModelError, match=r"counting by trace is another model at 2\d of 2\d shapes") as caught:
        yard.build("counting", counting, target=TARGET, **COUNTING)
    assert "--fixed-shape" in str(caught.value)
    assert yard.engine.image(yard.tag("counting")) is None


def test_a_loop_over_the_input_is_not_compiled(yard: Yard, counting: str) -> None:
    with pytest.raises(ModelError, match="aoti cannot export counting for feature-extraction"):
        yard.build("counting-aoti", counting, target=TARGET, exporter="aoti", **COUNTING)


def test_a_compiled_module_of_a_fixed_shape_is_refused(yard: Yard, counting: str) -> None:
    with pytest.raises(ModelError, match="aoti makes no module of a fixed shape"):
        yard.build("counting-aoti", counting, target=TARGET, exporter="aoti", extra=FIXED_SHAPE, **COUNTING)


def test_at_a_fixed_shape_it_is_the_original(fixed: Built) -> None:
    require_proved(fixed, "feature-extraction")
    assert fixed.record.info.manifest.options == FIXED_SHAPE


def test_what_is_longer_than_the_fixed_shape_is_refused(yard: Yard, fixed: Built) -> None:
    with serving(yard.engine, fixed.record.reference) as served:
        short, long = (
            httpx.post(f"{served.url}/predict", json={"inputs": "word " * words}, timeout=30, trust_env=False)
            for words in (2, 2 * FIXED)
        )
    assert (short.status_code, long.status_code) == (200, 413)
    assert f"at most {FIXED}" in long.text


# Faults planted in the artifact


def test_machine_code_for_another_processor_is_not_run(yard: Yard, tmp_path: Path) -> None:
    image = build(yard, "tiny-sentiment", "aoti").record.reference
    artifact = extract(yard.engine, image, tmp_path)
    signature = Signature.load(artifact)
    msgspec.structs.replace(signature, cpu=(*signature.cpu, "quantum")).save(artifact)
    faults.seal(artifact)
    done = yard.engine.run(image, "smoke-test", "--json", flags=(*ISOLATED, f"--volume={artifact}:/artifact:ro"))
    assert done.returncode == Exit.CANNOT_RUN
    assert "needs quantum, which" in msgspec.json.decode(done.stdout, type=Report).checks[-1].detail


def test_a_damaged_module_is_told_as_one(yard: Yard, tmp_path: Path) -> None:
    image = build(yard, "tiny-sentiment", "trace").record.reference
    artifact = extract(yard.engine, image, tmp_path)
    (artifact / "model.pt").write_bytes(b"no archive")
    faults.seal(artifact)
    done = yard.engine.run(image, "smoke-test", "--json", flags=(*ISOLATED, f"--volume={artifact}:/artifact:ro"))
    assert done.returncode == Exit.DAMAGED
    assert "libtorch cannot load it" in msgspec.json.decode(done.stdout, type=Report).checks[-1].detail
