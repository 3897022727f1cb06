"""A target's Python and platform in the words of pip's flags and of environment markers."""

from images.errors import UsageError

GLIBC = 36
"""Minor version of the bases' glibc 2.x (Debian bookworm): newer manylinux wheels would not load."""
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
OLD_TAGS = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}


def pip_flags(python: str, platform: str) -> list[str]:
    """Flags that make pip choose wheels of the target, newest manylinux first."""
    machine = _machine(platform)
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    tags += [f"{tag}_{machine}" for tag in (*OLD_TAGS[machine], "linux")]
    platforms = [argument for tag in tags for argument in ("--platform", tag)]
    abi = "cp" + python.replace(".", "")
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--abi", abi, *platforms]


def markers(python: str, platform: str) -> dict[str, str]:
    """The values of environment markers on the target."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": _machine(platform),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def _machine(platform: str) -> str:
    if platform not in MACHINES:
        raise UsageError(f"unknown platform {platform!r}", f"known: {', '.join(MACHINES)}")
    return MACHINES[platform]
