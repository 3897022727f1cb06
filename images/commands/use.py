"""The commands that prove, serve and measure an image."""

from invoke.context import Context
from invoke.exceptions import Exit

from images import config
from images.commands.common import as_json, command, image_of, readable, weights_of
from images.errors import UsageError

PORTS = range(1, 1 << 16)
SHORTEST = 0.1
"""Seconds of a measurement, as the image's own command has it."""


@command(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "device": "such as cpu or cuda, where the image can run on several",
        "weights": "folder with the model's files, for an image that has them mounted",
        "json": "print JSON",
    }
)
@readable
def smoke(
    _context: Context, target: str = "", image: str = "", device: str = "", weights: str = "", json: bool = False
) -> None:
    """Run an image's smoke test, hardened and without network."""
    from images import engines, verify
    from images.inside import report

    reference, folder = image_of(target, image), weights_of(weights)
    machine = engines.require(config.load())
    machine.require_image(reference)
    verdict = verify.run(machine, reference, device=device, weights=folder)
    print(as_json(verdict) if json else report.table(verdict))
    if error := verify.failure(verdict):
        raise error


@command(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "port": "port on this machine (default 8080)",
        "device": "such as cpu or cuda, where the image can run on several",
        "weights": "folder with the model's files, for an image that has them mounted",
    }
)
@readable
def run(
    _context: Context, target: str = "", image: str = "", port: int = 8080, device: str = "", weights: str = ""
) -> None:
    """Serve an image on 127.0.0.1 until Ctrl-C; one that wants a GPU gets those of this machine."""
    from images import devices, engines

    if port not in PORTS:
        raise UsageError(f"--port {port} is none", f"write a number from {PORTS.start} to {PORTS.stop - 1}")
    reference, folder = image_of(target, image), weights_of(weights)
    machine = engines.require(config.load())
    machine.require_image(reference)
    told = devices.flags(machine, reference, device=device, weights=folder)
    print(f"serving {reference} on http://127.0.0.1:{port} (docs at /docs); Ctrl-C stops it", flush=True)
    if code := machine.foreground(reference, port, told):
        raise Exit(f"error: the server ended with exit code {code}", code)


@command(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "seconds": "per measurement (default 3)",
        "lengths": "tokens of inputs, such as 16,128; the image's own choice when left out",
        "clients": "how many ask at once, such as 1,8; the image's own choice when left out",
        "device": "such as cpu or cuda, where the image can run on several",
        "weights": "folder with the model's files, for an image that has them mounted",
        "json": "print JSON",
    }
)
@readable
def bench(
    _context: Context,
    target: str = "",
    image: str = "",
    seconds: float = 3.0,
    lengths: str = "",
    clients: str = "",
    device: str = "",
    weights: str = "",
    json: bool = False,
) -> None:
    """Measure an image: latency, throughput, CPU time, memory."""
    from images import devices, engines

    if seconds < SHORTEST:
        raise UsageError(f"--seconds {seconds:g} is too short", f"write a number from {SHORTEST}")
    asked = [*_numbers("lengths", lengths), *_numbers("clients", clients), *(["--json"] if json else [])]
    reference, folder = image_of(target, image), weights_of(weights)
    machine = engines.require(config.load())
    machine.require_image(reference)
    told = devices.flags(machine, reference, device=device, weights=folder)
    done = machine.run(reference, "bench", f"--seconds={seconds}", *asked, flags=told)
    print(done.stdout, end="")
    if done.returncode:
        raise Exit(f"error: the benchmark failed:\n{done.stderr}", 1)


def _numbers(option: str, text: str) -> list[str]:
    """An option of an image's own command: numbers, or nothing when there are none."""
    if not text:
        return []
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise UsageError(f"--{option} is {text!r}: numbers above 0 were expected", f"write, say, --{option} 1,8")
    return [f"--{option}", *numbers]
