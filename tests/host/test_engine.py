import io
import json
import os
import re
from pathlib import Path

import pytest

from images import engine, outcomes
from images.engine import Away, Engine
from images.errors import AccessError, DiskFullError, EngineError, ImageError, UnreachableError, UsageError
from tests.host import samples
from tests.host.samples import Script

# The command line


def test_a_build_has_no_network_and_tags_nothing(tmp_path: Path) -> None:
    argv = engine.build_command(tmp_path, tmp_path / "iid", args={}, labels={})
    assert argv == [
        "build",
        "--network=none",
        f"--file={tmp_path}/Dockerfile",
        f"--iidfile={tmp_path}/iid",
        str(tmp_path),
    ]


def test_arguments_and_labels_are_passed_in_a_fixed_order(tmp_path: Path) -> None:
    argv = engine.build_command(tmp_path, tmp_path / "iid", args={"B": "2", "A": "1 =x"}, labels={"d": "4", "c": ""})
    assert argv[4:-1] == ["--build-arg=A=1 =x", "--build-arg=B=2", "--label=c=", "--label=d=4"]


def test_another_dockerfile_can_be_named(tmp_path: Path) -> None:
    argv = engine.build_command(tmp_path, tmp_path / "iid", args={}, labels={}, dockerfile=Path("/other"))
    assert "--file=/other" in argv


def test_a_builder_away_has_no_network_either_and_sends_the_image_back(tmp_path: Path) -> None:
    away = Away(builder="farm", contexts={"localhost/base:1": "oci-layout:///x:base"})
    argv = engine.build_command(tmp_path, tmp_path / "iid", args={"A": "1"}, labels={}, away=away)
    assert argv == [
        *("buildx", "build", "--builder=farm", "--load", "--provenance=false", "--progress=plain"),
        "--build-context=localhost/base:1=oci-layout:///x:base",
        *("--network=none", f"--file={tmp_path}/Dockerfile", f"--iidfile={tmp_path}/iid", "--build-arg=A=1"),
        str(tmp_path),
    ]


# What its failures mean

STEP = """#5 [2/2] RUN python3 -m images.inside.export
#5 0.142 Traceback (most recent call last):
#5 0.142 {line}
#5 ERROR: executor failed running [/bin/sh -c python3 -m images.inside.export]: exit code: 1
------
 > [2/2] RUN python3 -m images.inside.export:
------
executor failed running [/bin/sh -c python3 -m images.inside.export]: exit code: 1"""
PODMAN_STEP = """STEP 2/2: RUN python3 -m images.inside.export
{line}
Error: building at STEP "RUN python3 -m images.inside.export": while running runtime: exit status 1"""


@pytest.mark.parametrize(
    "output",
    [
        "Cannot connect to the Docker daemon at unix:///run/docker.sock. Is the docker daemon running?",
        "#9 transferring context\nerror reading from server: EOF",
        "failed to receive status: rpc error: code = Unavailable desc = transport is closing",
        'error during connect: Post "http://%2Frun%2Fdocker.sock/v1.41/containers/create": EOF',
        "read unix @->/run/docker.sock: read: connection reset by peer",
        "error waiting for container: unexpected EOF",
        "#9 [export 4/6] RUN python3\nserver did not provide an image ID. Cannot write tmp.iid",
        "Error: unable to connect to Podman socket: dial tcp 127.0.0.1:9: connect: connection refused",
    ],
)
def test_a_dead_engine_is_said_to_be_dead(output: str) -> None:
    error = outcomes.failure("a build step failed", output)
    assert (type(error), error.what) == (EngineError, "the container engine stopped answering")


@pytest.mark.parametrize(
    "output",
    [
        "failed to solve: failed to copy: write /var/lib/docker/tmp/blob: no space left on device",
        "Error response from daemon: Error processing tar file(exit status 1): write /a: no space left on device",
        STEP.format(line="OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_full_disk_is_said_to_be_full(output: str) -> None:
    assert isinstance(outcomes.failure("a build step failed", output), DiskFullError)


@pytest.mark.parametrize("output", [STEP, PODMAN_STEP])
@pytest.mark.parametrize(
    "line", ["ValueError: no such layer", "ConnectionRefusedError: [Errno 111] Connection refused"]
)
def test_a_failing_step_is_shown_whatever_it_speaks_of(output: str, line: str) -> None:
    error = outcomes.failure("a build step failed", output.format(line=line))
    assert isinstance(error, EngineError)
    assert error.what.startswith("a build step failed; the end of its output:\n")
    assert line in error.what


def test_of_a_long_output_only_the_end_is_shown() -> None:
    said = outcomes.failure("it failed", "\n".join(f"line {number}" for number in range(100))).what
    assert "line 75\n" in said
    assert "line 74\n" not in said


# Asking it


def machine(folder: Path) -> Engine:
    return Engine(program=f"{folder}/docker", version="20.10")


BUILT = (
    'for a in "$@"; do case "$a" in --iidfile=*) echo {identity} > "${{a#*=}}" ;; esac; done; echo "#1 one"; echo two'
)


def build(folder: Path, context: Path, lines: list[str]) -> str:
    context.mkdir()
    return machine(folder).build(context, args={}, labels={}, log=io.StringIO(), line=lines.append)


@pytest.mark.starts_programs
@pytest.mark.parametrize("identity", ["sha256:abc", "abc"])
def test_a_build_ends_with_the_images_id(identity: str, script: Script, tmp_path: Path) -> None:
    assert build(script("bin", BUILT.format(identity=identity)), tmp_path / "context", []) == "sha256:abc"


@pytest.mark.starts_programs
def test_a_build_tells_every_line_and_leaves_no_file(script: Script, tmp_path: Path) -> None:
    lines: list[str] = []
    build(script("bin", BUILT.format(identity="abc")), tmp_path / "context", lines)
    assert lines == ["#1 one", "two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "context"]


@pytest.mark.starts_programs
def test_a_failed_build_shows_its_end(script: Script, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="a build step failed; the end of its output:\nthe reason"):
        build(script("bin", "echo the reason >&2; exit 1"), tmp_path / "context", [])


BUILDX = (
    'case "$*" in "buildx inspect farm") echo "Driver:   remote" ;; "buildx version") ;; '
    '"buildx ls") {listed} ;; *) exit 1 ;; esac'
)
LISTED = r'printf "NAME/NODE DRIVER\\ndefault* docker\\n \\\\_ default x\\nfarm kubernetes\\n"'


@pytest.mark.starts_programs
def test_a_builder_that_is_there_says_what_drives_it(script: Script) -> None:
    assert machine(script("bin", BUILDX.format(listed="true"))).driver("farm") == "remote"


@pytest.mark.starts_programs
def test_a_builder_that_is_not_there_is_told_with_those_that_are(script: Script) -> None:
    with pytest.raises(UsageError, match=r"there is no builder 'nobody'\n  -> .*: default, farm$"):
        machine(script("bin", BUILDX.format(listed=LISTED))).driver("nobody")


@pytest.mark.starts_programs
def test_without_buildx_there_are_no_builders(script: Script) -> None:
    with pytest.raises(UsageError, match="--builder farm needs docker with its buildx plugin"):
        machine(script("bin", "exit 1")).driver("farm")


@pytest.mark.starts_programs
@pytest.mark.parametrize("said", ["error reading from server: EOF", " > [internal] waiting for connection:"])
def test_a_builder_that_stops_is_named(said: str, script: Script, tmp_path: Path) -> None:
    folder, away = script("bin", f"echo '{said}'; exit 1"), Away(builder="farm", contexts={})
    with pytest.raises(EngineError, match="the builder farm does not answer, or stopped:\n"):
        machine(folder).build(tmp_path, args={}, labels={}, log=io.StringIO(), line=lambda _: None, away=away)


@pytest.mark.starts_programs
def test_an_interrupted_build_ends_the_engines_process(script: Script, tmp_path: Path) -> None:
    folder = script("bin", f"echo $$ > {tmp_path}/pid; echo started; exec sleep 60")
    with pytest.raises(KeyboardInterrupt):
        machine(folder).build(tmp_path, args={}, labels={}, log=io.StringIO(), line=_interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def _interrupt(_line: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.starts_programs
def test_a_container_that_takes_too_long_is_removed(script: Script, tmp_path: Path) -> None:
    folder = script("bin", f'echo "$@" >> {tmp_path}/asked; [ "$1" = run ] && exec sleep 60')
    with pytest.raises(EngineError, match="`smoke-test` in image took longer than 0 s"):
        machine(folder).run("image", "smoke-test", timeout=0.5)
    asked = (tmp_path / "asked").read_text().splitlines()
    name = re.findall(r"--name=(\S+)", asked[0])
    assert asked[1] == f"rm --force {name[0]}"


INSPECTED = [{"Id": "abc", "Size": 7, "RootFS": {"Layers": ["sha256:1"]}, "Config": {"Labels": None}}]


@pytest.mark.starts_programs
def test_an_image_is_described(script: Script) -> None:
    facts = machine(script("bin", f"echo '{json.dumps(INSPECTED)}'")).image("name")
    assert facts == engine.ImageFacts(id="sha256:abc", size=7, layers=("sha256:1",), labels={})


@pytest.mark.starts_programs
def test_an_image_that_is_not_there_is_none(script: Script) -> None:
    assert machine(script("bin", "echo '[]'; echo 'Error: No such image: name' >&2; exit 1")).image("name") is None


@pytest.mark.starts_programs
def test_a_dead_engine_is_not_taken_for_a_missing_image(script: Script) -> None:
    with pytest.raises(EngineError, match="stopped answering"):
        machine(script("bin", "echo '[]'; echo 'Cannot connect to the Docker daemon' >&2; exit 1")).image("name")


@pytest.mark.starts_programs
def test_a_base_that_is_there_is_not_loaded_again(script: Script, tmp_path: Path) -> None:
    folder = script("bin", f"echo $1 >> {tmp_path}/asked; echo '{json.dumps(INSPECTED)}'")
    machine(folder).load_base(tmp_path / "base.tar", "base")
    assert (tmp_path / "asked").read_text() == "image\n"


@pytest.mark.starts_programs
@pytest.mark.parametrize(
    ("said", "kind"),
    [("no space left on device", DiskFullError), ("Cannot connect to the Docker daemon", EngineError)],
)
def test_a_base_that_cannot_be_loaded_is_an_error_of_its_kind(
    said: str, kind: type[ImageError], script: Script
) -> None:
    folder = script("bin", f'[ "$1" = import ] && echo "{said}" >&2; exit 1')
    with pytest.raises(kind):
        machine(folder).load_base(Path("base.tar"), "base")


@pytest.mark.starts_programs
def test_the_files_of_an_image_are_read_and_its_container_removed(script: Script, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(samples.tar({"usr/bin/python3": 3}))
    cases = f"case $1 in create) echo c1 ;; export) cat {tmp_path}/root.tar ;; rm) echo $3 > {tmp_path}/removed ;; esac"
    with machine(script("bin", cases)).files("image") as files:
        assert [(member.name, member.size) for member in files] == [("usr/bin/python3", 3)]
    assert (tmp_path / "removed").read_text() == "c1\n"


@pytest.mark.starts_programs
def test_a_served_image_is_reached_on_the_loopback_and_removed(script: Script, tmp_path: Path) -> None:
    asked = f'echo "$@" >> {tmp_path}/asked; [ "$1" = port ] && echo 127.0.0.1:49153'
    with machine(script("bin", f"{asked}; exit 0")).serve("image", flags=["--read-only"]) as served:
        assert served.url == "http://127.0.0.1:49153"
    lines = (tmp_path / "asked").read_text().splitlines()
    assert "--publish=127.0.0.1::8080 --read-only image" in lines[0]
    assert lines[-1] == f"rm --force {served.container}"


# Pushing and pulling


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("unauthorized: authentication required", AccessError),
        ("denied: requested access to the resource is denied", AccessError),
        ("no basic auth credentials", AccessError),
        ("1: Retrying in 1 second\ndial tcp 10.0.0.1:443: connect: connection refused", UnreachableError),
        ("error parsing HTTP 502 response body", UnreachableError),
        ("write: broken pipe", UnreachableError),
        ("unexpected EOF", UnreachableError),
        ("x509: certificate signed by unknown authority", UnreachableError),
        ("http: server gave HTTP response to HTTPS client", UnreachableError),
        ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", EngineError),
        ("write /var/lib/x: no space left on device", DiskFullError),
        ("tag does not exist", EngineError),
    ],
)
def test_what_an_engine_says_of_a_push_has_its_kind(output: str, kind: type[ImageError]) -> None:
    assert type(outcomes.refusal("push", "reg.example/m:1", output)) is kind


def test_a_refused_push_names_the_registry_and_no_password() -> None:
    error = outcomes.refusal("push", "reg.example/m:1", "denied: https://tester:sesame@reg.example/v2/")
    assert "reg.example" in error.what
    assert "sesame" not in error.what


def test_tries_in_between_are_not_repeated_in_the_error() -> None:
    output = "1: Retrying in 1 second\n2: Retrying in 1 second\ndial tcp: connection refused\n"
    assert "Retrying" not in outcomes.refusal("push", "reg.example/m:1", output).what


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("x509: certificate signed by unknown authority", "/etc/docker/certs.d/reg.example:1/ca.crt"),
        ("connection refused", "run the same command again"),
    ],
)
def test_what_helps_depends_on_why(output: str, advice: str) -> None:
    assert advice in outcomes.refusal("push", "reg.example:1/m:1", output).hint


@pytest.mark.starts_programs
@pytest.mark.parametrize(("name", "flags"), [("docker", ""), ("podman", "--tls-verify=false ")])
def test_only_podman_is_told_of_plain_http(name: str, flags: str, script: Script) -> None:
    machine = Engine(program=str(script("bin", 'echo "$@"', name) / name), version="")
    said: list[str] = []
    machine.push("reg.example/m:1", said.append, plain_http=True)
    machine.pull("reg.example/m:1", said.append, plain_http=True)
    assert said == [f"push {flags}reg.example/m:1", f"pull {flags}reg.example/m:1"]


@pytest.mark.starts_programs
def test_a_push_that_fails_is_an_error_of_its_kind(script: Script) -> None:
    machine = Engine(program=str(script("bin", "echo denied >&2; exit 1") / "docker"), version="")
    with pytest.raises(AccessError):
        machine.push("reg.example/m:1", lambda _: None)


@pytest.mark.starts_programs
def test_an_image_is_saved_to_a_file(script: Script, tmp_path: Path) -> None:
    machine = Engine(program=str(script("bin", 'echo "$@" > "${2#--output=}"') / "docker"), version="")
    machine.save("sha256:1", tmp_path / "image.tar")
    assert (tmp_path / "image.tar").read_text() == f"save --output={tmp_path}/image.tar sha256:1\n"
