from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from images import hub as door
from images import model
from images.errors import UnreachableError, UsageError
from images.selection import Criteria
from tests.checkpoints import BERT, MODULES, TASKS, paths, refused, resolve, write
from tests.hub import Hub


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(running: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    running.requests.clear()
    running.refused.clear()
    running.stalled.clear()
    use(running.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return running


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")


def test_a_branch_is_resolved_to_its_commit(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/branch", folder)
    facts = resolve("org/branch", cache).facts
    assert (facts.id, facts.source, facts.revision) == ("org/branch", "hub", sha)


def test_a_moved_branch_is_a_new_commit(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/moved", folder)
    first = resolve("org/moved@main", cache).facts
    sha = hub.publish("org/moved", write(folder, {"model.safetensors": 2}))
    second = resolve("org/moved@main", cache).facts
    assert second.revision == sha
    assert second.digest != first.digest


def test_a_tag_is_resolved_to_its_commit(folder: Path, tmp_path: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/tagged", folder, tag="v1.0")
    hub.publish("org/tagged", write(tmp_path / "new", {"config.json": BERT}))
    assert resolve("org/tagged@v1.0", cache).facts.revision == sha


def test_the_files_of_the_hub_are_those_of_the_folder(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/same", folder)
    assert resolve("org/same", cache).facts.digest == resolve(folder, cache).facts.digest


def test_only_the_needed_files_are_downloaded(folder: Path, cache: Path, hub: Hub) -> None:
    write(
        folder, {"modules.json": MODULES, "1_Pooling/config.json": {}, "onnx/model.onnx": "x", "pytorch_model.bin": "x"}
    )
    hub.publish("org/lean", folder)
    found = resolve("org/lean", cache)
    assert {"1_Pooling/config.json", "model.safetensors"} < set(paths(found))
    assert not [line for line in hub.requests if "onnx" in line or ".bin" in line]


def test_a_sketch_downloads_no_weights_and_knows_their_size(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/sketched", folder)
    found = model.sketch("org/sketched", Criteria(), cache=cache)
    assert (found.revision, found.config) == (sha, BERT)
    assert found.weights == (folder / "model.safetensors").stat().st_size
    assert not [line for line in hub.requests if "safetensors" in line]


def test_what_was_sketched_can_be_built(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/sketched-first", write(folder, {"model.safetensors": 3}))
    model.sketch("org/sketched-first", Criteria(), cache=cache)
    assert "model.safetensors" in paths(resolve(f"org/sketched-first@{sha}", cache))


def test_a_commit_that_was_sketched_needs_no_network(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/sketched-twice", folder)
    first = model.sketch(f"org/sketched-twice@{sha}", Criteria(), cache=cache)
    hub.requests.clear()
    assert model.sketch(f"org/sketched-twice@{sha}", Criteria(), cache=cache) == first
    assert hub.requests == []


def test_the_files_can_be_hard_linked(folder: Path, tmp_path: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/links", folder)
    found = resolve("org/links", cache)
    (tmp_path / "copy").hardlink_to((found.folder / "model.safetensors").resolve())
    assert not (tmp_path / "copy").is_symlink()


def test_a_commit_in_the_cache_needs_no_network(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/cached", folder)
    first = resolve(f"org/cached@{sha}", cache)
    hub.requests.clear()
    assert resolve(f"org/cached@{sha}", cache) == first
    assert hub.requests == []


def test_an_interrupted_download_is_not_taken_for_a_model(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/half", folder)
    hub.refused.add("tokenizer.json")
    assert "HTTP 403" in refused(f"org/half@{sha}", cache)
    hub.refused.clear()
    assert "tokenizer.json" in paths(resolve(f"org/half@{sha}", cache))


def test_a_damaged_file_in_the_hub_cache_is_named(folder: Path, cache: Path, hub: Hub) -> None:
    sha = hub.publish("org/damaged", folder)
    file = (resolve(f"org/damaged@{sha}", cache).folder / "model.safetensors").resolve()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "model.safetensors is not what the hub has" in refused(f"org/damaged@{sha}", cache)


def test_an_unknown_repository_may_need_a_token(cache: Path, hub: Hub) -> None:
    said = refused("org/unknown", cache)
    assert "HF_TOKEN" in said
    assert hub.url in said


def test_an_unknown_revision_lists_those_that_exist(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/revisions", folder, tag="v1.0")
    assert "it has main, v1.0" in refused("org/revisions@v2.0", cache)


def test_an_unknown_commit_is_refused(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/commits", folder)
    assert "no revision" in refused(f"org/commits@{'0' * 40}", cache)


def test_a_gated_model_needs_a_token(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/gated", folder, gated=True)
    assert "gated" in refused("org/gated", cache)


@pytest.mark.parametrize("kind", ["gated", "private"])
def test_a_token_opens_the_model(
    folder: Path, cache: Path, hub: Hub, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = hub.publish(f"org/open-{kind}", folder, **{kind: True})  # type: ignore[arg-type]
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert resolve(f"org/open-{kind}", cache).facts.revision == sha


def test_a_model_of_the_hub_is_refused_before_its_weights_are_downloaded(folder: Path, cache: Path, hub: Hub) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.publish("org/pickle", folder)
    assert "--allow-pickle" in refused("org/pickle", cache)
    assert not [line for line in hub.requests if ".bin" in line]


def test_an_unreachable_hub_says_what_needs_none(
    folder: Path, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = hub.publish("org/offline", folder)
    resolve("org/offline", cache)
    use("http://me:secret@127.0.0.1:9", monkeypatch)
    said = refused("org/offline", cache, UnreachableError)
    assert "HF_ENDPOINT=http://****@127.0.0.1:9" in said
    assert f"the cache holds org/offline@{sha}" in said
    assert "secret" not in said


def test_progress_is_reported_in_lines(folder: Path, cache: Path, hub: Hub) -> None:
    hub.publish("org/progress", folder)
    lines: list[str] = []
    model.resolve("org/progress", Criteria(tasks=TASKS), cache=cache, report=lines.append)
    assert lines[-1].startswith("downloaded 100 %")


def test_a_model_for_another_task_is_refused_before_its_weights_are_downloaded(
    folder: Path, cache: Path, hub: Hub
) -> None:
    hub.publish("org/other", folder)
    refused("org/other", cache, UsageError, tasks=("fill-mask",))
    assert not [line for line in hub.requests if "safetensors" in line]


def test_a_hub_that_does_not_list_revisions_in_time_is_not_waited_for(
    folder: Path, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("org/silent", folder)
    hub.stalled.add("refs")
    monkeypatch.setattr(door, "TIMEOUT", 0.2)
    assert "org/silent has no revision 'v2'\n" in refused("org/silent@v2", cache)


def test_a_list_of_files_that_does_not_come_in_time_is_asked_for_again(
    folder: Path, cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("org/slow", folder)
    hub.stalled.add("tree")
    monkeypatch.setattr(door, "TIMEOUT", 0.2)
    resolve("org/slow", cache)
    assert len([line for line in hub.requests if "/tree/" in line]) == 2
