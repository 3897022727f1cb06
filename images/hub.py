"""A model from a hub, in huggingface_hub's own cache. The only module that asks a hub.

What another tool has downloaded is not downloaded again.
"""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from images import digests, files
from images.errors import ImageError, ModelError, UnreachableError, mask
from images.progress import Report
from images.selection import Select, Selection

if TYPE_CHECKING:
    from httpx2 import Request

TIMEOUT = 10
"""Seconds that a hub has to answer, and to go on answering."""
ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Snapshot(NamedTuple):
    """The selected files of one commit; they may be links into huggingface_hub's cache."""

    commit: str
    folder: Path
    selection: Selection


def fetch(repo: str, revision: str, select: Select, report: Report) -> Snapshot:
    """Bring a model's files to this machine when they are not here; a full commit sha in the cache needs no network.

    Raises:
        ModelError: the hub shows no such model or revision, or `select` refuses it.
        UnreachableError: the hub did not answer.

    """
    commit = revision if _COMMIT.fullmatch(revision) else None
    found = _cached(repo, commit, select) if commit else None
    if not found:
        with _hub_errors(repo, revision):
            _limit_waiting()
            found = _download(repo, revision, select, report)
    return found


def expected_sha256(file: Path) -> str:
    """The digest that the hub gave for a file, when it gave one: huggingface_hub names a large file's blob by it."""
    blob = file.readlink().name if file.is_symlink() else ""
    return blob if digests.HEX.fullmatch(blob) else ""


def _cached(repo: str, commit: str, select: Select) -> Snapshot | None:
    """The model when huggingface_hub's cache has every file of it; no network."""
    from huggingface_hub import get_cached_repo_tree, hf_hub_download  # noqa: PLC0415 - start-up time
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    def local(path: str) -> Path:
        return Path(hf_hub_download(repo, path, revision=commit, local_files_only=True))

    try:
        names = {file.path: file.size for file in get_cached_repo_tree(repo, revision=commit)}
        selection = select(names, lambda path: files.read_json(local(path), path))
        folder, *_ = [local(path).parent for path in ("config.json", *selection.paths)]  # raises when one is missing
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None
    return Snapshot(commit, folder, selection)


def _download(repo: str, revision: str, select: Select, report: Report) -> Snapshot:
    """Ask for the commit, read the small files that decide what is needed, then bring that and nothing else."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download  # noqa: PLC0415 - start-up time

    endpoint = _endpoint()
    info = HfApi(endpoint=endpoint).model_info(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
    commit = str(info.sha)
    if found := _cached(repo, commit, select):
        return found
    report(f"{repo}@{revision} is commit {commit}" if revision != commit else f"downloading {repo}@{commit}")
    names = {file.rfilename: file.size or 0 for file in info.siblings or ()}

    def read(path: str) -> Any:
        return files.read_json(
            Path(hf_hub_download(repo, path, revision=commit, endpoint=endpoint, tqdm_class=_progress(report))), path
        )

    selection = select(names, read)
    report(f"downloading {len(selection.paths)} files of {repo}")
    patterns = [glob.escape(path) for path in selection.paths]
    folder = snapshot_download(
        repo, revision=commit, endpoint=endpoint, allow_patterns=patterns, tqdm_class=_progress(report), max_workers=4
    )
    return Snapshot(commit, Path(folder), selection)


def _limit_waiting() -> None:
    """Give a time-out to the requests that huggingface_hub sends without one: lists of files and of revisions."""
    from huggingface_hub import get_session  # noqa: PLC0415 - start-up time

    session = get_session()
    before = session.event_hooks["request"]
    if _limit not in before:
        session.event_hooks = {**session.event_hooks, "request": [*before, _limit]}


def _limit(request: "Request") -> None:
    given = request.extensions.get("timeout", {})
    unset = {kind: TIMEOUT for kind in ("connect", "read", "write", "pool") if given.get(kind) is None}
    request.extensions = {**request.extensions, "timeout": {**given, **unset}}


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _progress(report: Report) -> Any:
    """A tqdm class that reports whole tens of per cent in place of drawing bars."""
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415 - start-up time

    class Progress(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.bytes = kwargs.get("unit") == "B" and kwargs.get("desc", "").startswith("Reconstructing")
            self.done, self.said = 0.0, 0
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.done += n or 0
            tenths = int(10 * self.done / self.total) if self.bytes and self.total else 0
            if tenths > self.said:
                self.said = tenths
                report(f"downloaded {tenths * 10} % of {self.total / 1e6:.1f} MB")

    return Progress


@contextmanager
def _hub_errors(repo: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that say what to do."""
    from httpx2 import HTTPError, InvalidURL  # noqa: PLC0415 - start-up time
    from huggingface_hub.errors import HFValidationError, XetDownloadError  # noqa: PLC0415

    try:
        yield
    except (HTTPError, InvalidURL, HFValidationError, XetDownloadError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # this machine's, such as a full disk
        raise _explained(error, repo, revision) from error


def _explained(error: Exception, repo: str, revision: str) -> ImageError:
    from huggingface_hub import errors  # noqa: PLC0415 - start-up time

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__
    if isinstance(error, errors.HFValidationError):
        return ModelError(f"{repo!r} is no hub id: {error}", "write org/name[@revision]")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(
            f"{repo} has no revision {revision!r}{_revisions(repo)}",
            "name a branch, a tag or a full commit sha after the @",
        )
    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{repo} is gated: the hub gives it only to accounts that accepted its terms", _TOKEN)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub {_hub_name()} shows no model {repo}", f"check its name; if it is private or gated: {_TOKEN}"
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if status in {401, 403}:
        return ModelError(f"the hub {_hub_name()} refuses {repo} (HTTP {status})", _TOKEN)
    return _unreachable(error, repo, revision)


_TOKEN = "accept the model's terms on the hub and set HF_TOKEN to a token that may read it"  # noqa: S105 - a sentence


def _unreachable(error: Exception, repo: str, revision: str) -> UnreachableError:
    reason = mask(f"{type(error).__name__}: {error}").strip().splitlines()[0]
    commit = _newest_commit(repo)
    cached = f" (the cache holds {repo}@{commit})" if commit and commit != revision else ""
    return UnreachableError(
        f"the model hub {_hub_name()} did not deliver {repo}: {reason}",
        "check the network and HF_ENDPOINT; a full commit sha that is in the cache, or a folder, needs no hub" + cached,
    )


def _hub_name() -> str:
    from huggingface_hub import constants  # noqa: PLC0415 - start-up time

    set_by = "HF_ENDPOINT=" if _endpoint() else ""
    return mask(f"({set_by}{_endpoint() or constants.ENDPOINT})")


def _newest_commit(repo: str) -> str:
    """The commit of the newest snapshot in huggingface_hub's cache, for a message."""
    from huggingface_hub import constants  # noqa: PLC0415 - start-up time

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    return max(snapshots.glob("*"), key=lambda path: path.stat().st_mtime, default=Path()).name


def _revisions(repo: str) -> str:
    """A few of the revisions that exist, for a message; nothing when the hub does not say."""
    from httpx2 import HTTPError  # noqa: PLC0415 - start-up time
    from huggingface_hub import HfApi  # noqa: PLC0415

    try:
        refs = HfApi(endpoint=_endpoint()).list_repo_refs(repo)
    except HTTPError:
        return ""
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"; it has {', '.join(names[:8])}" + (", ..." if len(names) > 8 else "")  # noqa: PLR2004 - a readable line
