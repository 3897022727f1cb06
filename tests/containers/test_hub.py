"""A model from a hub by id and revision; and the token that opened it, which nobody sees again."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from images import candidate
from images.config import ROOT
from tests.containers.yard import TARGET, Yard, invoke
from tests.hub import Hub

REPO = "acme/tiny-topics"
INDEX_PASSWORD = "index-password-of-the-tests"  # noqa: S105 - opens nothing


class Downloaded(NamedTuple):
    """A build from a gated repository, by its branch."""

    hub: Hub
    commit: str
    tag: str
    cache: Path
    done: "subprocess.CompletedProcess[str]"

    @property
    def record(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(self.done.stdout)
        return known


@pytest.fixture(scope="module")
def downloaded(yard: Yard, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Downloaded]:
    yard.tiny("tiny-topics")  # every wheel is in the cache from here on: no index is asked, whatever it is set to
    secrets = {
        "PIP_INDEX_URL": f"http://user:{INDEX_PASSWORD}@127.0.0.1:9/simple",
        "MODELYARD_API_KEY": INDEX_PASSWORD,
    }
    cache = tmp_path_factory.mktemp("hub")
    with Hub() as hub:
        commit = hub.publish(REPO, yard.model("tiny-topics"), gated=True)
        place = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_TOKEN": hub.token}
        tag = yard.tag("hub")
        argv = ("build", f"--target={TARGET}", f"--model={REPO}@main", f"--tag={tag}", "--json")
        yield Downloaded(hub, commit, tag, cache, invoke(home, *argv, env={**secrets, **place}))


def test_a_branch_becomes_the_commit_that_the_record_holds(downloaded: Downloaded) -> None:
    assert downloaded.done.returncode == 0, downloaded.done.stderr
    model = downloaded.record["info"]["manifest"]["model"]
    assert (model["id"], model["source"], model["revision"]) == (REPO, "hub", downloaded.commit)


def test_the_image_says_which_commit_it_was_made_of(yard: Yard, downloaded: Downloaded) -> None:
    image = yard.engine.image(downloaded.tag)
    assert image
    assert image.labels["org.opencontainers.image.version"] == downloaded.commit


def test_the_same_commit_needs_no_hub(home: Path, downloaded: Downloaded) -> None:
    asked = len(downloaded.hub.requests)
    argv = ("build", f"--target={TARGET}", f"--model={REPO}@{downloaded.commit}", f"--tag={downloaded.tag}")
    done = invoke(home, *argv, env={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(downloaded.cache)})
    assert done.returncode == 0, done.stderr
    assert "nothing was built" in done.stdout
    assert len(downloaded.hub.requests) == asked


def test_a_missing_revision_is_refused(home: Path, downloaded: Downloaded, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": downloaded.hub.url, "HF_HOME": str(tmp_path), "HF_TOKEN": downloaded.hub.token}
    done = invoke(home, "build", f"--target={TARGET}", f"--model={REPO}@v9", env=env)
    assert done.returncode == 3
    assert "v9" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_secret_and_no_path_of_this_machine_is_in_the_image(yard: Yard, downloaded: Downloaded) -> None:
    with yard.engine.files(downloaded.tag) as files:
        for member in files:
            if content := files.extractfile(member) if member.isfile() else None:
                assert _private(yard, downloaded, content.read()) == [], member.name


def test_no_secret_and_no_path_of_this_machine_is_in_the_images_configuration(
    yard: Yard, downloaded: Downloaded
) -> None:
    inspect, history = ("inspect", "--format={{json .Config}}"), ("history", "--no-trunc")
    told = "".join(yard.engine._succeed(*argv, downloaded.tag) for argv in (inspect, history))
    assert REPO in told
    assert _private(yard, downloaded, told.encode()) == []


def test_no_secret_and_no_path_of_this_machine_is_in_the_record(yard: Yard, downloaded: Downloaded) -> None:
    assert _private(yard, downloaded, downloaded.done.stdout.encode()) == []


def test_no_secret_is_in_the_log(yard: Yard, downloaded: Downloaded) -> None:
    log = candidate.log_file(yard.config, downloaded.tag).read_bytes()
    assert b"images.inside.reference" in log
    assert not {downloaded.hub.token, INDEX_PASSWORD} & set(_private(yard, downloaded, log))


def _private(yard: Yard, downloaded: Downloaded, content: bytes) -> list[str]:
    """What should not be there of what is."""
    secret = (downloaded.hub.token, INDEX_PASSWORD)
    places = (ROOT, yard.config.cache, yard.folder.parent)
    return [word for word in (*secret, *map(str, places)) if word.encode() in content]
