"""The Makefile makes each environment with the Python that it is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project import HOME
from tests.tap import environment

# A stand-in for a Python: it says where it is, and makes an environment of which pip does nothing.
PYTHON = """#!/bin/sh
case $1 in
-c) echo "$0" ;;
-m) shift 2; echo "$0 $*" >> made; for folder; do :; done; mkdir -p $folder/bin; cp "$0" $folder/bin/pip ;;
esac
"""
# A Python that says that it is 3.9.
OLD_PYTHON = """#!/bin/sh
exec python3 -c 'import sys; sys.version_info = (3, 9, 18); exec(sys.argv[2])' "$@"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(HOME / "Makefile", tmp_path)
    shutil.copy(HOME / "pyproject.toml", tmp_path)
    shutil.copytree(HOME / "requirements", tmp_path / "requirements")
    for name, script in ("first", PYTHON), ("second", PYTHON), ("old", OLD_PYTHON):
        file = tmp_path / name
        file.write_text(script)
        file.chmod(0o755)
    return tmp_path


def make(folder: Path, target: str, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/bin/env", "make", target, f"PYTHON=./{python}"],
        cwd=folder,
        env=environment(MAKEFLAGS="", MAKELEVEL=""),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_old_python_is_refused(folder: Path) -> None:
    for python in "old", "missing":
        failed = make(folder, "demo", python)
        assert failed.returncode == 2
        (line,) = failed.stderr.splitlines()
        assert "Python 3.10 or later is needed: make demo PYTHON=python3.12" in line
        assert not (folder / ".venv").exists()


def test_environments_follow_the_python(folder: Path) -> None:
    for python in "first", "first", "second", "second", "first":
        assert make(folder, ".venv/done", python).returncode == 0
    assert (folder / "made").read_text().splitlines() == [
        "./first --clear .venv",
        "./second --clear .venv",
        "./first --clear .venv",
    ]
