"""A repository in a container registry, by the OCI distribution API. The only module that talks to a registry.

Layers go through the container engine; what is here are manifests and the small documents beside them.
"""

import base64
import ssl
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import httpx2
import tenacity

from images import credentials
from images.credentials import HUB, Credentials
from images.errors import AccessError, ImageError, TrustError, UnreachableError, UsageError, mask
from images.oci import (
    DOCKER_IMAGE,
    DOCKER_INDEX,
    IMAGE,
    INDEX,
    Descriptor,
    Json,
    Layer,
    Manifest,
    as_descriptors,
    as_manifest,
    as_object,
    digest_of,
)
from images.remote import DIGEST, Remote

LARGEST = 64 << 20
"""Bytes of the largest document that is read: nothing that belongs to an image beside its layers is near it."""
TIMEOUT = httpx2.Timeout(60, connect=10)
PASSING = {429, 500, 502, 503, 504}
"""What a registry answers when the same request may do better a moment later."""
TRIES = 4


class NotThereError(UsageError):
    """The registry has no such thing."""


class Repository:
    """One repository: `host/path`. A context manager that keeps its connections."""

    def __init__(self, where: Remote, *, plain_http: bool = False) -> None:
        host = "registry-1.docker.io" if where.host == HUB else where.host
        path = f"library/{where.path}" if where.host == HUB and "/" not in where.path else where.path
        self.where = where
        self._client = httpx2.Client(
            verify=_trusted(where.host),
            timeout=TIMEOUT,
            follow_redirects=True,
            trust_env=not where.is_near,  # a proxy does not reach this machine's own loopback
            headers={"User-Agent": "modelyard"},
        )
        with self._explained():
            scheme = _scheme(self._client, where, host, plain_http=plain_http)
        self._client.auth = _Login(host, credentials.find(where.host), plain=scheme == "http")
        self._root = f"{scheme}://{host}/v2/{path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check_push(self) -> None:
        """Ask whether an upload may begin, and begin none. Raises `AccessError`, `UnreachableError`."""
        begun = self._ask("POST", "/blobs/uploads/")
        self._send("DELETE", self._location(begun))

    def manifest(self, reference: str) -> Manifest:
        """The manifest of a tag or digest. Raises `NotThereError`; `TrustError` when bytes and digest differ."""
        accept = f"{IMAGE}, {DOCKER_IMAGE}, {INDEX}, {DOCKER_INDEX}"
        answer = self._ask("GET", f"/manifests/{reference}", headers={"Accept": accept})
        digest = digest_of(answer.content)
        told = answer.headers.get("Docker-Content-Digest", digest)
        if digest != told or (DIGEST.fullmatch(reference) and digest != reference):
            raise TrustError(
                f"{self.where.host} answered {digest} when asked for {reference}, and calls it {told}",
                "the registry, or something before it, changes what it stores: do not use this image",
            )
        return Manifest(content=answer.content, media_type=_media_type(answer), digest=digest)

    def blob(self, digest: str) -> bytes:
        """A small blob. Raises `NotThereError`; `TrustError` when it is not what the digest says."""
        content = self._ask("GET", f"/blobs/{digest}").content
        if digest_of(content) != digest:
            raise TrustError(f"a blob of {self.where} is not what its digest {digest} says", "do not use this image")
        return content

    def put_blob(self, content: bytes) -> None:
        """Upload a small blob, unless it is there."""
        digest = digest_of(content)
        try:
            self._ask("HEAD", f"/blobs/{digest}")
        except NotThereError:
            url = self._location(self._ask("POST", "/blobs/uploads/")).copy_merge_params({"digest": digest})
            self._send("PUT", url, content=content, headers={"Content-Type": "application/octet-stream"})

    def put(
        self,
        layers: Sequence[Layer],
        *,
        config: Layer,
        subject: Manifest | None = None,
        artifact: str = "",
        tag: str = "",
    ) -> Manifest:
        """Upload documents as one artifact, unless it is there; where it has a subject, it can be found from that.

        Registries that do not keep such lists get one, under the tag that the OCI specification names for it.
        """
        annotations = dict(layers[0].annotations) if artifact else {}
        document = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": config.descriptor,
            "layers": [layer.descriptor for layer in layers],
            **({"artifactType": artifact} if artifact else {}),
            **({"annotations": annotations} if annotations else {}),
            **({"subject": subject.descriptor} if subject else {}),
        }
        made = as_manifest(document)
        if not self._has(made, subject, tag):
            for each in (config, *layers):
                self.put_blob(each.content)
            listed = self._put_manifest(made, tag)
            if subject and not listed:
                self._list(subject.digest, made.descriptor | {"artifactType": artifact, "annotations": annotations})
        return made

    def _has(self, made: Manifest, subject: Manifest | None, tag: str) -> bool:
        """Whether an artifact is there, under its tag or in its subject's list."""
        if subject:
            return made.digest in {each.digest for each in self.referrers(subject.digest)}
        try:
            return self.manifest(tag).digest == made.digest
        except NotThereError:
            return False

    def _put_manifest(self, made: Manifest, tag: str) -> bool:
        """Upload a manifest; whether the registry keeps a list of what refers to what.

        Raises `TrustError` when the registry's digest of it is another.
        """
        answer = self._ask(
            "PUT",
            f"/manifests/{tag or made.digest}",
            content=made.content,
            headers={"Content-Type": made.media_type},
        )
        if (told := answer.headers.get("Docker-Content-Digest", made.digest)) != made.digest:
            raise TrustError(f"{self.where.host} stored {made.digest} as {told}", "do not use this registry")
        return "OCI-Subject" in answer.headers

    def referrers(self, digest: str) -> list[Descriptor]:
        """The artifacts whose subject a manifest is."""
        try:
            return as_descriptors(list(self._referrers(f"/referrers/{digest}")))
        except NotThereError:
            return as_descriptors(self._listed(digest))

    def documents(self, reference: str) -> list[Layer]:
        """The documents of an artifact by tag or digest; none where there is no such thing."""
        try:
            found = self.manifest(reference).pointers("layers")
        except NotThereError:
            return []
        return [
            Layer(media_type=each.media_type, content=self.blob(each.digest), annotations=each.annotations or {})
            for each in found
        ]

    def _referrers(self, path: str) -> Iterator[Json]:
        answer = self._ask("GET", path, headers={"Accept": INDEX})
        while True:
            yield from as_object(answer.content, "a list of referrers").get("manifests", [])
            following = answer.links.get("next", {}).get("url")
            if not following:
                return
            answer = self._send("GET", answer.url.join(following), headers={"Accept": INDEX})

    def _listed(self, digest: str) -> list[Json]:
        """The entries under the tag that stands in for a registry's own list."""
        try:
            return list(self.manifest(digest.replace(":", "-")).parsed.get("manifests", []))
        except NotThereError:
            return []

    def _list(self, digest: str, entry: Json) -> None:
        known = self._listed(digest)
        if entry["digest"] not in {each["digest"] for each in known}:
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*known, entry]}
            self._put_manifest(as_manifest(index), digest.replace(":", "-"))

    def _location(self, answer: httpx2.Response) -> httpx2.URL:
        return answer.url.join(answer.headers["Location"])

    def _ask(self, method: str, path: str, **parts: Any) -> httpx2.Response:
        return self._send(method, httpx2.URL(self._root + path), **parts)

    def _send(self, method: str, url: httpx2.URL, **parts: Any) -> httpx2.Response:
        """Send a request, more than once where that may help, and raise what its answer stands for."""
        with self._explained():
            answer = self._tried(method, url, **parts)
        if answer.is_success:
            return answer
        said = f"HTTP {answer.status_code}{_said(answer)}"
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise NotThereError(f"{self.where.host} does not have {url.path}: {said}")
        if answer.status_code in {httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN}:
            raise refused(self.where, said)
        raise UnreachableError(
            f"the registry {self.where.host} answered {method} {url.path} with {said}",
            "run the same command again later; what is there already is not sent twice"
            if answer.status_code in PASSING
            else "check that this is a registry's name and port, and whether it speaks TLS (--plain-http)",
        )

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential_jitter(multiplier=0.3, max=5),
        retry=tenacity.retry_if_exception_type((httpx2.ConnectError, httpx2.RemoteProtocolError, httpx2.ReadError))
        | tenacity.retry_if_result(lambda answer: answer.status_code in PASSING),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    def _tried(self, method: str, url: httpx2.URL, **parts: Any) -> httpx2.Response:
        with self._client.stream(method, url, **parts) as answer:
            if int(answer.headers.get("Content-Length", 0)) > LARGEST and method != "HEAD":
                raise TrustError(f"{url.path} of {self.where.host} is no document: it is too large", "check its name")
            answer.read()
        return answer

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the HTTP client raises into errors that say what to do."""
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise unreachable(self.where, str(error) or type(error).__name__) from error


class _Login(httpx2.Auth):
    """Answers a registry's challenge: with name and password, or with a token from the server that it names."""

    requires_response_body = True

    def __init__(self, host: str, login: Credentials, *, plain: bool) -> None:
        self._host, self._login, self._plain = host, login, plain
        self._known: dict[bool, str] = {}

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send what is known; where it is not enough, what the answer asks for. No other host is told anything."""
        if request.url.netloc.decode() != self._host:
            yield request
            return
        writes = request.method not in {"GET", "HEAD"}
        if known := self._known.get(writes):
            request.headers["Authorization"] = known
        answer = yield request
        if answer.status_code != httpx2.codes.UNAUTHORIZED or answer.url.netloc.decode() != self._host:
            return
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        if scheme.lower() == "bearer":
            self._known[writes] = _bearer((yield self._token_request(_parameters(rest))))
        elif scheme.lower() == "basic" and self._login.name:
            self._known[writes] = _basic(self._login)
        else:
            return
        request.headers["Authorization"] = self._known[writes]
        yield request

    def _token_request(self, challenge: Mapping[str, str]) -> httpx2.Request:
        """What is sent to the server that gives out tokens: by password, by identity token, or for anybody."""
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and not (self._plain and realm.startswith("http://")):
            raise AccessError(
                f"{self._host} sends its users to {mask(realm) or 'nowhere'} for a token, without encryption",
                "no password was sent; ask who runs the registry",
            )
        asked = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        if self._login.identity:
            form = asked | {
                "grant_type": "refresh_token",
                "client_id": "modelyard",
                "refresh_token": self._login.identity,
            }
            return httpx2.Request("POST", realm, data=form)
        headers = {"Authorization": _basic(self._login)} if self._login.name else {}
        return httpx2.Request("GET", httpx2.URL(realm).copy_merge_params(asked), headers=headers)


def refused(where: Remote, said: str) -> AccessError:
    """The error for a login that is missing, wrong, or not enough."""
    return AccessError(
        f"the registry {where.host} refuses access to {where.path}: {said}",
        f"log in with `docker login {where.host}` (or podman), as someone who may do this",
    )


def unreachable(where: Remote, reason: str) -> UnreachableError:
    """The error for a registry that cannot be talked to, with what most often helps."""
    if "CERTIFICATE_VERIFY_FAILED" in reason or "x509" in reason:
        return UnreachableError(
            f"the registry {where.host} shows a certificate that this machine does not trust: {mask(reason)}",
            f"put its CA into /etc/docker/certs.d/{where.host}/ca.crt, or name it in SSL_CERT_FILE",
        )
    plain = "WRONG_VERSION_NUMBER" in reason or "HTTP response to HTTPS client" in reason or "record layer" in reason
    return UnreachableError(
        f"the registry {where.host} {'speaks plain HTTP' if plain else 'does not answer'}: {mask(reason)}",
        "if that is meant, add --plain-http, and name the registry in the engine's insecure-registries"
        if plain
        else "check its name, the network and the proxy, and run the same command again",
    )


def require_there(where: Remote, error: ImageError) -> UsageError:
    """The error for an image that the registry does not have."""
    return UsageError(
        f"there is no {where} ({error.what})", "check path and tag; `invoke push` says the digest of what it pushed"
    )


def _trusted(host: str) -> ssl.SSLContext:
    try:
        return credentials.trusted(host)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"a certificate for {host} cannot be read: {error}", "repair certs.d or SSL_CERT_FILE"
        ) from error


def _scheme(client: httpx2.Client, where: Remote, host: str, *, plain_http: bool) -> str:
    """`https`; `http` where it was named, or where a registry on this machine's loopback speaks nothing else."""
    if plain_http:
        return "http"
    if where.is_near:
        try:
            client.get(f"https://{host}/v2/")
        except httpx2.ConnectError as error:
            if unreachable(where, str(error)).what.find("speaks plain HTTP") > 0:
                return "http"
            raise
    return "https"


def _media_type(answer: httpx2.Response) -> str:
    told = str(as_object(answer.content, "a manifest").get("mediaType") or "")
    return told or answer.headers.get("Content-Type", "").partition(";")[0]


def _said(answer: httpx2.Response) -> str:
    """The reason in a registry's own words, if it gives one."""
    try:
        errors = answer.json()["errors"]
        words = "; ".join(f"{each.get('code', '')} {each.get('message', '')}".strip() for each in errors)
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f" ({mask(words)[:300]})" if words else ""


def _parameters(challenge: str) -> dict[str, str]:
    return urllib.request.parse_keqv_list(urllib.request.parse_http_list(challenge))


def _basic(login: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{login.name}:{login.password}".encode()).decode()


def _bearer(answer: httpx2.Response) -> str:
    """The header from a token server's answer. Raises `AccessError`, or `UnreachableError` for a server in trouble."""
    host = answer.request.url.host
    if answer.status_code in PASSING:
        raise UnreachableError(f"the token server {host} answered HTTP {answer.status_code}", "try again later")
    try:
        token = answer.json()
        return f"Bearer {token.get('token') or token['access_token']}"
    except (ValueError, LookupError, AttributeError) as error:
        raise AccessError(
            f"the token server {host} gives no token: HTTP {answer.status_code}{_said(answer)}",
            "log in again with `docker login` (or podman login)",
        ) from error
