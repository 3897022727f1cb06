"""Shared by the tests of a cluster: which one, and what stands in it and beside it while they run."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

import pytest

from images.build import Built
from tests.cluster.site import SECRET, Site
from tests.containers import registries
from tests.containers.conftest import home, minilm, yard
from tests.containers.yard import Yard

__all__ = ["home", "minilm", "yard"]
PORT = 5010


class Decoy(ThreadingTCPServer):
    """The cluster of the current context: it counts who comes, and nobody should."""

    daemon_threads = True
    visits = 0

    class Visit(BaseRequestHandler):
        def handle(self) -> None:
            assert isinstance(self.server, Decoy)
            self.server.visits += 1

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Visit)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which cluster: see `invoke test --help`."""
    parser.addoption("--cluster", default="", help="a context of the kubeconfig")
    parser.addoption("--registry", default="", help="HOST:PORT of this machine, as the cluster's nodes reach it")


@pytest.fixture(scope="session")
def context(pytestconfig: pytest.Config) -> str:
    """A cluster to deploy to, by name."""
    name = str(pytestconfig.getoption("cluster"))
    if not name:
        pytest.skip("no cluster was named: invoke test --cluster CONTEXT")
    return name


@pytest.fixture(scope="session")
def there(pytestconfig: pytest.Config, context: str) -> str:
    """The registry as the nodes name it: this machine's address in the API server's direction, unless one is named."""
    if named := str(pytestconfig.getoption("registry")):
        return named
    server = urlsplit(kubectl("config", "view", "--minify", f"--context={context}", "--output=jsonpath={..server}"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((server.hostname, server.port or 443))
        address = str(probe.getsockname()[0])
    if address.startswith("127."):
        pytest.exit("nodes cannot reach this machine's loopback: add --registry HOST:PORT, an address that they can", 2)
    return f"{address}:{PORT}"


@pytest.fixture(scope="session")
def decoy() -> Iterator[Decoy]:
    """What listens where the current context leads."""
    with Decoy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="session")
def kubeconfig(context: str, decoy: Decoy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The named context, beside a current one that leads elsewhere."""
    found = json.loads(kubectl("config", "view", "--minify", "--flatten", f"--context={context}", "--output=json"))
    server = f"http://127.0.0.1:{decoy.server_address[1]}"
    found["clusters"].append({"name": "decoy", "cluster": {"server": server}})
    found["contexts"].append({"name": "decoy", "context": {"cluster": "decoy"}})
    file = tmp_path_factory.mktemp("kubeconfig") / "config"
    file.touch(0o600)
    file.write_text(json.dumps({**found, "current-context": "decoy"}))  # JSON is YAML
    return file


@pytest.fixture(scope="session")
def site(
    yard: Yard, home: Path, context: str, there: str, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A namespace under the restricted Pod Security Standard, and a registry with a password; gone at the end."""
    folder = tmp_path_factory.mktemp("registry")
    program = registries.tools(yard.config.cache) / "docker-registry"
    port = int(there.rpartition(":")[2])
    with registries.running(program, "127.0.0.1", folder, secure=False, port=port, everywhere=True) as registry:
        environment = registries.login(registry, folder / "login", registries.PASSWORD, there)
        made = Site(
            yard=yard,
            context=context,
            namespace=f"modelyard-test-{yard.name}",
            here=registry.host,
            there=there,
            home=home,
            environment={**environment, "KUBECONFIG": str(kubeconfig)},
        )
        made.kubectl("apply", "--filename=-", text=json.dumps(namespace(made.namespace)))
        try:
            login = f"--from-file=.dockerconfigjson={folder / 'login/config.json'}"
            made.kubectl("create", "secret", "generic", SECRET, "--type=kubernetes.io/dockerconfigjson", login)
            yield made
        finally:
            made.kubectl("delete", "namespace", made.namespace)


@pytest.fixture(scope="session")
def good(site: Site, minilm: Built) -> str:
    """MiniLM in the registry."""
    return site.push(minilm.record.reference, "minilm")


@pytest.fixture(scope="session")
def deployed(site: Site, good: str) -> "subprocess.CompletedProcess[str]":
    """What the command said that deployed MiniLM."""
    done = site.deploy(good)
    assert done.returncode == 0, done.stderr
    return done


def namespace(name: str) -> dict[str, object]:
    """A namespace that takes restricted pods only."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def kubectl(*argv: str) -> str:
    """What kubectl says, with this machine's own kubeconfig unless another is named."""
    done = subprocess.run(["kubectl", *argv], check=False, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout
