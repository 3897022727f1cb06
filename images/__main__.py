"""The first command on a fresh machine: makes `.venv` from the lock, sets the machine up, hands over to Invoke.

`python3 -m images build --target T` is `invoke setup` and `invoke build --target T` in an environment that needs
nothing but Python. Standard library only.
"""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "modelyard.lock.sha256"
"""Written last: an environment without it, or of another lock, is made anew."""
OLDEST = (3, 11)
LOCKED_FOR = ((3, 11), "linux", "x86_64")
NEEDS_SETUP = {"build", "smoke", "run", "bench", "benchmark"}
"""Commands that use the engine. `test` sets up by itself."""


def main(arguments: list[str]) -> int:
    """Run `invoke` with these arguments; its exit code."""
    if sys.version_info < OLDEST:
        return _fail(f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed")
    if not _is_current() and (code := _make_environment()):
        return code
    os.chdir(ROOT)
    invoke = [str(VENV / "bin/python"), "-m", "invoke"]
    arguments = arguments or ["--list"]
    if (
        arguments
        and arguments[0] in NEEDS_SETUP
        and "--json" not in arguments
        and (code := subprocess.call([*invoke, "setup"]))
    ):
        return code
    return os.execv(invoke[0], [*invoke, *arguments])  # noqa: S606 - the process becomes Invoke's, signals too


def _is_current() -> bool:
    return STAMP.exists() and STAMP.read_text() == _digest()


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def _make_environment() -> int:
    print(f"making {VENV} from {LOCK.name} (hash-locked)", file=sys.stderr, flush=True)
    if _venv() and (not _can_install() or _install_venv() or _venv()):
        return _fail("this Python has no venv", "install it (on Debian or Ubuntu: apt-get install python3-venv)")
    pip = [str(VENV / "bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    if subprocess.call([*pip, *_requirements()]):
        return _fail("pip could not install what the commands need", "its message is above")
    STAMP.write_text(_digest())
    return 0


def _venv() -> int:
    return subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)], stdout=subprocess.DEVNULL)


def _requirements() -> list[str]:
    """The lock where it fits; elsewhere the versions that pyproject.toml allows, unlocked."""
    if (sys.version_info[:2], sys.platform, platform.machine()) == LOCKED_FOR:
        return ["--require-hashes", "--no-deps", "--requirement", str(LOCK)]
    import tomllib  # noqa: PLC0415 - not in the Pythons that main() turns away

    print(f"{LOCK.name} is for Python 3.11 on linux/amd64: taking the newest versions instead", file=sys.stderr)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]


def _can_install() -> bool:
    return os.geteuid() == 0 and Path("/usr/bin/apt-get").exists()


def _install_venv() -> int:
    print("installing python3-venv with apt-get", file=sys.stderr, flush=True)
    subprocess.call(["apt-get", "update", "-qq"])
    return subprocess.call(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-venv"])


def _fail(what: str, hint: str = "") -> int:
    print(f"error: {what}" + (f"\n  -> {hint}" if hint else ""), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
