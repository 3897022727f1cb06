"""The parts of executorch-xnnpack that need no ExecuTorch: what goes into a program, and what comes of its outputs."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from images import spec
from images.inside.contract import Exporting
from images.inside.errors import ArtifactError
from images.inside.records import ImageFacts
from targets.executorch_xnnpack import (
    activations,
    apps,
    export_encoder,
    export_generation,
    generate,
    program,
    quantize,
    run,
)
from targets.executorch_xnnpack.program import ProgramError
from tests.inside import seeing, serving

TARGET = spec.load("executorch-xnnpack")


class Echo:
    """A program that says its input again: a row a token, and one vector of the text."""

    inputs = ("input_ids", "token_type_ids")
    outputs = ("tokens", "vector")

    def __init__(self) -> None:
        self.ran: list[list[Any]] = []

    def run(self, inputs: Sequence[Any]) -> dict[str, Any]:
        self.ran.append([array.tolist() for array in inputs])
        ids = inputs[0].astype(np.float16)
        return {"tokens": np.stack([ids, ids], axis=-1), "vector": ids[:, :1].repeat(3, axis=1)}


class Counter:
    """A program with a cache of eight tokens: its logits say the last token and its position."""

    def __init__(self, context: int = 8) -> None:
        self.context = context
        self.ran: list[tuple[list[int], list[int]]] = []

    def run(self, inputs: Sequence[Any]) -> dict[str, Any]:
        ids, positions = inputs
        self.ran.append((ids[0].tolist(), positions.tolist()))
        return {"logits": np.array([[[ids[0, -1], positions[-1]]]], np.float32)}

    def number(self, method: str) -> int:
        if self.context < 0:
            raise ProgramError(f"35 Error::InvalidProgram: no {method}")
        return self.context


def batch(*rows: list[int], left: bool = False) -> dict[str, Any]:
    longest = max(map(len, rows))
    ids, mask = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
    for row, tokens in enumerate(rows):
        real = slice(longest - len(tokens), longest) if left else slice(0, len(tokens))
        ids[row, real], mask[row, real] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.ones_like(ids)}


# Encoders


def test_each_row_runs_alone_and_without_padding() -> None:
    echo = Echo()
    run.ExecuTorchRunner(echo, {}).predict(batch([7, 8, 9], [5]))  # type: ignore[arg-type]
    assert echo.ran == [[[[7, 8, 9]], [[1, 1, 1]]], [[[5]], [[1]]]]


@pytest.mark.parametrize("left", [False, True])
def test_what_belongs_to_a_token_comes_back_where_the_token_is(left: bool) -> None:
    given = batch([7, 8, 9], [5, 6], left=left)
    outputs = run.ExecuTorchRunner(Echo(), {}).predict(given)  # type: ignore[arg-type]
    assert outputs["tokens"].dtype == np.float32
    assert (outputs["tokens"][..., 0] == given["input_ids"]).all()


def test_what_belongs_to_a_text_is_one_row_a_text() -> None:
    outputs = run.ExecuTorchRunner(Echo(), {}).predict(batch([7, 8, 9], [5, 6]))  # type: ignore[arg-type]
    assert outputs["vector"].tolist() == [[7, 7, 7], [5, 5, 5]]


# Pictures


class Brightness:
    """A program that says how bright a picture is."""

    inputs, outputs = ("pixel_values",), ("logits",)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Sequence[Any]) -> dict[str, Any]:
        self.shapes.append(inputs[0].shape)
        return {"logits": inputs[0].mean(axis=(2, 3))}


def test_each_picture_runs_alone() -> None:
    program, pixels = Brightness(), np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    outputs = run.PictureRunner(program, {}).predict({"pixel_values": pixels})  # type: ignore[arg-type]
    assert program.shapes == [(1, 3, 4, 4)] * 2
    assert outputs["logits"].tolist() == pixels.mean(axis=(2, 3)).tolist()


@pytest.mark.parametrize(("image", "kind"), [(None, run.ExecuTorchRunner), (seeing.FACTS, run.PictureRunner)])
def test_what_a_program_is_given_is_what_the_manifest_says(
    image: ImageFacts | None, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "load", lambda *_: Echo())
    manifest = msgspec.structs.replace(serving.manifest(), image=image)
    assert type(run.load(Path("artifact"), manifest, 1)) is kind


# Decoders


def decoder(counter: Counter) -> generate.Decoder:
    return generate.Decoder(counter, 8, 2, {"threads": "1"})  # type: ignore[arg-type]


def test_tokens_are_fed_behind_those_before_them() -> None:
    counter = Counter()
    ours = decoder(counter)
    ours.prefill(0, [3, 4])
    assert ours.prefill(0, [5]).tolist() == [5, 2]
    assert ours.decode([0], [6]).tolist() == [[6, 3]]
    assert counter.ran == [([3, 4], [0, 1]), ([5], [2]), ([6], [3])]
    assert ours.length(0) == 4


def test_a_released_sequence_is_written_over() -> None:
    ours = decoder(Counter())
    ours.prefill(0, [3, 4])
    ours.release(0)
    assert ours.length(0) == 0
    assert ours.prefill(0, [5]).tolist() == [5, 0]


def test_a_long_prompt_is_read_in_parts() -> None:
    counter = Counter()
    assert decoder(counter).prefill(0, [1, 2, 3]).tolist() == [3, 2]
    assert counter.ran == [([1, 2], [0, 1]), ([3], [2])]


@pytest.mark.parametrize(("context", "what"), [(4, "has room for 4 tokens"), (-1, "35 Error::InvalidProgram")])
def test_a_cache_that_is_smaller_than_the_manifest_says_is_damage(
    context: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "load", lambda *_: Counter(context))
    with pytest.raises(ArtifactError, match=what):
        generate.load(Path("artifact"), serving.manifest(), 1, 8)


# The way to C


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.float32])
def test_a_tensor_is_a_view_of_its_array(dtype: Any) -> None:
    array = np.arange(6, dtype=dtype).reshape(1, 2, 3)
    tensor = program._tensor(array)
    view = program._array(tensor)
    assert (view.shape, view.dtype) == (array.shape, array.dtype)
    array[0, 1, 2] = 9
    assert (view == array).all()


# Modes and apps


def test_every_mode_has_a_recipe_and_so_has_every_refused_one() -> None:
    assert {mode.name for mode in TARGET.modes} | TARGET.refused.keys() == quantize.RECIPES.keys()


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": []}, "model": 1}, {"normalizer": None, "model": 1}),
        ({"normalizer": {"type": "NFC"}}, {"normalizer": {"type": "NFC"}}),
        ({"normalizer": None}, {"normalizer": None}),
        ({}, {}),
    ],
)
def test_only_a_normalizer_that_does_nothing_is_left_out(given: dict[str, Any], made: dict[str, Any]) -> None:
    assert apps.normalised(given) == made


def test_an_app_for_pictures_gets_how_they_are_prepared_and_no_tokenizer(tmp_path: Path) -> None:
    model, out, work = (tmp_path / name for name in ("model", "out", "work"))
    for folder in (model, out, work):
        folder.mkdir()
    (model / "preprocessor_config.json").write_text('{"size": 224}')
    assert apps.write(Exporting(model, out, work, None, None, None)) == {}  # type: ignore[arg-type]
    assert [file.name for file in out.iterdir()] == ["preprocessor_config.json"]


def test_a_model_for_speech_is_refused_with_the_way_on() -> None:
    assert "optimum-cli export executorch" in TARGET.refused_tasks["automatic-speech-recognition"]


class Numbers(np.ndarray[Any, np.dtype[np.float64]]):
    """An array with what a tensor does by itself."""

    def sigmoid(self) -> Any:
        """Between 0 and 1."""
        return 1 / (1 + np.exp(-self))


def test_gelus_approximation_is_what_the_operator_computes() -> None:
    values = np.linspace(-8, 8, 101)
    expected = 0.5 * values * (1 + np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)))
    assert np.abs(np.asarray(activations.gelu(values.view(Numbers))) - expected).max() < 1e-12


def test_it_is_written_out_wherever_it_is_used() -> None:
    transformers_own = SimpleNamespace(act=partial(np.tanh, approximate="tanh"))
    pytorchs = SimpleNamespace(approximate="tanh", forward=None)
    exact = SimpleNamespace(approximate="none", forward=None)
    other = SimpleNamespace(act=np.tanh)
    activations.write_out(SimpleNamespace(modules=lambda: [transformers_own, pytorchs, exact, other]))
    assert (transformers_own.act, pytorchs.forward) == (activations.gelu, activations.gelu)
    assert (exact.forward, other.act) == (None, np.tanh)


@pytest.mark.parametrize(
    ("window", "kinds", "refused"), [(32, None, True), (64, None, False), (None, None, False), (32, ["sliding"], False)]
)
def test_a_window_that_is_shorter_than_a_sequence_is_refused_where_every_layer_has_it(
    window: int | None, kinds: list[str] | None, refused: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SimpleNamespace(sliding_window=window, layer_types=kinds)
    with pytest.raises(SystemExit) if refused else nullcontext():
        export_generation._require_window(config, {"get_max_seq_len": 64})
    assert ("give --max-length 32" in capsys.readouterr().err) == refused


class Layers:
    """A network with an attention in each of two layers, of which the second says itself what it is."""

    def __init__(self, *kinds: str) -> None:
        self.config = SimpleNamespace(layer_types=[*kinds] or None)
        self.layers = [SimpleNamespace(layer_idx=0), SimpleNamespace(layer_idx=1, is_sliding="its own word")]

    def modules(self) -> list[Any]:
        """All of them."""
        return [self, *self.layers]

    def forward(self, ids: str, logits_to_keep: int = 0) -> tuple[str, int]:
        """What it was given."""
        return ids, logits_to_keep


class Base:
    """The inner network of one that does not tell its attention where its tokens are."""

    def forward(self, ids: str, **told: Any) -> Any:
        """What goes on to its attention."""
        return ids, told


def test_a_network_tells_its_attention_where_its_tokens_are() -> None:
    told = export_generation._telling(Base)().forward("a", cache_position=np.array([3, 4]))[1]
    assert told["places"].tolist() == [[3, 4]]


@pytest.mark.parametrize(("positions", "taken"), [("positions", "positions"), (None, "places")])
def test_attention_takes_places_where_it_is_given_no_positions(positions: str | None, taken: str) -> None:
    attention = export_generation.taking(lambda *given, **_: given)
    given = attention("module", "query", "key", "value", "mask", positions, "scaling", places="places")
    assert given == ("module", "query", "key", "value", "mask", taken, "scaling")


@pytest.mark.parametrize(
    ("kinds", "said"), [(["sliding_attention"] * 2, True), (["full_attention"] * 2, False), ([], None)]
)
def test_an_attention_that_does_not_say_whether_it_has_a_window_says_it(kinds: list[str], said: bool | None) -> None:
    network = Layers(*kinds)
    export_generation._tell_windows(network)
    assert [getattr(layer, "is_sliding", None) for layer in network.layers] == [said, "its own word"]


def test_logits_are_asked_for_behind_the_last_token_only() -> None:
    assert export_generation._of_last(Layers)().forward(ids="a", logits_to_keep=0) == ("a", 1)


def test_rotary_positions_stay_those_of_short_sequences() -> None:
    kinds = ["longrope", "yarn", "default"]
    modules = [SimpleNamespace(), *(SimpleNamespace(rope_type=kind) for kind in kinds)]
    export_generation._settle_positions(SimpleNamespace(modules=lambda: modules))
    assert [module.rope_type for module in modules[1:]] == ["default", "yarn", "default"]


@pytest.mark.parametrize("cap", [50.0, None])
def test_scores_that_are_capped_are_refused(cap: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    config = SimpleNamespace(model_type="gemma2", attn_logit_softcapping=cap)
    with pytest.raises(SystemExit) if cap else nullcontext():
        export_generation._require_plain_scores(config)
    assert ("(gemma2) caps its attention's scores at 50" in capsys.readouterr().err) == bool(cap)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors by numpy."""
    module: Any = ModuleType("torch")
    module.tensor, module.ones_like, module.allclose, module.no_grad = np.array, np.ones_like, np.allclose, nullcontext
    monkeypatch.setitem(sys.modules, "torch", module)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(("padding", "reads"), [(7, True), (99, False)])
def test_a_network_that_takes_a_token_of_the_tokenizer_for_padding_is_seen(
    padding: int, reads: bool, tmp_path: Path
) -> None:
    def network(input_ids: Any, attention_mask: Any = None) -> dict[str, Any]:
        mask = input_ids != padding if attention_mask is None else attention_mask
        return {"logits": (input_ids * mask).sum(axis=1)}

    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 7, "content": "</s>"}]}')
    given = Exporting(tmp_path, tmp_path, tmp_path, tmp_path, None, None)  # type: ignore[arg-type]
    assert export_encoder._reads_padding(network, given, 64) == reads


def made_from(least: int, lengths: list[int]) -> int:
    def make(length: int) -> int:
        if length < least:
            raise ValueError(f"not for {length}")
        return length

    return int(export_encoder.first(lengths, make))


def test_a_program_is_made_for_the_shortest_texts_that_it_can_be_made_for() -> None:
    assert [made_from(least, [2, 3, 8]) for least in (1, 3, 4)] == [2, 3, 8]


def test_a_network_that_fits_no_length_is_told_with_its_last_error() -> None:
    with pytest.raises(ValueError, match="not for 8"):
        made_from(9, [2, 3, 8])
