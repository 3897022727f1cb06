"""A small model hub on loopback: the routes of the Hugging Face Hub that huggingface_hub needs for a download.

It serves local folders as `org/name`. Each `publish` is a commit: it gets a sha and moves the branch `main`; older
commits stay reachable by their sha or a tag. Large files are served as the hub does: by a redirect to another host,
with the digest in the headers of the redirect.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

STALL = 0.8
LARGE = (".safetensors", ".bin", ".onnx")


@dataclass
class Repo:
    """One repository.

    Attributes:
        gated: its files need the hub's token; its description does not.
        private: without the token it looks as if it did not exist.
        commits: sha -> path -> file on disk.
        branches: name -> sha.
        tags: name -> sha.

    """

    gated: bool = False
    private: bool = False
    commits: dict[str, Mapping[str, Path]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        """The sha of a branch, a tag or a sha."""
        names = self.branches | self.tags | {sha: sha for sha in self.commits}
        return names.get(revision)


class Hub:
    """The server; a context manager. `url` is what HF_ENDPOINT is set to.

    Attributes:
        token: the token that opens gated and private repositories.
        requests: `METHOD /path` of every request so far.
        refused: paths in a repository whose download is answered with 403, to interrupt one.
        stalled: `refs` or `tree`, when the next list of that kind is to be late by `STALL` seconds.

    """

    def __init__(self) -> None:
        self.token = "hf_tokenofthetests"  # noqa: S105 - opens nothing else
        self.requests: list[str] = []
        self.refused: set[str] = set()
        self.stalled: set[str] = set()
        self._repos: dict[str, Repo] = {}
        self._blobs: dict[str, Path] = {}
        routes = [
            Route("/api/models/{org}/{name}", self._info),
            Route("/api/models/{org}/{name}/revision/{revision:path}", self._info),
            Route("/api/models/{org}/{name}/tree/{revision:path}", self._tree),
            Route("/api/models/{org}/{name}/refs", self._refs),
            Route("/{org}/{name}/resolve/{rest:path}", self._resolve),
            Route("/blobs/{sha}", self._blob),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def publish(self, repo_id: str, folder: Path, *, tag: str = "", gated: bool = False, private: bool = False) -> str:
        """Commit a folder to `main`, and tag it when asked. Returns the commit's sha."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        content = "".join(f"{_sha256(path)} {name}\n" for name, path in files.items())
        sha = hashlib.sha1(f"{repo_id}\n{content}".encode(), usedforsecurity=False).hexdigest()
        repo = self._repos.setdefault(repo_id, Repo())
        repo.gated, repo.private = gated, private
        repo.commits[sha], repo.branches["main"] = files, sha
        if tag:
            repo.tags[tag] = sha
        return sha

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def port(self) -> int:
        """The port on loopback."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The hub's address."""
        return f"http://127.0.0.1:{self.port}"

    def _repo(self, request: Request) -> Repo | Response:
        self.requests.append(f"{request.method} {request.url.path}")
        repo = self._repos.get(f"{request.path_params['org']}/{request.path_params['name']}")
        if repo is None or (repo.private and not self._allowed(request)):
            return _error(401, "RepoNotFound", "Repository not found")
        return repo

    def _allowed(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    async def _info(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        sha = repo.commit(request.path_params.get("revision", "main"))
        if sha is None:
            return _error(404, "RevisionNotFound", "Invalid rev id")
        repo_id = f"{request.path_params['org']}/{request.path_params['name']}"
        sizes = "blobs" in request.query_params
        siblings = [
            {"rfilename": name, **({"size": file.stat().st_size} if sizes else {})}
            for name, file in repo.commits[sha].items()
        ]
        flags = {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
        return JSONResponse({"id": repo_id, "modelId": repo_id, "sha": sha, "tags": [], "siblings": siblings, **flags})

    async def _stall(self, kind: str) -> None:
        if kind in self.stalled:
            self.stalled.remove(kind)
            await asyncio.sleep(STALL)

    async def _tree(self, request: Request) -> Response:
        await self._stall("tree")
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        sha = repo.commit(request.path_params["revision"])
        if sha is None:
            return _error(404, "RevisionNotFound", "Invalid rev id")
        return JSONResponse(list(_tree(repo.commits[sha])))

    async def _refs(self, request: Request) -> Response:
        await self._stall("refs")
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in repo.branches.items()
        ]
        tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": sha} for name, sha in repo.tags.items()]
        return JSONResponse({"branches": branches, "tags": tags, "converts": []})

    async def _resolve(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        if repo.gated and not self._allowed(request):
            return _error(
                401, "GatedRepo", "Access to this model is restricted. You must be authenticated to access it."
            )
        revision, _, path = request.path_params["rest"].partition("/")
        sha = repo.commit(revision)
        if sha is None:
            return _error(404, "RevisionNotFound", "Invalid rev id")
        if path in self.refused:
            return _error(403, "Forbidden", "Forbidden")
        file = repo.commits[sha].get(path)
        return self._file(file, sha) if file else _error(404, "EntryNotFound", "Entry not found", sha)

    def _file(self, file: Path, sha: str) -> Response:
        commit = {"X-Repo-Commit": sha}
        if not file.name.endswith(LARGE):
            return FileResponse(file, headers={**commit, "ETag": f'"{_git_oid(file)}"'})
        digest = _sha256(file)
        self._blobs[digest] = file
        # Another host name, so that a client treats it as the hub's file storage: no token is sent there.
        linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(file.stat().st_size)}
        return RedirectResponse(f"http://localhost:{self.port}/blobs/{digest}", 302, {**commit, **linked})

    async def _blob(self, request: Request) -> Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if "authorization" in request.headers:
            return _error(400, "TokenLeak", "the token must not leave the hub")
        return FileResponse(self._blobs[request.path_params["sha"]])


def _tree(files: Mapping[str, Path]) -> Iterator[dict[str, object]]:
    for folder in sorted({parent.as_posix() for name in files for parent in Path(name).parents} - {"."}):
        yield {"type": "directory", "path": folder, "oid": hashlib.sha256(folder.encode()).hexdigest()[:40]}
    for name, file in files.items():
        size = file.stat().st_size
        large = {"lfs": {"oid": _sha256(file), "size": size, "pointerSize": 134}} if name.endswith(LARGE) else {}
        yield {"type": "file", "path": name, "size": size, "oid": _git_oid(file), **large}


def _error(status: int, code: str, message: str, commit: str = "") -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": message} | ({"X-Repo-Commit": commit} if commit else {})
    return JSONResponse({"error": message}, status, headers)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git_oid(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
