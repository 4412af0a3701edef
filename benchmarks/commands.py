"""The contenders and their command lines."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.running import OUTPUT, PROJECT, STATE, Contender

API_KEY = "trk_benchmark"
_HERE = PROJECT / "benchmarks"


def ours(name: str, stream: str = "offers", metadata: dict[str, Any] | None = None, **settings: Any) -> Contender:
    """Return the installed tap, which reads one stream, with metadata for it in the catalog."""
    return _tap(name, [str(Path(sys.executable).with_name("tap-trackly"))], stream, settings, metadata)


def template(stream: str = "offers") -> Contender:
    """Return the tap from the SDK's template, which reads one stream."""
    return _tap("SDK template", [sys.executable, "-m", "benchmarks.contenders.template_tap"], stream, {})


def configured_target(tap: Contender, database: str) -> Contender:
    """Return a tap piped into target-postgres as configured in meltano.yml."""
    loaders = yaml.safe_load((PROJECT / "meltano.yml").read_text())["plugins"]["loaders"]
    (loader,) = [loader for loader in loaders if loader["name"] == "target-postgres"]
    # In meltano.yml the schema is a variable that only Meltano sets.
    return _pipe(tap, database, {**loader["config"], "default_target_schema": "trackly"}, loader["env"])


def default_target(tap: Contender, database: str) -> Contender:
    """Return a tap piped into target-postgres with default settings."""
    return _pipe(tap, database, {}, {})


def dlt(*, load: bool) -> Contender:
    """Return dlt's REST API source, which loads into JSON files or only extracts."""

    def arguments(folder: Path) -> list[str]:
        if load:
            return [str(folder / "work"), "--load", str(folder / OUTPUT)]
        return [str(folder / OUTPUT)]

    return _dlt(arguments)


def dlt_to_postgres(database: str) -> Contender:
    """Return dlt's REST API source, which merges changed offers into PostgreSQL."""
    return _dlt(lambda folder: [str(folder / "work"), "--database", database], table="trackly.offers")


def bare(concurrency: int) -> Contender:
    """Return the reader without framework and checks."""
    module = [sys.executable, "-m", "benchmarks.contenders.bare"]
    return Contender(f"bare, {concurrency}", lambda url, _: [*module, url, API_KEY, str(concurrency)])


def drain(concurrency: int) -> Contender:
    """Return the reader that discards all responses."""
    module = [sys.executable, "-m", "benchmarks.contenders.drain"]
    return Contender(f"drain, {concurrency}", lambda url, _: [*module, url, str(concurrency)], delivers=False)


def _tap(
    name: str, program: list[str], stream: str, settings: dict[str, Any], more: dict[str, Any] | None = None
) -> Contender:
    """Return a Singer tap, which starts from the state in its folder if there is one."""
    discovered = json.loads(
        subprocess.run([*program, "--discover"], cwd=PROJECT, capture_output=True, check=True).stdout
    )
    (entry,) = [entry for entry in discovered["streams"] if entry["stream"] == stream]
    for metadata in entry["metadata"]:
        if not metadata["breadcrumb"]:
            metadata["metadata"].update(more or {}, selected=True)

    def command(url: str, folder: Path) -> list[str]:
        config = _write(folder, "config", {"api_key": API_KEY, "api_url": url, **settings})
        catalog = _write(folder, "catalog", {"streams": [entry]})
        state = ["--state", str(folder / STATE)] if (folder / STATE).exists() else []
        return [*program, "--config", config, "--catalog", catalog, *state]

    return Contender(name, command)


def _pipe(tap: Contender, database: str, settings: dict[str, Any], variables: dict[str, str]) -> Contender:
    """Return a tap piped into target-postgres with some settings and environment variables."""
    target = python_with(PROJECT / "requirements" / "target-postgres.txt").with_name("target-postgres")
    environment = ["env", *(f"{name}={value}" for name, value in variables.items())]

    def command(url: str, folder: Path) -> list[str]:
        config = _write(folder, "target", {"sqlalchemy_url": database, **settings})
        load = [*environment, str(target), "--config", config]
        return ["bash", "-o", "pipefail", "-c", f"{shlex.join(tap.command(url, folder))} | {shlex.join(load)}"]

    schema = settings.get("default_target_schema", "melty")  # the default of the target
    return Contender(f"{tap.name}, target-postgres", command, table=f"{schema}.offers")


def _dlt(arguments: Callable[[Path], list[str]], table: str = "") -> Contender:
    script = [str(python_with(_HERE / "requirements" / "dlt.txt")), str(_HERE / "contenders" / "dlt_rest_api.py")]
    return Contender("dlt rest_api", lambda url, folder: [*script, url, API_KEY, *arguments(folder)], table=table)


def _write(folder: Path, name: str, content: dict[str, Any]) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


def python_with(requirements: Path) -> Path:
    """Return the Python of a virtual environment with the pinned requirements in a file."""
    environment = _HERE / ".venvs" / requirements.stem
    python = environment / "bin" / "python"
    installed = environment / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        quiet = ["--quiet", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", *quiet, "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    return python
