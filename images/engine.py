"""The container engine: the only module that runs one. Docker and Podman take the same arguments here."""

import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from images import devices, outcomes
from images.errors import EngineError, ImageError, UsageError

FIRST_CLIENT_WITHOUT_BUILDER = 23
"""Docker clients from this version on build with the buildx plugin only; older ones carry BuildKit's client."""
HARDENED = ("--read-only", "--user=12345", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""Flags under which every image must work: no writable root, no root user, no capability."""
PATIENCE = 30.0
"""Seconds in which an engine says its version; one behind a DOCKER_HOST that is gone never would."""
Line = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the engine says of one image.

    Attributes:
        id: `sha256:...` of its configuration.
        size: uncompressed bytes of all layers.
        layers: diff ids, first the base's.
        labels: its labels.

    """

    id: str
    size: int
    layers: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running container: its id and the address of its port 8080 on this machine."""

    container: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Away:
    """A buildx builder that builds elsewhere: in a container, in a cluster, on another machine.

    Attributes:
        builder: its name, as `docker buildx ls` has it.
        contexts: what it gets for images that only this machine has, as `--build-context` takes it, by reference.

    """

    builder: str
    contexts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A reachable engine that can build.

    Attributes:
        program: path of `docker` or `podman`.
        version: the client's version.
        environment: what its processes get on top of this process's environment.

    """

    program: str
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        host = self.environment.get("DOCKER_HOST", "")
        return f"{Path(self.program).name} {self.version}" + (f" at {host}" if host else "")

    def probe(self) -> str | None:
        """The client's version, when an engine answers that can build; otherwise None."""
        try:
            answer = self._call("version", "--format={{json .}}", timeout=PATIENCE)
            version = str(json.loads(answer.stdout)["Client"]["Version"])
            is_new = int(version.partition(".")[0]) >= FIRST_CLIENT_WITHOUT_BUILDER
        except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError):
            return None
        needs_plugin = is_new and Path(self.program).name == "docker"
        builds = not needs_plugin or not self._call("buildx", "version").returncode
        return version if builds and not answer.returncode else None

    def image(self, reference: str) -> ImageFacts | None:
        """The image of that name or id, or None."""
        done = self._call("image", "inspect", reference)
        if done.returncode:
            self._raise_if_dead(done)
            return None
        facts = json.loads(done.stdout)[0]
        return ImageFacts(
            id=_digest(facts["Id"]),
            size=facts["Size"],
            layers=tuple(facts["RootFS"]["Layers"]),
            labels=facts["Config"].get("Labels") or {},
        )

    def require_image(self, reference: str) -> ImageFacts:
        """The image of that name or id. Raises `EngineError` when it is not here: an engine would run a stranger's."""
        if facts := self.image(reference):
            return facts
        raise EngineError(f"there is no image {reference}", "build it, `invoke pull` it, or name one with --image")

    def load_base(self, tar: Path, reference: str) -> None:
        """Make an image of one root file system, unless it is there already."""
        if self.image(reference) is None:
            self._succeed("import", str(tar), reference)

    def build(
        self,
        folder: Path,
        *,
        args: Mapping[str, str],
        labels: Mapping[str, str],
        log: IO[str],
        line: Line,
        dockerfile: Path | None = None,
        away: Away | None = None,
    ) -> str:
        """Build a folder with no network and return the image's id, which this engine has; nothing is tagged.

        Args:
            folder: the build context.
            args: build arguments.
            labels: labels of the finished image.
            log: where every line of output goes.
            line: called with every line, for progress.
            dockerfile: another file than the folder's `Dockerfile`.
            away: who builds, if not this engine.

        Raises:
            EngineError: a step failed (with the log's tail) or the engine died; DiskFullError: the disk is full.

        """
        iidfile = folder.parent / f"{folder.name}.iid"
        argv = build_command(folder, iidfile, args=args, labels=labels, dockerfile=dockerfile, away=away)
        builder = away.builder if away else ""
        try:
            self._stream(argv, log, line, lambda output: outcomes.failure("a build step failed", output, builder))
            return _digest(iidfile.read_text().strip())
        finally:
            iidfile.unlink(missing_ok=True)

    def driver(self, builder: str) -> str:
        """What drives a buildx builder: `docker-container`, `kubernetes`, `remote`, or `docker` for this very engine.

        Raises `UsageError` when there is no builder of that name.
        """
        if Path(self.program).name != "docker" or self._call("buildx", "version").returncode:
            raise UsageError(
                f"--builder {builder} needs docker with its buildx plugin, which {self} has not",
                "https://github.com/docker/buildx#installing",
            )
        done = self._call("buildx", "inspect", builder, timeout=PATIENCE)
        if match := re.search(r"^Driver:\s+(\S+)", done.stdout, re.MULTILINE) if not done.returncode else None:
            return match[1]
        listed = self._call("buildx", "ls").stdout.splitlines()[1:]
        known = [line.split()[0].rstrip("*") for line in listed if line and not line.startswith((" ", "\\"))]
        raise UsageError(
            f"there is no builder {builder!r}", f"make it by docker buildx create, or name one of: {', '.join(known)}"
        )

    def tag(self, image: str, reference: str) -> None:
        """Give an image a name; the name moves if another image had it."""
        self._succeed("tag", image, reference)

    def push(self, reference: str, line: Line, *, plain_http: bool = False) -> None:
        """Send an image to the registry in its name, with the engine's own login; layers that are there are not sent.

        Raises:
            AccessError: the registry refuses the login; UnreachableError: it does not answer, or died on the way.
            EngineError: the engine failed.

        """
        self._transfer("push", reference, line, plain_http=plain_http)

    def pull(self, reference: str, line: Line, *, plain_http: bool = False) -> None:
        """Bring an image from the registry in its name. Raises as `push` does."""
        self._transfer("pull", reference, line, plain_http=plain_http)

    def save(self, image: str, archive: Path) -> None:
        """Write an image with its layers to a tar, as `docker load` reads it."""
        self._succeed("save", f"--output={archive}", image)

    def remove(self, image: str) -> None:
        """Remove an image that no container needs, whatever its names, if it is there."""
        self._call("rmi", "--force", image)

    def untag(self, reference: str) -> None:
        """Take a name away; the image stays while it has another."""
        self._call("rmi", reference)

    def discard(self, image: str) -> None:
        """Remove an image by its id unless it has a name or a container."""
        self._call("rmi", image)

    def relabel(self, reference: str, labels: Mapping[str, str], work: Path, *, accepted: bool = False) -> str:
        """The id of an image with the same layers and more labels; the new one has no name.

        Args:
            reference: the image by name.
            labels: what is added.
            work: where the build folder is made.
            accepted: whether its outputs differ and were accepted: its server then starts all the same.

        """
        with tempfile.TemporaryDirectory(dir=work) as folder:
            dockerfile = Path(folder) / "context" / "Dockerfile"
            dockerfile.parent.mkdir()
            dockerfile.write_text(f"FROM {reference}\n" + ("ENV MODELYARD_ACCEPT_DIFFERENCES=1\n" if accepted else ""))
            return self.build(dockerfile.parent, args={}, labels=labels, log=io.StringIO(), line=lambda _: None)

    def run(
        self, image: str, *command: str, flags: Sequence[str] = (), timeout: float = 600
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a new container and wait; the container is removed whatever happens."""
        name = f"modelyard-{uuid.uuid4().hex[:12]}"
        try:
            return self._call("run", "--rm", f"--name={name}", *flags, image, *command, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"`{' '.join(command)}` in {image} took longer than {timeout:.0f} s", "is the machine overloaded?"
            ) from error
        finally:
            self._call("rm", "--force", name)

    def gpu_flags(self) -> tuple[str, ...]:
        """The flags that give a container this machine's NVIDIA GPUs; none where the engine cannot."""
        done = self._call("info", "--format={{json .}}", timeout=PATIENCE)
        return devices.gpu_flags(json.loads(done.stdout)) if done.returncode == 0 else ()

    def foreground(self, image: str, port: int, flags: Sequence[str] = ()) -> int:
        """Serve an image on this terminal until it ends; its exit code."""
        argv = [self.program, "run", "--rm", "--init", f"--publish=127.0.0.1:{port}:8080", *flags, image]
        return subprocess.run(argv, check=False, env=self._environment()).returncode

    @contextmanager
    def serve(self, image: str, *command: str, flags: Sequence[str] = ()) -> Iterator[Served]:
        """A running container with its port published on loopback; removed at the end."""
        name = f"modelyard-{uuid.uuid4().hex[:12]}"
        try:
            self._succeed("run", "--detach", f"--name={name}", "--publish=127.0.0.1::8080", *flags, image, *command)
            yield Served(container=name, url=f"http://{self._port(name)}")
        finally:
            self._call("rm", "--force", name)

    def logs(self, container: str) -> str:
        """Both output streams of a container."""
        done = self._call("logs", container)
        return done.stdout + done.stderr

    def stop(self, container: str, grace: int = 30) -> int:
        """SIGTERM, then SIGKILL after `grace` seconds; the container's exit code."""
        self._succeed("stop", f"--time={grace}", container)
        return int(self._succeed("inspect", "--format={{.State.ExitCode}}", container).strip())

    def kill(self, container: str, signal: str) -> None:
        """Send a signal to a container's first process."""
        self._succeed("kill", f"--signal={signal}", container)

    @contextmanager
    def files(self, image: str) -> Iterator[tarfile.TarFile]:
        """The root file system of an image as a stream of tar members."""
        container = self._succeed("create", image).strip()
        process = subprocess.Popen([self.program, "export", container], stdout=subprocess.PIPE, env=self._environment())
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield tar
        finally:
            process.kill()
            process.communicate()
            self._call("rm", "--force", container)

    def prune(self) -> None:
        """Remove images that have no name and the whole build cache; on a shared engine, others' as well."""
        self._call("image", "prune", "--force")
        self._call("builder", "prune", "--all", "--force")

    def images(self, label: str) -> list[str]:
        """The references of all images that carry a label."""
        listing = self._succeed("images", f"--filter=label={label}", "--format={{.Repository}}:{{.Tag}}")
        return sorted(line for line in listing.splitlines() if "<none>" not in line)

    def _port(self, container: str) -> str:
        return self._succeed("port", container, "8080/tcp").strip().splitlines()[0]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "DOCKER_BUILDKIT": "1"}

    def _call(self, *argv: str, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.program, *argv], check=False, text=True, capture_output=True, timeout=timeout, env=self._environment()
        )

    def _succeed(self, *argv: str) -> str:
        done = self._call(*argv)
        if done.returncode:
            self._raise_if_dead(done)
            raise outcomes.failure(f"`{Path(self.program).name} {argv[0]}` failed", done.stderr)
        return done.stdout

    def _raise_if_dead(self, done: "subprocess.CompletedProcess[str]") -> None:
        if outcomes.DEAD.search(done.stderr):
            raise outcomes.failure("", done.stderr)

    def _transfer(self, command: str, reference: str, line: Line, *, plain_http: bool) -> None:
        # docker's own configuration says which registries it talks to without TLS; podman is told each time
        flags = ["--tls-verify=false"] if plain_http and Path(self.program).name == "podman" else []
        self._stream(
            [command, *flags, reference],
            io.StringIO(),
            line,
            lambda output: outcomes.refusal(command, reference, output),
        )

    def _stream(
        self,
        argv: Sequence[str],
        log: IO[str],
        line: Line,
        explained: Callable[[str], ImageError],
    ) -> None:
        with subprocess.Popen(
            [self.program, *argv],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            errors="replace",
        ) as process:
            tail: list[str] = []
            try:
                for text in process.stdout or ():
                    log.write(text)
                    line(text.rstrip())
                    tail = [*tail[-199:], text]
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise explained("".join(tail))


def build_command(
    folder: Path,
    iidfile: Path,
    *,
    args: Mapping[str, str],
    labels: Mapping[str, str],
    dockerfile: Path | None = None,
    away: Away | None = None,
) -> list[str]:
    """The one argv that docker with BuildKit, buildx, podman and buildah all take; for a builder away, buildx's own."""
    return [
        *(_elsewhere(away) if away else ["build"]),
        "--network=none",
        f"--file={dockerfile or folder / 'Dockerfile'}",
        f"--iidfile={iidfile}",
        *(f"--build-arg={key}={value}" for key, value in sorted(args.items())),
        *(f"--label={key}={value}" for key, value in sorted(labels.items())),
        str(folder),
    ]


def _elsewhere(away: Away) -> list[str]:
    """Without provenance of its own, which `docker load` does not take; that of the push has more."""
    contexts = [f"--build-context={name}={where}" for name, where in sorted(away.contexts.items())]
    return [
        "buildx",
        "build",
        f"--builder={away.builder}",
        "--load",
        "--provenance=false",
        "--progress=plain",
        *contexts,
    ]


def _digest(identity: str) -> str:
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"
