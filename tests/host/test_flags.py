from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invoke.tasks import Task

from images import flags
from images.spec import Option


@dataclass(frozen=True)
class Wishes:
    cpu: str = "2"
    replicas: int = 1


LENGTHS = Option(summary="lengths to compile for")
FIXED = Option(summary="one shape only", default=False)
FLAGS = {"seq-len": {"one": LENGTHS, "two": Option(summary="the length")}, "fixed": {"two": FIXED}}


def command(seen: list[Any]) -> Any:
    @flags.added(FLAGS)
    def build(_context: Any, target: str = "", extra: Any = None) -> None:
        seen.extend([target, extra])

    return build


def test_a_command_takes_the_flags_of_every_target() -> None:
    kinds = {argument.name: argument.kind for argument in Task(command([])).get_arguments()}
    assert kinds == {"target": str, "seq_len": str, "fixed": bool}


def test_a_command_gets_what_was_given_by_the_flags_own_names() -> None:
    seen: list[Any] = []
    command(seen)(None, target="one", seq_len="32,64", fixed=True)
    assert seen == ["one", {"seq-len": "32,64", "fixed": True}]


def test_flags_that_were_left_out_are_not_handed_on() -> None:
    seen: list[Any] = []
    command(seen)(None, seq_len="", fixed=False)
    assert seen == ["", {}]


def test_the_help_of_a_flag_names_the_targets_that_take_it() -> None:
    assert flags.helps(FLAGS)["seq-len"] == "one: lengths to compile for; two: the length"


def test_the_flags_of_targets_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "targets/some_cpu"
    folder.mkdir(parents=True)
    (folder / "target.toml").write_text(
        'summary = "s"\nplatforms = ["linux/amd64"]\nsize_budget_mib = 1\n'
        '[[places]]\nname = "server-cpu"\nreason = "r"\n'
        '[[modes]]\nname = "none"\ntasks = ["fill-mask"]\nexporter = "one"\nbounds = { agreement = 1.0 }\n'
        '[options.fixed]\nsummary = "one shape only"\ndefault = false\n'
    )
    assert flags.declared(tmp_path) == {"fixed": {"some-cpu": FIXED}}


def test_a_target_whose_facts_are_wrong_has_no_flags(tmp_path: Path) -> None:
    (tmp_path / "targets/broken").mkdir(parents=True)
    (tmp_path / "targets/broken/target.toml").write_text("[")
    assert flags.declared(tmp_path) == {}


def wishing(seen: list[Any]) -> Any:
    @flags.fields(Wishes, "wishes")
    def deploy(_context: Any, image: str = "", wishes: Wishes = Wishes()) -> None:
        seen.extend([image, wishes])

    return deploy


def test_a_command_takes_the_fields_of_a_record() -> None:
    kinds = {argument.name: argument.kind for argument in Task(wishing([])).get_arguments()}
    assert kinds == {"image": str, "cpu": str, "replicas": int}


def test_a_command_gets_the_record_with_what_was_given() -> None:
    seen: list[Any] = []
    wishing(seen)(None, image="i", replicas=3)
    assert seen == ["i", Wishes(replicas=3)]
