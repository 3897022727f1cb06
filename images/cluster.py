"""The only module that runs kubectl: applies a service, waits for it, proves it, and takes a failed one back."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from images import fields, pods
from images.errors import ClusterError, GateError, UsageError, mask
from images.inside.report import Report, table
from images.manifests import SMOKE
from images.pods import Reason
from images.service import NAME, OPTIONAL, Service

MANAGER = "modelyard"
"""Field manager of what is applied: https://kubernetes.io/docs/reference/using-api/server-side-apply/."""
OURS = f"app.kubernetes.io/managed-by={MANAGER}"
KINDS = "deployment,service,serviceaccount,configmap,horizontalpodautoscaler,poddisruptionbudget,networkpolicy,job"
NAMED = "deployment,service,configmap"
"""Kinds of which somebody else may have one by the same name."""
PATIENCE = 60
"""Seconds on top of what starting and proving may take, for the cluster's own work."""
SLICE = 15
"""Seconds of waiting between two looks at the pods."""
POLL = 2.0
"""Seconds between two looks at a Job."""
UNKNOWN_KIND = re.compile(r'no matches for kind "(\w+)" in version "(\S+)"')
"""What kubectl says of a kind that the API server does not have."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Before:
    """What was there before a deployment.

    Attributes:
        revision: of the Deployment; 0 when there was none.
        objects: those of the manifests that were there, by kind and name: as they were applied, None if by others.
        pods: their names.

    """

    revision: int
    objects: Mapping[str, dict[str, Any] | None]
    pods: Collection[str]


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
        return self._apply("-k", folder, "--dry-run=server")

    def apply(self, folder: Path) -> str:
        """Apply the manifests. Raises `ClusterError`."""
        return self._apply("-k", folder)

    def delete(self, *what: str | Path) -> str:
        """Delete objects with all that belongs to them, and wait until it is gone."""
        return self._succeed("delete", "--ignore-not-found", "--cascade=foreground", *what)

    def remove(self, name: str) -> str:
        """Delete everything of a service, by its label. Raises `UsageError` when there is nothing."""
        if not NAME.fullmatch(name):
            raise UsageError(f"--name {name!r} is no name of a Service", "name it as `invoke deploy` did")
        done = self.delete(KINDS, f"--selector=app.kubernetes.io/name={name},{OURS}")
        if not done.strip() or "No resources found" in done:
            raise UsageError(f"{self.namespace} has no service {name!r} of ours", "name it as `invoke deploy` did")
        return done

    def require_ours(self, service: Service) -> None:
        """Raise `UsageError` when something of the service's name was made by somebody else."""
        found = self._get(NAMED, f"--field-selector=metadata.name={service.name}").get("items", [])
        for each in found:
            if each["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != MANAGER:
                raise UsageError(
                    f"{self.namespace} has a {each['kind']} {service.name!r} that `invoke deploy` did not make",
                    "give the service another --name",
                )

    def before(self, service: Service, folder: Path) -> Before:
        """What is there of a service, to go back to."""
        found = self._get("deployment", service.name)
        notes = found.get("metadata", {}).get("annotations", {})
        return Before(
            revision=int(notes.get("deployment.kubernetes.io/revision", 0)),
            objects={_key(each): fields.applied(each, MANAGER) for each in self._objects(folder)},
            pods={pod["metadata"]["name"] for pod in self.pods(service)},
        )

    def pods(self, service: Service, component: str = "server") -> list[dict[str, Any]]:
        """The service's pods, old and new."""
        selector = f"app.kubernetes.io/name={service.name},app.kubernetes.io/component={component}"
        found: list[dict[str, Any]] = self._get("pods", f"--selector={selector}").get("items", [])
        return found

    def wait(self, service: Service, say: Say, *, older: Collection[str] = ()) -> None:
        """Wait for the rollout, no longer than there is hope.

        Args:
            service: what was applied.
            say: told every change.
            older: names of pods that were there before, whose state says nothing of the new ones.

        Raises:
            ClusterError: with the pods' reasons.

        """
        until, before = time.monotonic() + service.start_seconds + PATIENCE, False
        told = _Changes(say)
        while not self._rolled_out(service, told):
            found = self.reasons(service, older=older)
            hopeless = any(reason.hopeless for reason in found)
            if (hopeless and before) or time.monotonic() > until:
                raise self._failed(f"the pods of {service.name} do not become ready", found)
            before = hopeless

    def prove(self, service: Service, folder: Path) -> Report:
        """Run the smoke test's Job against the Service. Raises `ClusterError` when it does not end with a report."""
        job = f"job/{service.smoke_name}"
        self._succeed("delete", job, "--ignore-not-found")
        self._apply("-f", folder / f"{SMOKE}.yaml")
        self._finish(service)
        lines = self._call("logs", job).stdout.splitlines()
        for line in reversed(lines):
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(line, type=Report)
        last = [Reason(text=line) for line in lines[-3:]]
        raise self._failed("the smoke test ended without a report", [*self.reasons(service, SMOKE), *last])

    def undo(self, service: Service, folder: Path, before: Before, say: Say) -> None:
        """Go back to what served before; to nothing when nothing did."""
        self.delete(f"job/{service.smoke_name}")
        if not before.revision:
            say(f"removing {service.name}: nothing served before it")
            self.delete("-k", folder)
            return
        say(f"rolling {service.name} back to revision {before.revision}")
        self._restore(service, folder, before)
        until, told = time.monotonic() + service.start_seconds + PATIENCE, _Changes(say)
        while not self._rolled_out(service, told):
            if time.monotonic() > until:
                raise self._failed("what served before does not become ready", self.reasons(service))

    def _restore(self, service: Service, folder: Path, before: Before) -> None:
        """Apply every object as it was applied before, and delete those that were not there.

        A rollback by kubectl alone would bring the pods back, and leave settings, limits and notes of what failed.
        """
        if before.objects.get(f"Deployment/{service.name}") is None:
            self._succeed("rollout", "undo", f"deployment/{service.name}", f"--to-revision={before.revision}")
        known = [each for each in before.objects.values() if each is not None]
        if known:
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": known})
            self._apply("--filename=-", text=text)
        for fresh in sorted({_key(each) for each in self._objects(folder)} - before.objects.keys()):
            self.delete(fresh)

    def _objects(self, folder: Path) -> list[dict[str, Any]]:
        """Those of the manifests' objects that are there, with the notes of who set what."""
        found: list[dict[str, Any]] = self._get("-k", str(folder), "--show-managed-fields").get("items", [])
        return found

    def reasons(self, service: Service, component: str = "server", *, older: Collection[str] = ()) -> list[Reason]:
        """What keeps pods of this image from being ready; older ones count when there are no newer."""
        found = [pod for pod in self.pods(service, component) if _image(pod) == service.image]
        newer = [pod for pod in found if pod["metadata"]["name"] not in older]
        return [reason for pod in newer or found for reason in pods.reasons(pod)]

    def _rolled_out(self, service: Service, say: Say) -> bool:
        """Whether the rollout ended well within a slice of time. Raises `ClusterError` when it never will."""
        argv = self._argv("rollout", "status", f"deployment/{service.name}", f"--timeout={SLICE}s")
        last = ""
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None  # noqa: S101 - asked for above
            for line in process.stdout:
                last = line.strip() or last
                if "timed out waiting" not in last:
                    say(last)
        if process.returncode and "timed out waiting" not in last:
            raise self._failed(f"the rollout of {service.name} failed: {last}", self.reasons(service))
        return not process.returncode

    def _finish(self, service: Service) -> None:
        """Wait until the smoke test's Job has ended, either way."""
        until = time.monotonic() + service.smoke_seconds + PATIENCE
        while not _ended(self._get("job", service.smoke_name)):
            found = self.reasons(service, SMOKE)
            if any(reason.hopeless for reason in found) or time.monotonic() > until:
                raise self._failed("the smoke test does not run", found)
            time.sleep(POLL)

    def _failed(self, what: str, told: Sequence[Reason]) -> ClusterError:
        lines = list(dict.fromkeys(reason.text for reason in told))
        return ClusterError(
            "\n  ".join([what, *lines[:6]]),
            f"kubectl --context={self.context} --namespace={self.namespace} get events tells more",
        )

    def _apply(self, *argv: str | Path, text: str = "") -> str:
        # A rollback by hand takes fields over in kubectl's own name; the next deployment takes them back.
        flags = ("--server-side", f"--field-manager={MANAGER}", "--force-conflicts")
        return self._succeed("apply", *flags, *argv, text=text)

    def has_namespace(self) -> bool:
        """Whether the namespace is there; somebody who may not ask is taken at their word."""
        try:
            return bool(self._get("namespace", self.namespace))
        except ClusterError as error:
            if "(Forbidden)" in error.what:
                return True
            raise

    def _get(self, *what: str) -> dict[str, Any]:
        done = self._call("get", *what, "--ignore-not-found", "--output=json", "--request-timeout=30s")
        if done.returncode:
            raise _error(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout.strip() or "{}")
        return found

    def _succeed(self, *argv: str | Path, text: str = "") -> str:
        done = self._call(*argv, text=text)
        if done.returncode:
            raise _error(done.stderr)
        return done.stdout

    def _call(self, *argv: str | Path, text: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self._argv(*argv), check=False, capture_output=True, text=True, input=text)

    def _argv(self, *argv: str | Path) -> list[str]:
        return [self.program, f"--context={self.context}", f"--namespace={self.namespace}", *map(str, argv)]


class _Changes:
    """Says a line unless it said the same before."""

    def __init__(self, say: Say) -> None:
        self.say, self.last = say, ""

    def __call__(self, line: str) -> None:
        """Say it."""
        if line != self.last:
            self.say(line)
        self.last = line


def find(context: str, namespace: str) -> Cluster:
    """A namespace by the name of its context. Raises `UsageError` when kubectl, context or namespace is not there."""
    program = shutil.which("kubectl")
    if program is None:
        raise UsageError("there is no kubectl on PATH", "https://kubernetes.io/docs/tasks/tools/")
    # Some kubectls ask a context's server for its version before anything else: that must not be the current one's.
    argv = [program, f"--context={context or 'none'}", "config", "get-contexts", "--output=name"]
    listed = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.split()
    if context not in listed:
        known = ", ".join(listed) or "none (is KUBECONFIG set?)"
        said = f"there is no context {context!r}" if context else "no context was named"
        raise UsageError(said, f"add --context C; the kubeconfig's are: {known}")
    if not namespace:
        raise UsageError("no namespace was named", "add --namespace N, an existing one")
    cluster = Cluster(program=program, context=context, namespace=namespace)
    if not cluster.has_namespace():
        raise UsageError(
            f"{context} has no namespace {namespace!r}", "make it by kubectl create namespace, or name another"
        )
    return cluster


def deploy(cluster: Cluster, service: Service, folder: Path, say: Say) -> Report:
    """Apply, wait, prove; a service that fails is taken back before the error is raised.

    Raises:
        UsageError: KServe is to make the pods, or something else has the service's name.
        ClusterError: the cluster refused a manifest, the pods did not become ready, or the smoke test did not run.
        GateError: the answers of the service are not those that were proved.

    """
    if service.kserve:
        raise UsageError(
            "`invoke deploy` waits for a Deployment, which KServe makes by itself",
            "write the manifests with `invoke manifests --kserve`, and apply them by kubectl",
        )
    cluster.require_ours(service)
    cluster.check(folder)
    before = cluster.before(service, folder)
    try:
        for line in cluster.apply(folder).splitlines():
            say(line)
        cluster.wait(service, say, older=before.pods)
        say("proving the service (the image's smoke test in the cluster)")
        return _proved(cluster, service, folder, say)
    except BaseException:
        _take_back(cluster, service, folder, before, say)
        raise


def _proved(cluster: Cluster, service: Service, folder: Path, say: Say) -> Report:
    report = cluster.prove(service, folder)
    say(table(report))
    if failed := next((check for check in report.checks if not check.passed), None):
        raise GateError(
            f"{service.name} does not answer as its image was proved ({failed.name}): {failed.detail}",
            f"look at the report above; exit code {report.exit} of the smoke test",
        )
    return report


def _take_back(cluster: Cluster, service: Service, folder: Path, before: Before, say: Say) -> None:
    """Undo, and only tell of what prevents it: the first error says why."""
    try:
        cluster.undo(service, folder, before, say)
    except ClusterError as error:
        say(f"it could not be taken back: {error}")


def _image(pod: Mapping[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _ended(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(each["type"] in {"Complete", "Failed"} and each["status"] == "True" for each in conditions)


def _key(found: Mapping[str, Any]) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def _error(said: str) -> ClusterError:
    if unknown := UNKNOWN_KIND.findall(said):
        kinds = [kind.lower() for kind, _ in unknown]
        left_out = [word for word, files in OPTIONAL.items() if any(kind in files for kind in kinds)]
        return ClusterError(
            f"this cluster does not know {', '.join(' of '.join(each) for each in unknown)}: is it older than 1.27?",
            f"add --without {','.join(left_out)}" if left_out else "",
        )
    lines = [line for line in mask(said).strip().splitlines() if line]
    return ClusterError(f"kubectl: {'; '.join(lines[-3:]) or 'failed without a word'}")
