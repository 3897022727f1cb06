"""The image's entrypoint: serve | smoke-test | bench | info | health."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from images.inside.errors import Exit, FatalError

ARTIFACT = Path("/artifact")
SHORTEST = 0.1
"""Seconds of a measurement."""
USAGE = 64
"""EX_USAGE of sysexits.h: none of `Exit`'s codes, which speak of the artifact."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(argv)
    try:
        code: int = options.command(options)
    except FatalError as error:
        print(f"modelyard: {error.exit_code.words.lower()}: {error}", file=sys.stderr)
        return error.exit_code
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with `USAGE`: argparse's own 2 would say that this machine cannot run the artifact."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from images.inside import settings

    root = _Parser(
        prog="modelyard-image",
        description="One verified model, ready to serve. Without a command it serves.",
        epilog="COMMAND --help lists a command's flags; those of serve are variables, too. A wrong one: exit code 64.",
    )
    root.add_argument("--artifact", type=Path, default=ARTIFACT, help=argparse.SUPPRESS)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve", help="check files, hardware and reference, then serve HTTP on port 8080 (the default)"
    )
    settings.add_arguments(serve)
    serve.set_defaults(command=_serve)
    smoke = commands.add_parser(
        "smoke-test", help="prove the artifact: exit 0 pass, 1 outputs differ, 2 cannot run here, 3 damaged"
    )
    smoke.add_argument(
        "--device", default="", help="such as cpu, where the image is made for another (MODELYARD_DEVICE)"
    )
    asked = (
        "ask this server of the same image, http://HOST[:PORT], in place of one of its own; MODELYARD_API_KEY opens it"
    )
    smoke.add_argument("--url", type=_url, help=asked)
    smoke.set_defaults(command=_smoke)
    bench = commands.add_parser("bench", help="measure latency, throughput, CPU time and memory")
    bench.add_argument("--seconds", type=_seconds, default=3.0, help="per measurement (default 3)")
    lengths = "input lengths of a model that reads text (default 16 128; 128 of a model that generates)"
    bench.add_argument("--lengths", type=_whole, nargs="+", default=[], metavar="TOKENS", help=lengths)
    clients = "concurrent clients (default 1 4 16; 1 4 8 16 of a model that generates)"
    bench.add_argument("--clients", type=_whole, nargs="+", default=[], metavar="N", help=clients)
    bench.set_defaults(command=_bench)
    info = commands.add_parser("info", help="say what is in the image")
    info.set_defaults(command=_info)
    for command in (smoke, bench, info):
        command.add_argument("--json", action="store_true", help="print JSON")
    health = commands.add_parser("health", help="ask the running server whether it is ready: exit 0 or 1")
    health.set_defaults(command=_health)
    return root


def _seconds(text: str) -> float:
    """Long enough for an answer, and no `nan`."""
    if not re.fullmatch(r"\d{1,6}(\.\d*)?|\.\d+", text) or float(text) < SHORTEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {SHORTEST}")
    return float(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999")
    return int(text)


def _url(text: str) -> str:
    if not re.fullmatch(r"http://[^/\s?#@]+/?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not http://HOST[:PORT]")
    return text


def _serve(options: argparse.Namespace) -> int:
    from images.inside import server, settings, smoke
    from images.inside.records import read_manifest

    try:
        chosen = settings.from_args(options, os.environ)
        manifest = read_manifest(options.artifact)
    except settings.SettingsError as error:
        print(f"modelyard: {error}", file=sys.stderr)
        return USAGE
    return server.serve(manifest, chosen, lambda: smoke.checked(options.artifact, manifest, chosen))


def _smoke(options: argparse.Namespace) -> int:
    import msgspec

    from images.inside import report, settings, smoke

    try:
        chosen = settings.from_environment(os.environ)
    except settings.SettingsError as error:
        print(f"modelyard: {error}", file=sys.stderr)
        return USAGE
    result = smoke.run(options.artifact, options.device or chosen.device, options.url or "")
    print(msgspec.json.encode(result).decode() if options.json else report.table(result))
    return result.exit


def _bench(options: argparse.Namespace) -> int:
    from images.inside import bench

    result = bench.run(options.artifact, options.seconds, options.lengths, options.clients)
    print(json.dumps(bench.as_json(result)) if options.json else bench.table(result))
    return Exit.PASS


def _info(options: argparse.Namespace) -> int:
    from images.inside import info

    facts = info.collect(options.artifact)
    print(json.dumps(facts) if options.json else info.table(facts))
    return Exit.PASS


def _health(options: argparse.Namespace) -> int:
    import urllib.request

    from images.inside import settings

    del options
    port = settings.from_environment(os.environ).port
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=4) as response:
            return 0 if response.status == 200 else 1  # noqa: PLR2004
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
