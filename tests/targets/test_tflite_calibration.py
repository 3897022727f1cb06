"""What every length is asked while its scales are measured: the user's texts that fit into it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from images.inside.contract import Item
from targets.tflite import calibration
from tests.inside import artifacts, serving, tiny

Asked = Callable[..., calibration.Inputs]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """The inputs for lengths, of texts: a word a token, and two special ones."""

    def make(lengths: list[int], *texts: str) -> calibration.Inputs:
        given = artifacts.exporting(tmp_path)
        given.told.mkdir()
        lines = [json.dumps({"inputs": text}) for text in texts]
        (given.told / "calibration.jsonl").write_text("\n".join(lines))
        return calibration.inputs(given, serving.manifest(), lengths)

    return make


def test_a_text_is_asked_at_every_length_that_holds_it(asked: Asked) -> None:
    found = asked([4, 8], "one two", "one two three")
    assert {name: [int(each["attention_mask"].sum()) for each in rows] for name, rows in found.items()} == {
        "tokens_4": [4],
        "tokens_8": [4, 5],
    }


def test_a_text_that_the_model_does_not_take_is_left_out(asked: Asked) -> None:
    found = asked([16], "one two", "one " * 100)
    assert len(found["tokens_16"]) == 1


def test_a_length_that_no_text_fits_into_is_refused_by_name(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        asked([4, 8], "one two three")
    told = json.loads(capsys.readouterr().err.partition(" ")[2])
    assert "no line of --calibration has at most 4 tokens" in told["what"]
    assert "leave 4 out of --seq-len" in told["hint"]


@pytest.mark.parametrize(("side", "ids"), [("right", [5, 6, 9, 9]), ("left", [9, 9, 5, 6])])
def test_what_a_length_has_beyond_a_text_is_padding_on_the_models_side(side: str, ids: list[int]) -> None:
    facts = tiny.manifest(pad_token_id=9, padding_side=side)
    (row,) = calibration.placed([Item((5, 6), (0, 0))], [4], facts)["tokens_4"]
    assert row["input_ids"].tolist() == [ids]
