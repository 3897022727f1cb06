"""An object as it was applied last, from the notes that the API server keeps of who set what."""

from typing import Any

from images import fields

NOTES: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:selector": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"server"}': {".": {}, "f:name": {}, "f:image": {}, "f:tmp": {".": {}}, "f:args": {}}
                }
            }
        },
    },
}
LIVE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "mini",
        "namespace": "n",
        "uid": "1",
        "labels": {"app": "mini", "others": "yes"},
        "managedFields": [
            {"manager": "autoscaler", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "ours", "operation": "Apply", "fieldsV1": NOTES},
        ],
    },
    "spec": {
        "replicas": 7,
        "selector": {"matchLabels": {"app": "mini"}},
        "template": {
            "spec": {
                "containers": [
                    {"name": "server", "image": "i", "args": ["a", "b"], "tmp": {"x": 1}, "stdin": False},
                    {"name": "sidecar", "image": "s"},
                ]
            }
        },
    },
    "status": {"replicas": 7},
}


def test_an_object_is_what_its_manager_applied_and_nothing_that_others_set() -> None:
    assert fields.applied(LIVE, "ours") == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mini", "namespace": "n", "labels": {"app": "mini"}},
        "spec": {
            "selector": {"matchLabels": {"app": "mini"}},
            "template": {"spec": {"containers": [{"name": "server", "image": "i", "args": ["a", "b"], "tmp": {}}]}},
        },
    }


def test_what_a_manager_only_updated_was_not_applied() -> None:
    assert fields.applied(LIVE, "autoscaler") is None


def test_a_members_keys_are_kept_though_nobody_noted_them() -> None:
    notes: dict[str, Any] = {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}}}
    live = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": notes}]},
        "ports": [
            {"port": 80, "protocol": "UDP", "name": "no"},
            {"port": 80, "protocol": "TCP", "name": "http", "x": 1},
        ],
    }
    found = fields.applied(live, "m")
    assert found
    assert found["ports"] == [{"port": 80, "protocol": "TCP", "name": "http"}]


def test_a_set_is_its_values() -> None:
    notes: dict[str, Any] = {"f:finalizers": {'v:"a"': {}}}
    entry = {"manager": "m", "operation": "Apply", "fieldsV1": {"f:metadata": notes}}
    live = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "finalizers": ["a", "b"], "managedFields": [entry]},
    }
    found = fields.applied(live, "m")
    assert found
    assert found["metadata"] == {"name": "p", "finalizers": ["a"]}
