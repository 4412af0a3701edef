"""A Meltano project of a user, which shares the installed plugins of this project."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.tap import environment

HOME = Path(__file__).parent.parent
MELTANO = HOME / ".venv-meltano" / "bin" / "meltano"


@dataclass
class Project:
    """A folder with a meltano.yml, and the environment variables of its user."""

    folder: Path
    variables: dict[str, str]

    def __post_init__(self) -> None:
        plugins = self.folder / ".meltano"
        plugins.mkdir()
        for kind in ("extractors", "loaders"):
            (plugins / kind).symlink_to(HOME / ".meltano" / kind)
        self.file.write_text((HOME / "meltano.yml").read_text())

    @property
    def file(self) -> Path:
        """The project's meltano.yml."""
        return self.folder / "meltano.yml"

    def add(self, settings: str) -> None:
        """Add YAML to meltano.yml."""
        self.file.write_text(yaml.safe_dump(_merged(yaml.safe_load(self.file.read_text()), yaml.safe_load(settings))))

    def run(self, script: str, status: int = 0) -> str:
        """Run a shell script in the folder, check its exit status and return its output."""
        path = f"{MELTANO.parent}{os.pathsep}{os.environ['PATH']}"
        finished = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment(PATH=path, **self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert finished.returncode == status, finished.stdout
        return finished.stdout


def shown(page: str, language: str) -> list[str]:
    """Return the code blocks in a language on a page of the documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (HOME / page).read_text(), re.DOTALL | re.MULTILINE)


def _merged(old: Any, new: Any) -> Any:
    """Return two YAML values merged; plugins with the same name become one."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(item, dict) for item in old + new):
        named = {item["name"]: item for item in old}
        return list({**named, **{item["name"]: _merged(named.get(item["name"]), item) for item in new}}.values())
    return new
