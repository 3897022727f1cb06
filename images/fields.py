"""What one manager set of a live Kubernetes object, by the notes that server-side apply keeps in it. Pure.

The notes' format: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#fieldsv1-v1-meta.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def applied(live: Mapping[str, Any], manager: str) -> dict[str, Any] | None:
    """The object as the manager applied it, to be applied again; None when it never did.

    Args:
        live: the object as the API server has it, with `metadata.managedFields`.
        manager: by name.

    """
    metadata = live["metadata"]
    notes = [each for each in metadata.get("managedFields", []) if each["operation"] == "Apply"]
    own = next((each["fieldsV1"] for each in notes if each["manager"] == manager), None)
    if own is None:
        return None
    found = _pick(live, own)
    named = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    kind = {key: live[key] for key in ("apiVersion", "kind")}
    return {**found, **kind, "metadata": {**found.get("metadata", {}), **named}}


def _pick(value: Any, fields: Mapping[str, Any]) -> Any:
    """The part of a value that the notes name: `f:` a field, `k:` a member by its keys, `v:` one by its value."""
    if not fields:
        return value
    inner = {key: below for key, below in fields.items() if key != "."}
    if isinstance(value, Mapping):
        return {name: _pick(part, inner[f"f:{name}"]) for name, part in value.items() if f"f:{name}" in inner}
    return list(_members(value, inner))


def _members(values: Sequence[Any], fields: Mapping[str, Any]) -> Iterator[Any]:
    for note, below in fields.items():
        kind, _, text = note.partition(":")
        if kind == "v":
            yield json.loads(text)
        if kind == "k":
            keys = json.loads(text)
            yield from ({**keys, **_pick(each, below)} for each in values if keys.items() <= each.items())
