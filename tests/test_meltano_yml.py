"""Meltano commands change no other lines of meltano.yml."""

from __future__ import annotations

from difflib import ndiff
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = pytest.mark.source


def changes(project: Project, command: str) -> list[str]:
    """Run a command, and return the lines of meltano.yml that it removed and added."""
    before = project.file.read_text().splitlines()
    project.run(command)
    return [line for line in ndiff(before, project.file.read_text().splitlines()) if line[0] in "-+"]


def test_meltano_keeps_other_lines(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    assert changes(project, "meltano select tap-trackly --exclude offers metadata") == ["+     - '!offers.metadata'"]
    assert changes(project, "meltano config set tap-trackly page_size 50") == ["+     config:", "+       page_size: 50"]
    assert changes(project, "meltano config set target-postgres load_method append-only") == [
        "-       load_method: upsert",
        "+       load_method: append-only",
    ]
