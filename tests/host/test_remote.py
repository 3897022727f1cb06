import pytest

from images import remote
from images.errors import UsageError
from images.remote import Remote

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reg.example/team/model:1", Remote(host="reg.example", path="team/model", tag="1")),
        ("reg.example:5000/model", Remote(host="reg.example:5000", path="model")),
        ("localhost/model:1", Remote(host="localhost", path="model", tag="1")),
        (f"reg.example/model@{DIGEST}", Remote(host="reg.example", path="model", digest=DIGEST)),
        (f"reg.example/model:1@{DIGEST}", Remote(host="reg.example", path="model", digest=DIGEST)),
    ],
)
def test_a_name_is_host_path_and_tag_or_digest(text: str, expected: Remote) -> None:
    assert remote.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "team/model:1",
        "reg.example",
        "reg.example/",
        "https://reg.example/m",
        "reg.example/M",
        "a.b/c@sha256:1",
    ],
)
def test_what_names_no_image_in_a_registry_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        remote.parse(text)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9"])
def test_the_loopback_is_near(host: str) -> None:
    assert Remote(host=host, path="m").is_near


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1:5000", "127.0.0.1.example"])
def test_nothing_else_is_near(host: str) -> None:
    assert not Remote(host=host, path="m").is_near


@pytest.mark.parametrize(
    ("registry", "tag", "local", "expected"),
    [
        ("reg.example/team/m", "", "modelyard/m:onnx", "reg.example/team/m:onnx"),
        ("reg.example/team/m", "2", "modelyard/m:onnx", "reg.example/team/m:2"),
        ("reg.example/team/m:3", "", "modelyard/m:onnx", "reg.example/team/m:3"),
        ("reg.example:1/m", "", "modelyard/m", "reg.example:1/m:latest"),
        ("", "", "reg.example/team/m:1", "reg.example/team/m:1"),
        ("", "2", "reg.example/team/m:1", "reg.example/team/m:2"),
    ],
)
def test_where_an_image_goes(registry: str, tag: str, local: str, expected: str) -> None:
    assert str(remote.destination(registry, tag, local)) == expected


@pytest.mark.parametrize(("registry", "tag"), [("", ""), (f"reg.example/m@{DIGEST}", ""), ("reg.example/m", "a b")])
def test_a_place_that_is_none_is_a_usage_error(registry: str, tag: str) -> None:
    with pytest.raises(UsageError):
        remote.destination(registry, tag, "modelyard/m:onnx")
