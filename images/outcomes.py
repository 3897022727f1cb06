"""What an engine says when it fails, as the error that it means. Pure."""

import re

from images.errors import AccessError, DiskFullError, EngineError, ImageError, UnreachableError, mask

DEAD = re.compile(
    r"cannot connect to the docker daemon|error reading from server|connection (refused|reset)|"
    r"transport is closing|is the docker daemon running|error during connect|unexpected EOF|"
    r"server did not provide an image ID",  # what docker 20 says when the stream of a build just ends
    re.IGNORECASE,
)
UNCONNECTED = " > [internal] waiting for connection"
"""What buildx says at the end of a build when no builder took it."""
STEP_ENDED = re.compile(r"exit (code|status):? \d")
"""What engines say of a step that failed by itself, whatever its own output speaks of."""
FULL = re.compile(r"no space left on device|ENOSPC", re.IGNORECASE)
GONE = re.compile(
    r"cannot connect to the docker daemon|is the docker daemon running|error during connect", re.IGNORECASE
)
"""What says that the engine is gone, and not the registry that it talks to."""
REFUSED = re.compile(
    r"unauthorized|authentication required|no basic auth credentials|insufficient_scope|\b40[13]\b|"
    r"(?<!permission )denied",  # that is of the engine's own socket
    re.IGNORECASE,
)
UNANSWERED = re.compile(
    r"connection (refused|reset)|no such host|no route to host|timeout|timed out|EOF|x509|broken pipe|\b50[0234]\b|"
    r"HTTP response to HTTPS client|server misbehaving|TLS handshake|use of closed",
    re.IGNORECASE,
)
"""What engines say of a registry that is not there, died, or is not trusted."""


def failure(what: str, output: str, builder: str = "") -> EngineError | DiskFullError:
    """The error that an engine's output stands for.

    Args:
        what: what failed.
        output: its end at least.
        builder: the buildx builder that was asked, when it is not the engine.

    """
    if FULL.search(output):
        return DiskFullError(
            "the disk is full: the container engine could not write",
            "free space, or run `invoke clean` to remove what earlier builds cached",
        )
    if (DEAD.search(output) or (builder and UNCONNECTED in output)) and not STEP_ENDED.search(output):
        if builder:
            said = mask("\n".join(output.strip().splitlines()[-3:]))
            return EngineError(
                f"the builder {builder} does not answer, or stopped:\n{said}",
                f"docker buildx inspect {builder} tells more",
            )
        return EngineError("the container engine stopped answering", "run `invoke setup`, then the same command again")
    tail = "\n".join(output.strip().splitlines()[-25:])
    return EngineError(f"{what}; the end of its output:\n{tail}")


def refusal(command: str, reference: str, output: str) -> ImageError:
    """The error that the output of a push or a pull stands for."""
    lines = [line for line in output.strip().splitlines() if ": Retrying in" not in line]
    host, said = reference.partition("/")[0], mask("\n".join(lines[-3:]))
    if GONE.search(output) or FULL.search(output):
        return failure("", output)
    if REFUSED.search(output):
        return AccessError(
            f"the registry {host} refuses the {command} of {reference}:\n{said}",
            f"log in with `docker login {host}` (or podman), as someone who may do this",
        )
    if UNANSWERED.search(output):
        return UnreachableError(
            f"the registry {host} did not take part in the {command} of {reference} to its end:\n{said}",
            _advice(host, said),
        )
    return EngineError(f"the {command} of {reference} failed; the end of the engine's output:\n{said}")


def _advice(host: str, said: str) -> str:
    if "HTTP response to HTTPS client" in said:
        return f"name {host} in the engine's insecure-registries, if plain HTTP is meant"
    if "x509" in said:
        return f"put its CA into /etc/docker/certs.d/{host}/ca.crt on the engine's machine"
    return "run the same command again: layers that arrived are not sent again"
