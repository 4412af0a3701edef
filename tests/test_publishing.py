"""Publishing: the source distribution, the Meltano Hub definition and the workflows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.project import HOME, Project

pytestmark = pytest.mark.source
HUB = HOME / "hub" / "tap-trackly.yml"


def test_sdist_contents(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    (file,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(file) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    made = {"__pycache__", "target", "logs"}
    for folder in ("requirements", "docs", "examples", "hub", "sandbox", "tap_trackly", "tests"):
        assert {
            str(file.relative_to(HOME))
            for file in (HOME / folder).rglob("*")
            if file.is_file() and not made & {*file.parts}
        } <= names
    assert {"meltano.yml", "pyproject.toml", "README.md", "SECURITY.md", "LICENSE", "Makefile"} <= names
    assert not {name.partition("/")[0] for name in names} & {".github", ".ci", ".meltano", ".venv", "output"}
    for page in (name for name in names if name.endswith(".md") and not name.startswith("tests/")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (HOME / page).read_text()):
            assert os.path.relpath((HOME / page).parent / link, HOME) in names, f"{page} links to {link}"


def test_no_relative_links_on_pypi(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    (file,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        links = re.findall(r"\]\(([^)]+)\)", wheel.read(metadata).decode())
    assert links
    assert all(link.startswith("https://") for link in links)


def test_hub_definition_equals_meltano_yml() -> None:
    definition = yaml.safe_load(HUB.read_text())
    (plugin,) = yaml.safe_load((HOME / "meltano.yml").read_text())["plugins"]["extractors"]
    same = ("name", "namespace", "executable", "capabilities", "settings", "settings_group_validation", "select")
    assert {name: definition[name] for name in same} == {name: plugin[name] for name in same}


def test_meltano_add_from_hub_definition(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    project.file.write_text("project_id: other\nsend_anonymous_usage_stats: false\n")
    project.run(f"meltano add --plugin-type extractor --no-install --from-ref {HUB} tap-trackly")
    (added,) = yaml.safe_load(project.file.read_text())["plugins"]["extractors"]
    assert added["pip_url"] == "tap-trackly"
    assert added["settings"] == yaml.safe_load(HUB.read_text())["settings"]


@pytest.mark.skipif(not (HOME / ".github").exists(), reason="the source distribution has no workflows")
def test_workflows_test_supported_pythons() -> None:
    supported = re.findall(r"Python :: (3\.\d+)", (HOME / "pyproject.toml").read_text())
    workflows = HOME / ".github" / "workflows"
    for name, job in ("ci", "check"), ("distributions", "test"):
        matrix = yaml.safe_load((workflows / f"{name}.yml").read_text())["jobs"][job]["strategy"]["matrix"]
        assert matrix["python-version"] == supported
