"""A small registry on loopback: what the OCI distribution API says of documents, and what can go wrong with them."""

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Script:
    """How the registry behaves.

    Attributes:
        basic: `name:password` that it asks for itself.
        bearer: `name:password` that its token server asks for; `anybody` for none.
        referrers: whether it keeps lists of what refers to what.
        failures: how many of the next requests it answers with 503.
        lies: paths of manifests and blobs whose bytes it changes on the way out.

    """

    basic: str = ""
    bearer: str = ""
    referrers: bool = False
    failures: int = 0
    lies: set[str] = field(default_factory=set)


class Registry:
    """The server; a context manager.

    Attributes:
        requests: `METHOD /path` of every request so far.
        headers: the headers of the last request.
        manifests: content and media type by `path@reference`, tags and digests alike.

    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[str] = []
        self.headers: dict[str, str] = {}
        self.forms: list[str] = []
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        routes = [
            Route("/v2/", self._root),
            Route("/token", self._token, methods=["GET", "POST"]),
            Route("/v2/{path:path}/blobs/uploads/{name}", self._upload, methods=["PUT", "DELETE"]),
            Route("/v2/{path:path}/blobs/uploads/", self._begin, methods=["POST"]),
            Route("/v2/{path:path}/blobs/{digest}", self._blob),
            Route("/v2/{path:path}/manifests/{reference}", self._manifest, methods=["GET", "PUT"]),
            Route("/v2/{path:path}/referrers/{digest}", self._referrers),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def host(self) -> str:
        """Its name, with the port."""
        return f"127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}"

    def image(self, path: str, tag: str, configuration: dict[str, Any], **more: Any) -> str:
        """Store an image without layers; its id."""
        content = json.dumps(configuration).encode()
        identity = digest_of(content)
        self.blobs[identity] = content
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "x", "size": len(content), "digest": identity},
            "layers": [{"mediaType": "x", "size": 1 << 20, "digest": f"sha256:{'1' * 64}"}],
            **more,
        }
        self.store(path, tag, json.dumps(manifest).encode(), str(manifest["mediaType"]))
        return identity

    def store(self, path: str, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest under its digest and another name."""
        for each in (reference, digest_of(content)):
            self.manifests[f"{path}@{each}"] = (content, media_type)

    def asked(self, method: str) -> list[str]:
        """The paths of all requests of a method."""
        return [request.partition(" ")[2] for request in self.requests if request.startswith(f"{method} ")]

    def _refusal(self, request: Request) -> Response | None:
        self.requests.append(f"{request.method} {request.url.path}")
        self.headers = dict(request.headers)
        if self.script.failures:
            self.script.failures -= 1
            return _error(503, "UNAVAILABLE", "come back")
        given = request.headers.get("authorization", "")
        if self.script.basic and given != _basic(self.script.basic):
            return _error(401, "UNAUTHORIZED", "authentication required", challenge='Basic realm="tests"')
        if self.script.bearer and given != "Bearer opened":
            scope = f"repository:{request.path_params.get('path', '')}:pull,push"
            challenge = f'Bearer realm="{self.url}/token",service="tests",scope="{scope}"'
            return _error(401, "UNAUTHORIZED", "authentication required", challenge=challenge)
        return None

    async def _root(self, request: Request) -> Response:
        return self._refusal(request) or Response()

    async def _token(self, request: Request) -> Response:
        self.requests.append(f"{request.method} {request.url.path}?{request.url.query}")
        self.forms.append((await request.body()).decode())
        open_to_all = self.script.bearer == "anybody" or self.forms[-1]
        if not open_to_all and request.headers.get("authorization", "") != _basic(self.script.bearer):
            return _error(401, "UNAUTHORIZED", "incorrect username or password")
        return JSONResponse({"access_token": "opened"})

    async def _begin(self, request: Request) -> Response:
        location = f"/v2/{request.path_params['path']}/blobs/uploads/one?state=s"
        return self._refusal(request) or Response(status_code=202, headers={"Location": location})

    async def _upload(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if request.method == "PUT":
            assert request.query_params["state"] == "s"
            self.blobs[request.query_params["digest"]] = await request.body()
        return Response(status_code=201 if request.method == "PUT" else 204)

    async def _blob(self, request: Request) -> Response:
        content = self.blobs.get(request.path_params["digest"])
        if refusal := self._refusal(request) or (None if content is not None else _error(404, "BLOB_UNKNOWN", "no")):
            return refusal
        return Response(self._told(request.path_params["digest"], content or b""))

    async def _manifest(self, request: Request) -> Response:
        path, reference = request.path_params["path"], request.path_params["reference"]
        if refusal := self._refusal(request):
            return refusal
        if request.method == "PUT":
            return self._stored(path, reference, await request.body(), request.headers["content-type"])
        if f"{path}@{reference}" not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        content, media_type = self.manifests[f"{path}@{reference}"]
        headers = {"Docker-Content-Digest": digest_of(content)}
        return Response(self._told(reference, content), media_type=media_type, headers=headers)

    def _stored(self, path: str, reference: str, content: bytes, media_type: str) -> Response:
        self.store(path, reference, content, media_type)
        headers = {"Docker-Content-Digest": digest_of(content)}
        if self.script.referrers and "subject" in json.loads(content):
            headers["OCI-Subject"] = json.loads(content)["subject"]["digest"]
        return Response(status_code=201, headers=headers)

    async def _referrers(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if not self.script.referrers:
            return Response("404 page not found", status_code=404)
        found = {
            digest_of(content): (content, json.loads(content), media_type)
            for content, media_type in self.manifests.values()
        }
        entries = [
            {"mediaType": media_type, "digest": digest, "size": len(content), "artifactType": parsed["artifactType"]}
            for digest, (content, parsed, media_type) in found.items()
            if parsed.get("subject", {}).get("digest") == request.path_params["digest"]
        ]
        return JSONResponse({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})

    def _told(self, name: str, content: bytes) -> bytes:
        return content.replace(b"{", b"{ ", 1) if name in self.script.lies else content


def digest_of(content: bytes) -> str:
    """`sha256:...` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def _error(status: int, code: str, message: str, challenge: str = "") -> Response:
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status_code=status, headers=headers)
