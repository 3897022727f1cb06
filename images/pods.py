"""Why a pod of a cluster is not ready, by what Kubernetes says of it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from images.inside.errors import Exit

HOPELESS = {
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"),
}
"""What a container waits for in vain, seen twice in a row."""
VERDICTS: Mapping[int, str] = {
    Exit.DIFFERS: "outputs differ",
    Exit.CANNOT_RUN: "this machine cannot run it",
    Exit.DAMAGED: "artifact damaged",
}
"""Exit codes of the image's commands, in words: it would say the same another time."""
EXITS: Mapping[int, str] = {**VERDICTS, 137: "killed: out of memory?"}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a pod is not ready, and whether waiting helps."""

    text: str
    hopeless: bool = False


def reasons(pod: Mapping[str, Any]) -> Iterator[Reason]:
    """Why a pod is not ready: what its containers wait for or died of, else why it has no node."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in (each for each in containers if not each.get("ready")):
        for kind in ("state", "lastState"):
            for told in _states(container.get(kind, {})):
                yield replace(told, text=f"{name}: {told.text}")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            yield Reason(text=f"{name}: {condition.get('reason', '')}: {condition.get('message', '')}")


def _states(state: Mapping[str, Mapping[str, Any]]) -> Iterator[Reason]:
    if waiting := state.get("waiting"):
        reason = waiting.get("reason", "waiting")
        yield Reason(text=": ".join(filter(None, [reason, waiting.get("message", "")])), hopeless=reason in HOPELESS)
    if (ended := state.get("terminated")) and ended.get("exitCode"):
        meaning = EXITS.get(ended["exitCode"], ended.get("reason", ""))
        said = ended.get("message", "").strip().splitlines()[-1:]
        yield Reason(
            text=": ".join([f"ended with exit code {ended['exitCode']} ({meaning})", *said]),
            hopeless=ended["exitCode"] in VERDICTS,
        )
