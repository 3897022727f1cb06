"""What checkov says of the manifests: it is too heavy for the project's own environment, and gets one of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from images import manifests
from images.service import Service, Wishes, decide
from tests.containers.yard import Yard
from tests.host.services import EVERYTHING, IMAGE, LABELS, MOUNTED

CHECKOV = "checkov==3.3.30"
OF_THE_COMMAND_LINE = {"CKV_K8S_21": "the namespace is named when the manifests are applied"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkov(yard: Yard) -> Path:
    """The program, in an environment below the cache."""
    home = yard.config.cache / "tools" / CHECKOV
    if not (home / "bin/checkov").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", CHECKOV], check=True)
    return home / "bin/checkov"


@pytest.mark.parametrize(
    "service",
    [
        decide(IMAGE, LABELS, Wishes()),
        decide(IMAGE, MOUNTED, EVERYTHING),
        decide(IMAGE, LABELS, Wishes(kserve=True)),
    ],
    ids=["plain", "everything", "kserve"],
)
def test_checkov_finds_nothing_but_what_the_command_line_says(service: Service, checkov: Path, tmp_path: Path) -> None:
    manifests.write(manifests.texts(service), tmp_path / "out")
    argv = [
        str(checkov),
        "--skip-download",
        f"--directory={tmp_path / 'out'}",
        "--framework=kubernetes",
        "--output=json",
    ]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["summary"]["passed"] > 50
    assert {each["check_id"] for each in found["results"]["failed_checks"]} <= set(OF_THE_COMMAND_LINE)
