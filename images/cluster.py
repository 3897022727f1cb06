"""The only module that runs kubectl: applies a service, waits for it, proves it, and takes a failed one back."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from images import verify
from images.errors import ClusterError, UsageError
from images.inside.report import Report
from images.manifests import SMOKE, Service

MANAGER = "modelyard"
"""Field manager of what is applied: https://kubernetes.io/docs/reference/using-api/server-side-apply/."""
KINDS = "deployment,service,serviceaccount,configmap,horizontalpodautoscaler,poddisruptionbudget,networkpolicy,job"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One namespace of one cluster, by kubectl.

    Attributes:
        program: kubectl.
        context: of the kubeconfig; never the current one by itself.
        namespace: an existing one.

    """

    program: str
    context: str
    namespace: str

    def check(self, folder: Path) -> str:
        """What the API server says to the manifests, which it then forgets. Raises `ClusterError`."""
        return self._succeed("apply", "--server-side", "--dry-run=server", f"--field-manager={MANAGER}", "-k", folder)

    def apply(self, folder: Path) -> str:
        """Apply the manifests. Raises `ClusterError`."""
        return self._succeed("apply", "--server-side", f"--field-manager={MANAGER}", "-k", folder)

    def delete(self, folder: Path) -> str:
        """Delete what the manifests name, and wait until it is gone."""
        return self._succeed("delete", "--ignore-not-found", "-k", folder)

    def remove(self, name: str) -> str:
        """Delete everything of a service, by its label. Raises `UsageError` when there is nothing."""
        label = f"--selector=app.kubernetes.io/name={name},app.kubernetes.io/managed-by={MANAGER}"
        done = self._succeed("delete", KINDS, label) if name else ""
        if not done.strip() or "No resources found" in done:
            raise UsageError(f"{self.namespace} has no service {name!r} of ours", "name it as `invoke deploy` did")
        return done

    def revision(self, service: Service) -> int:
        """The Deployment's revision; 0 when there is none."""
        found = self._get("deployment", service.name)
        notes = found.get("metadata", {}).get("annotations", {})
        return int(notes.get("deployment.kubernetes.io/revision", 0))

    def wait(self, service: Service, say: Say) -> None:
        """Wait for the rollout. Raises `ClusterError` with the pods' reasons."""
        seconds = service.start_seconds + 60
        argv = self._argv("rollout", "status", f"deployment/{service.name}", f"--timeout={seconds}s")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None  # noqa: S101 - asked for above
            for line in process.stdout:
                say(line.strip())
        if process.returncode:
            raise self._failed(f"the rollout of {service.name} did not finish", service, "server")

    def prove(self, service: Service, folder: Path) -> Report:
        """Run the smoke test's Job against the Service. Raises `ClusterError` when it does not end with a report."""
        job = f"job/{service.smoke_name}"
        self._succeed("delete", job, "--ignore-not-found")
        self._succeed("apply", "--server-side", f"--field-manager={MANAGER}", "-f", folder / f"{SMOKE}.yaml")
        done = self._call("logs", "--follow", job, f"--pod-running-timeout={service.start_seconds}s")
        for line in reversed(done.stdout.splitlines()):
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(line, type=Report)
        raise self._failed("the smoke test ended without a report", service, "smoke-test")

    def undo(self, service: Service, folder: Path, before: int, say: Say) -> None:
        """Go back to what served before; to nothing when nothing did."""
        if not before:
            say(f"removing {service.name}: nothing served before it")
            self.delete(folder)
            return
        say(f"rolling {service.name} back to revision {before}")
        self._succeed("rollout", "undo", f"deployment/{service.name}", f"--to-revision={before}")
        self.wait(service, say)

    def reasons(self, service: Service, component: str) -> list[str]:
        """What keeps pods from being ready, a sentence each."""
        selector = f"app.kubernetes.io/name={service.name},app.kubernetes.io/component={component}"
        pods = self._get("pods", f"--selector={selector}").get("items", [])
        return [reason for pod in pods for reason in reasons(pod)]

    def _failed(self, what: str, service: Service, component: str) -> ClusterError:
        told = self.reasons(service, component)
        return ClusterError("\n  ".join([what, *told[:5]]), f"look at the pods of {service.name} in {self.namespace}")

    def _get(self, *what: str) -> dict[str, Any]:
        done = self._call("get", *what, "--ignore-not-found", "--output=json")
        if done.returncode:
            raise _error(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout.strip() or "{}")
        return found

    def _succeed(self, *argv: str | Path) -> str:
        done = self._call(*argv)
        if done.returncode:
            raise _error(done.stderr)
        return done.stdout

    def _call(self, *argv: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self._argv(*argv), check=False, capture_output=True, text=True)

    def _argv(self, *argv: str | Path) -> list[str]:
        return [self.program, f"--context={self.context}", f"--namespace={self.namespace}", *map(str, argv)]


def find(context: str, namespace: str) -> Cluster:
    """A namespace by the name of its context. Raises `UsageError` when kubectl, context or namespace is not there."""
    program = shutil.which("kubectl")
    if program is None:
        raise UsageError("there is no kubectl on PATH", "https://kubernetes.io/docs/tasks/tools/")
    listed = subprocess.run(
        [program, "config", "get-contexts", "--output=name"], check=False, capture_output=True, text=True
    ).stdout.split()
    if context not in listed:
        known = ", ".join(listed) or "none (is KUBECONFIG set?)"
        said = f"there is no context {context!r}" if context else "no context was named"
        raise UsageError(said, f"add --context C; the kubeconfig's are: {known}")
    cluster = Cluster(program=program, context=context, namespace=namespace)
    if not cluster._get("namespace", namespace):  # noqa: SLF001 - a constructor of its own
        raise UsageError(
            f"{context} has no namespace {namespace!r}", "make it by kubectl create namespace, or name another"
        )
    return cluster


def deploy(cluster: Cluster, service: Service, folder: Path, say: Say) -> Report:
    """Apply, wait, prove; a service that fails is taken back before the error is raised.

    Raises:
        ClusterError: the cluster refused a manifest, the pods did not become ready, or the smoke test did not run.
        GateError: the answers of the service are not those that were proved.

    """
    before = cluster.revision(service)
    cluster.check(folder)
    for line in cluster.apply(folder).splitlines():
        say(line)
    try:
        cluster.wait(service, say)
        say("proving the service (the image's smoke test in the cluster)")
        report = _proved(cluster, service, folder)
    except BaseException:
        cluster.undo(service, folder, before, say)
        raise
    return report


def _proved(cluster: Cluster, service: Service, folder: Path) -> Report:
    report = cluster.prove(service, folder)
    if error := verify.failure(report):
        raise error
    return report


def reasons(pod: Mapping[str, Any]) -> Iterator[str]:
    """Why a pod is not ready: what its containers wait for or died of, else why it has no node."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        for kind in ("state", "lastState"):
            for told in _states(container.get(kind, {})):
                yield f"{name}: {told}"
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            yield f"{name}: {condition.get('reason', '')}: {condition.get('message', '')}"


def _states(state: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if waiting := state.get("waiting"):
        yield ": ".join(filter(None, [waiting.get("reason", "waiting"), waiting.get("message", "")]))
    if (ended := state.get("terminated")) and ended.get("exitCode"):
        meaning = EXITS.get(ended["exitCode"], ended.get("reason", ""))
        yield f"ended with exit code {ended['exitCode']} ({meaning})"


EXITS = {1: "outputs differ", 2: "this machine cannot run it", 3: "artifact damaged", 137: "killed: out of memory?"}
"""Exit codes of the image's commands, in words."""


def _error(said: str) -> ClusterError:
    lines: Sequence[str] = [line for line in said.strip().splitlines() if line]
    return ClusterError(
        f"kubectl: {lines[-1] if lines else 'failed without a word'}", "nothing was changed by this step"
    )
