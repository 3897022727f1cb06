from dataclasses import replace
from pathlib import Path

import pytest

from images import clean, engines
from tests.host import samples
from tests.host.samples import FakeEngine


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(FakeEngine, "prune", lambda _: calls.append("prune"))
    monkeypatch.setattr(FakeEngine, "images", lambda *_: ["a:b"], raising=False)
    monkeypatch.setattr(FakeEngine, "remove", lambda _, image: calls.append(f"remove {image}"))
    return calls


def test_a_users_own_engine_is_not_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruned: list[str]) -> None:
    config = samples.config(tmp_path / "cache")
    monkeypatch.setattr(engines, "find", lambda _: FakeEngine())
    clean.run(config, tmp_path / "dist", everything=False, say=lambda _: None)
    assert pruned == []


def test_our_own_engine_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruned: list[str]) -> None:
    config = samples.config(tmp_path / "cache")
    ours = replace(FakeEngine(), environment={"DOCKER_HOST": f"unix://{engines.socket(config)}"})
    monkeypatch.setattr(engines, "find", lambda _: ours)
    clean.run(config, tmp_path / "dist", everything=False, say=lambda _: None)
    assert pruned == ["prune"]


def test_logs_and_build_folders_go_and_wheels_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = samples.config(tmp_path / "cache")
    for folder in ("logs", "builds", "wheels"):
        (config.cache / folder).mkdir(parents=True)
    monkeypatch.setattr(engines, "find", lambda _: None)
    clean.run(config, tmp_path / "dist", everything=False, say=lambda _: None)
    assert [path.name for path in config.cache.iterdir()] == ["wheels"]


def test_everything_takes_the_images_the_cache_and_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruned: list[str]
) -> None:
    config = samples.config(tmp_path / "cache")
    for folder in (config.cache / "wheels", tmp_path / "dist"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(engines, "find", lambda _: FakeEngine())
    clean.run(config, tmp_path / "dist", everything=True, say=lambda _: None)
    assert "remove a:b" in pruned
    assert not config.cache.exists()
    assert not (tmp_path / "dist").exists()
