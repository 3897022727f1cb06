from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import BERT, paths, refused, resolve, write


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config.json", BERT | {"auto_map": {"AutoModel": "modeling_x.XModel"}}, "modeling_x.py"),
        ("config.json", BERT | {"auto_map": {"AutoModel": "org/repo--modeling_x.XModel"}}, "org/repo--modeling_x.py"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "tok.X"]}}, "tok.py"),
        ("modules.json", [{"path": "", "type": "custom_st.Transformer"}], "custom_st.py"),
    ],
)
def test_remote_code_is_refused_by_its_files(folder: Path, cache: Path, file: str, content: Any, named: str) -> None:
    write(folder, {file: content})
    assert named in refused(folder, cache)


def test_remote_code_is_kept_when_it_is_trusted(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {"AutoModel": "modeling_x.XModel"}}, "modeling_x.py": ""})
    assert "modeling_x.py" in paths(resolve(folder, cache, trust_remote_code=True))


def test_trusted_code_of_another_repository_is_refused(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {"AutoModel": "org/repo--modeling_x.XModel"}}})
    assert "org/repo--modeling_x.py" in refused(folder, cache, trust_remote_code=True)


@pytest.mark.parametrize("named", ["AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoImageProcessor"])
def test_code_for_another_task_is_neither_refused_nor_kept(folder: Path, cache: Path, named: str) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {named: "modeling_x.XModel"}}, "modeling_x.py": ""})
    assert "modeling_x.py" not in paths(resolve(folder, cache))


@pytest.mark.parametrize("named", ["AutoConfig", "AutoTokenizer", "AutoModelForMaskedLM"])
def test_code_that_the_task_needs_is_refused_by_what_needs_it(folder: Path, cache: Path, named: str) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {named: "modeling_x.XModel"}}})
    assert f"modeling_x.py ({named})" in refused(folder, cache, task="fill-mask")


def test_all_code_counts_for_a_task_whose_class_is_not_known(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {"AutoModelForSomething": "modeling_x.XModel"}}})
    assert "modeling_x.py" in refused(folder, cache, task="cooking", tasks=("cooking",))


def test_the_refusal_says_what_the_host_cannot_know_and_names_the_flag(folder: Path, cache: Path) -> None:
    write(folder, {"config.json": BERT | {"auto_map": {"AutoModel": "modeling_x.XModel"}}})
    said = refused(folder, cache)
    assert "whether transformers has the model type 'bert' built in" in said
    assert "--trust-remote-code" in said


def test_a_module_of_a_models_own_is_built_into_nothing(folder: Path, cache: Path) -> None:
    write(folder, {"modules.json": [{"path": "", "type": "custom_st.Transformer"}]})
    said = refused(folder, cache)
    assert "a build would run it: custom_st.py (modules.json)" in said
    assert "--trust-remote-code" in said
