from typing import Any

from images import sbom
from tests.host import samples

FOUND = {
    "bomFormat": "CycloneDX",
    "serialNumber": "urn:uuid:random",
    "metadata": {"timestamp": "now", "tools": "syft", "component": {"name": "image.tar"}},
    "components": [{"type": "library", "name": "numpy"}],
}


def completed(**known: Any) -> dict[str, Any]:
    return sbom.completed(FOUND, "sha256:final", samples.record(**known))


def test_a_bill_is_the_same_at_every_push() -> None:
    later = {**FOUND, "serialNumber": "urn:uuid:other", "metadata": {**FOUND["metadata"], "timestamp": "later"}}  # type: ignore[dict-item]
    assert sbom.completed(later, "sha256:final", samples.record()) == completed()


def test_a_bill_is_about_the_image_and_not_about_a_file_of_this_machine() -> None:
    assert completed(reference="a:b")["metadata"]["component"] == {
        "type": "container",
        "bom-ref": "sha256:final",
        "name": "a:b",
        "version": "sha256:final",
    }


def test_the_model_is_a_component_with_its_digest() -> None:
    model = completed()["components"][-1]
    assert (model["type"], model["name"]) == ("machine-learning-model", samples.MODEL.id)
    assert model["hashes"] == [{"alg": "SHA-256", "content": samples.MODEL.digest.removeprefix("sha256:")}]


def test_an_image_of_which_nothing_is_recorded_has_what_was_found() -> None:
    assert sbom.completed(FOUND, "sha256:final", None)["components"] == FOUND["components"]
