"""Which targets suit a model and a wish: their order, their modes, what is refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from images import recommend
from images.errors import UsageError
from images.inside.records import Bounds
from images.model import Sketch
from images.recommend import Advice, Choice, Wanted
from images.spec import Mode, Option, Place, TargetSpec
from tests.host import samples

CONFIG = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "max_position_embeddings": 512}
SERVER, PHONE = Place(name="server", reason="it is fast"), Place(name="phone", reason="it is small")
MIB = 1 << 20


def sketch(config: Mapping[str, Any] = CONFIG, **changes: Any) -> Sketch:
    facts = {"id": "acme/tiny", "source": "hub", "revision": "c0ffee", "task": "fill-mask", "weights": 4 * MIB}
    return Sketch(config=config, **{**facts, **changes})


def target(name: str, *places: Place, **changes: Any) -> TargetSpec:
    return samples.target(name=name, places=places or (SERVER,), **changes)


def fallback(place: Place) -> Place:
    return msgspec.structs.replace(place, fallback=True)


def modes(**changes: Any) -> tuple[Mode, ...]:
    """One mode of the samples, changed."""
    return (msgspec.structs.replace(samples.target().modes[0], **changes),)


def advised(*targets: TargetSpec, model: Sketch | None = None, place: str = "server", task: str = "") -> Advice:
    wanted = Wanted(model="acme/tiny", task=task, place=place)
    return recommend.make(targets, model or sketch(), wanted)


def order(*targets: TargetSpec) -> Sequence[str]:
    return [choice.target for choice in advised(*targets).places["server"]]


def only(*targets: TargetSpec, **asked: Any) -> Choice:
    (choice,) = advised(*targets, **asked).places["server"]
    return choice


# Order


def test_the_smaller_image_comes_first() -> None:
    assert order(target("large", size_budget_mib=9), target("small", size_budget_mib=1)) == ["small", "large"]


def test_what_is_made_for_the_place_comes_before_what_is_smaller() -> None:
    assert order(target("small", PHONE, fallback(SERVER)), target("large", size_budget_mib=9)) == ["large", "small"]


def test_what_upstream_gives_up_comes_after_what_is_larger() -> None:
    old = target("old", modes=modes(deprecated="given up: take new"))
    assert order(old, target("new", size_budget_mib=9)) == ["new", "old"]


def test_a_target_with_another_living_exporter_is_not_given_up() -> None:
    both = target("both", modes=(*modes(deprecated="given up", exporter="old"), *modes(exporter="new")))
    assert order(both, target("large", size_budget_mib=9)) == ["both", "large"]


def test_what_was_tried_with_other_kinds_of_models_comes_last() -> None:
    narrow = target("narrow", modes=modes(tried=("gpt2",)))
    assert order(narrow, target("any", fallback(SERVER), size_budget_mib=9)) == ["any", "narrow"]


def test_an_exporter_that_was_tried_with_the_models_kind_is_as_good_as_one_that_takes_all() -> None:
    assert order(target("narrow", modes=modes(tried=("bert",))), target("any", size_budget_mib=9)) == ["narrow", "any"]


def test_without_a_wish_every_place_has_its_list() -> None:
    places = advised(target("a"), target("b", PHONE, fallback(SERVER)), place="").places
    assert {place: [choice.target for choice in choices] for place, choices in places.items()} == {
        "phone": ["b"],
        "server": ["a", "b"],
    }


# Modes


def test_a_mode_has_the_flags_that_choose_it_and_no_more() -> None:
    made = (*modes(exporter="one"), *modes(exporter="two"), *modes(name="int8", exporter="two"))
    assert [offer.flags for offer in only(target("a", modes=made)).offers] == ["", "--exporter two", "--quantize int8"]


def test_a_mode_says_which_file_it_asks_for() -> None:
    (offer,) = only(target("a", modes=modes(needs=("texts",)))).offers
    assert offer.flags == "--texts FILE"


def test_a_mode_that_upstream_gives_up_is_offered_after_the_others() -> None:
    choice = only(target("a", modes=(*modes(exporter="old", deprecated="take new"), *modes(exporter="new"))))
    assert [offer.deprecated for offer in choice.offers] == ["", "take new"]
    assert choice.command.endswith(" --exporter new")


def test_only_the_modes_of_the_models_task_are_offered() -> None:
    made = (*modes(), *modes(name="int8", tasks=("text-classification",)))
    assert [offer.mode for offer in only(target("a", modes=made)).offers] == ["none"]


def test_a_mode_says_what_the_gate_holds_it_to() -> None:
    (offer,) = only(target("a", modes=modes(bounds=Bounds(cosine=0.9)))).offers
    assert offer.bounds == {"cosine": 0.9}


@pytest.mark.parametrize(
    ("bits", "config", "expected"),
    [
        (32, {}, 4 * MIB),
        (8, {}, MIB),
        (8, {"dtype": "bfloat16"}, 2 * MIB),
        (8, {"torch_dtype": "float16"}, 2 * MIB),
        (0, {"dtype": "bfloat16"}, 4 * MIB),
        (8, {"quantization_config": {"bits": 4}}, 0),
        (0, {"quantization_config": {"bits": 4}}, 4 * MIB),
        (8, {"dtype": "auto"}, 0),
    ],
)
def test_the_weights_of_an_artifact_follow_from_their_number_and_its_bits(
    bits: int, config: Mapping[str, Any], expected: int
) -> None:
    (offer,) = only(target("a", modes=modes(bits=bits)), model=sketch({**CONFIG, **config})).offers
    assert offer.weights == expected


@pytest.mark.parametrize("bits", [0, 8])
def test_a_gguf_file_does_not_say_how_many_weights_it_has(bits: int) -> None:
    (offer,) = only(target("a", modes=modes(bits=bits)), model=sketch({})).offers
    assert offer.weights == 0


def test_a_gguf_file_does_not_say_its_kind_which_is_no_other_kind() -> None:
    (offer,) = only(target("a", modes=modes(tried=("gpt2",))), model=sketch({})).offers
    assert not offer.untried


# Limits


def test_a_targets_cap_is_told_where_it_is_below_the_models_own() -> None:
    assert only(target("a", max_length=128)).tokens == 128


def test_a_flag_that_caps_inputs_is_told_by_its_default() -> None:
    capping = {"lengths": Option(summary="lengths", default="32,64", caps_length=True)}
    assert only(target("a", options=capping)).tokens == 64


@pytest.mark.parametrize("cap", [0, 512, 2048])
def test_a_cap_that_holds_nothing_back_is_not_told(cap: int) -> None:
    assert only(target("a", max_length=cap)).tokens == 0


@pytest.mark.parametrize("key", recommend.POSITIONS)
def test_the_models_own_limit_is_read_by_any_of_its_names(key: str) -> None:
    assert recommend.facts(sketch({key: 77})).tokens == 77


@pytest.mark.parametrize(
    ("limits", "tokens"), [([256], 256), ([10**30], 512), ([None, "many"], 512), ([384, 128], 128)]
)
def test_the_least_of_all_stated_limits_is_told(limits: list[Any], tokens: int) -> None:
    assert recommend.facts(sketch(limits=limits)).tokens == tokens


# Commands


def test_the_command_names_the_model_as_it_was_given_and_the_task_where_it_was() -> None:
    command = only(target("a"), task="fill-mask").command
    assert command == "invoke build --target a --model acme/tiny --task fill-mask"


def test_a_name_with_spaces_is_quoted() -> None:
    wanted = Wanted(model="my model", place="server")
    (choice,) = recommend.make([target("a")], sketch(), wanted).places["server"]
    assert choice.command == "invoke build --target a --model 'my model'"


# What does not suit


def test_other_targets_are_named_with_the_reason() -> None:
    others = advised(target("a"), target("b", PHONE), target("c", modes=modes(tasks=("text-generation",)))).others
    assert others == {"b": "is for phone", "c": "does not have fill-mask"}


def test_a_task_that_a_target_refuses_is_told_with_its_reason() -> None:
    refusing = target("b", refused_tasks={"speech": "nobody serves it yet"}, modes=modes(tasks=("text-generation",)))
    assert advised(target("a", modes=modes(tasks=("speech",))), refusing, model=sketch(task="speech")).others == {
        "b": "nobody serves it yet"
    }
    with pytest.raises(UsageError, match="no target has speech; b: nobody serves it yet"):
        advised(refusing, model=sketch(task="speech"))


def test_a_place_that_no_target_names_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no target is for 'moon'\n.*phone \(b\); server \(a, b\)"):
        advised(target("a"), target("b", PHONE, SERVER), place="moon")


def test_a_task_that_no_target_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no target has speech\n.*they have: text-classification, fill-mask"):
        advised(target("a"), model=sketch(task="speech"))


def test_a_task_that_no_target_of_the_place_has_is_refused_with_the_places_that_have_it() -> None:
    talking = target("b", PHONE, modes=modes(tasks=("text-generation",)))
    with pytest.raises(UsageError, match=r"no target for server has text-generation\n.*for: phone"):
        advised(target("a"), talking, model=sketch(task="text-generation"))
