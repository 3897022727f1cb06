"""Images as their labels tell of them, and the services that are made of them."""

from typing import Any

import yaml

from images import manifests
from images.service import Service, Wishes, decide

IMAGE = f"registry.example/team/minilm@sha256:{'a1' * 32}"
LABELS = {
    "dev.modelyard.target": "onnx-cpu",
    "dev.modelyard.task": "feature-extraction",
    "dev.modelyard.gate": "passed",
    "dev.modelyard.model.id": "acme/Mini_LM",
    "dev.modelyard.memory.peak": str(300 << 20),
    "dev.modelyard.memory.needed": str(200 << 20),
    "org.opencontainers.image.version": "c9745ed1",
    "maintainer": "somebody",
}
GPU = {**LABELS, "dev.modelyard.gpu": "nvidia.com/gpu"}
MOUNTED = {**GPU, "dev.modelyard.weights": "/weights"}
WEIGHTS = f"registry.example/team/weights@sha256:{'b2' * 32}"
EVERYTHING = Wishes(
    pull_secret="reg",  # noqa: S106 - a Secret's name
    api_key_secret="key",  # noqa: S106 - the same
    weights="claim",
    allow_namespaces="web",
    cpu="500m",
    replicas=1,
)
VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
WITH_IMAGE_VOLUMES = VERSIONS[VERSIONS.index("1.31") :]


def service(labels: dict[str, str] = LABELS, image: str = IMAGE, **wishes: Any) -> Service:
    """A service of an image."""
    return decide(image, labels, Wishes(**wishes))


def objects(made: Service) -> dict[str, Any]:
    """The manifests by the name of their file."""
    files = manifests.texts(made)
    return {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in files.items() if "kustom" not in name}
