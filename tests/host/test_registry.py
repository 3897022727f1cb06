import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tenacity

from images import oci, registry
from images.credentials import Credentials
from images.errors import AccessError, TrustError, UnreachableError
from images.oci import Layer
from images.registry import NotThereError, Repository
from images.remote import Remote, parse
from tests.scripted_registry import Registry, Script

CONFIG = Layer(media_type=oci.EMPTY, content=b"{}")
Opened = Callable[..., tuple[Repository, Registry]]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries."""
    monkeypatch.setattr(Repository._tried.retry, "wait", tenacity.wait_none())


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Opens `team/m` of a registry that behaves as told, with a login or none."""
    with ExitStack() as stack:

        def open_(login: str = "", identity: str = "", **script: object) -> tuple[Repository, Registry]:
            server = stack.enter_context(Registry(Script(**script)))  # type: ignore[arg-type]
            entry = {"auth": base64.b64encode(login.encode()).decode()} if login else {}
            auths = {server.host: entry | ({"identitytoken": identity} if identity else {})}
            (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
            monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
            repository = Repository(parse(f"{server.host}/team/m:1"))
            return stack.enter_context(repository), server

        yield open_


def attached(repository: Repository, name: str, subject: oci.Manifest) -> oci.Manifest:
    layer = Layer(media_type="text/plain", content=name.encode(), annotations={"name": name})
    return repository.put([layer], config=CONFIG, subject=subject, artifact="some/artifact")


# Logging in


def test_a_registry_that_is_open_is_told_no_password(opened: Opened) -> None:
    repository, server = opened(login="tester:open sesame")
    repository.check_push()
    assert "authorization" not in server.headers


def test_a_registry_that_asks_is_told_the_password(opened: Opened) -> None:
    repository, server = opened(login="tester:open sesame", basic="tester:open sesame")
    repository.check_push()
    assert server.asked("POST")


def test_a_check_leaves_no_upload_behind(opened: Opened) -> None:
    repository, server = opened()
    repository.check_push()
    assert server.asked("DELETE") == ["/v2/team/m/blobs/uploads/one"]


@pytest.mark.parametrize("script", [{"basic": "a:b"}, {"bearer": "a:b"}])
@pytest.mark.parametrize("login", ["", "tester:open sesame"])
def test_a_wrong_login_is_an_access_error_without_it(script: dict[str, str], login: str, opened: Opened) -> None:
    repository, _ = opened(login=login, **script)
    with pytest.raises(AccessError) as caught:
        repository.check_push()
    assert "sesame" not in str(caught.value)


def test_a_token_is_fetched_for_what_the_registry_asks(opened: Opened) -> None:
    repository, server = opened(login="tester:open sesame", bearer="tester:open sesame")
    repository.check_push()
    assert server.asked("GET")[-1] == "/token?service=tests&scope=repository%3Ateam%2Fm%3Apull%2Cpush"
    assert server.headers["authorization"] == "Bearer opened"


def test_a_token_is_fetched_once(opened: Opened) -> None:
    repository, server = opened(login="tester:open sesame", bearer="tester:open sesame")
    repository.check_push()
    repository.check_push()
    assert len([path for path in server.asked("GET") if path.startswith("/token")]) == 1


def test_anybody_may_read_what_is_public(opened: Opened) -> None:
    repository, server = opened(bearer="anybody")
    identity = server.image("team/m", "1", {"config": {}})
    assert repository.manifest("1").configuration == identity


def test_an_identity_token_is_exchanged(opened: Opened) -> None:
    repository, server = opened(identity="secret", bearer="tester:open sesame")
    repository.check_push()
    assert "grant_type=refresh_token" in server.forms[-1]
    assert "refresh_token=secret" in server.forms[-1]


def test_no_password_goes_to_a_token_server_without_encryption() -> None:
    login = registry._Login("reg.example", Credentials("tester", "open sesame"), plain=False)
    with pytest.raises(AccessError, match="without encryption"):
        login._token_request({"realm": "http://reg.example/token"})


# Reading


def test_a_manifest_is_what_its_digest_says(opened: Opened) -> None:
    repository, server = opened()
    server.image("team/m", "1", {"config": {}})
    manifest = repository.manifest("1")
    assert repository.manifest(manifest.digest) == manifest


def test_a_manifest_that_was_changed_on_the_way_is_refused(opened: Opened) -> None:
    repository, server = opened(lies={"1"})
    server.image("team/m", "1", {"config": {}})
    with pytest.raises(TrustError, match="answered sha256:"):
        repository.manifest("1")


def test_a_blob_that_was_changed_on_the_way_is_refused(opened: Opened) -> None:
    repository, server = opened()
    identity = server.image("team/m", "1", {"config": {}})
    server.script.lies.add(identity)
    with pytest.raises(TrustError, match="is not what its digest"):
        repository.blob(identity)


def test_what_is_not_there_is_said_with_the_registrys_words(opened: Opened) -> None:
    repository, _ = opened()
    with pytest.raises(NotThereError, match=r"HTTP 404 \(MANIFEST_UNKNOWN manifest unknown\)"):
        repository.manifest("2")


def test_a_registry_in_trouble_is_asked_again(opened: Opened) -> None:
    repository, server = opened()
    server.image("team/m", "1", {"config": {}})
    server.script.failures = registry.TRIES - 1
    assert repository.manifest("1")


def test_a_registry_that_stays_in_trouble_is_unreachable(opened: Opened) -> None:
    repository, server = opened()
    server.script.failures = registry.TRIES
    with pytest.raises(UnreachableError, match=r"HTTP 503 \(UNAVAILABLE come back\)"):
        repository.manifest("1")


def test_a_registry_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        Repository(Remote(host="127.0.0.1:9", path="m"))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "does not trust"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version", "speaks plain HTTP"),
        ("timed out", "does not answer"),
    ],
)
def test_why_a_registry_cannot_be_talked_to(reason: str, words: str) -> None:
    error = registry.unreachable(Remote(host="reg.example", path="m"), reason)
    assert words in error.what
    assert error.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"no", b'{"layers": [{"size": 1}]}', b'{"layers": 7}'])
def test_a_damaged_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(TrustError):
        oci.Manifest(content=content, media_type="", digest="").pointers("layers")


# Attaching


@pytest.mark.parametrize("keeps_lists", [True, False])
def test_what_is_attached_is_found_from_its_subject(keeps_lists: bool, opened: Opened) -> None:
    repository, server = opened(referrers=keeps_lists)
    server.image("team/m", "1", {"config": {}})
    subject = repository.manifest("1")
    made = [attached(repository, name, subject).digest for name in ("a", "b")]
    assert [entry.digest for entry in repository.referrers(subject.digest)] == made
    assert [layer.content for layer in repository.documents(made[1])] == [b"b"]


@pytest.mark.parametrize("keeps_lists", [True, False])
def test_attaching_again_sends_nothing(keeps_lists: bool, opened: Opened) -> None:
    repository, server = opened(referrers=keeps_lists)
    server.image("team/m", "1", {"config": {}})
    attached(repository, "a", repository.manifest("1"))
    before = len(server.asked("PUT"))
    attached(repository, "a", repository.manifest("1"))
    assert len(server.asked("PUT")) == before


def test_the_list_that_stands_in_has_the_specified_tag(opened: Opened) -> None:
    repository, server = opened(referrers=False)
    server.image("team/m", "1", {"config": {}})
    subject = repository.manifest("1")
    attached(repository, "a", subject)
    content, media_type = server.manifests[f"team/m@{subject.digest.replace(':', '-')}"]
    assert media_type == oci.INDEX
    assert json.loads(content)["manifests"][0]["artifactType"] == "some/artifact"


def test_there_are_no_documents_where_there_is_no_artifact(opened: Opened) -> None:
    repository, _ = opened()
    assert repository.documents("nothing") == []
