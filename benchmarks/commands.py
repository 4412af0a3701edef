"""The contenders, and how each is started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.running import OUTPUT, PROJECT, Contender

API_KEY = "trk_benchmark"
_HERE = PROJECT / "benchmarks"


def ours(name: str, **settings: Any) -> Contender:
    """Return the installed tap with some settings; it reads the offers only, as the others do."""
    tap = str(Path(sys.executable).with_name("tap-trackly"))
    discovered = json.loads(subprocess.run([tap, "--discover"], capture_output=True, check=True).stdout)
    catalog = {"streams": [stream for stream in discovered["streams"] if stream["stream"] == "offers"]}

    def command(url: str, folder: Path) -> list[str]:
        path = folder / "catalog.json"
        path.write_text(json.dumps(catalog))
        return [tap, "--config", _config(url, folder, settings), "--catalog", str(path)]

    return Contender(name, command)


def template() -> Contender:
    """Return the tap that the SDK's template makes."""
    module = [sys.executable, "-m", "benchmarks.contenders.template_tap"]
    return Contender("SDK template", lambda url, folder: [*module, "--config", _config(url, folder, {})])


def dlt(*, load: bool) -> Contender:
    """Return dlt's REST API source, which loads into files or only extracts to files."""
    script = [str(_python_with("dlt")), str(_HERE / "contenders" / "dlt_rest_api.py")]

    def command(url: str, folder: Path) -> list[str]:
        if load:
            return [*script, url, API_KEY, str(folder / "work"), "--load", str(folder / OUTPUT)]
        return [*script, url, API_KEY, str(folder / OUTPUT)]

    return Contender("dlt rest_api", command)


def bare(concurrency: int) -> Contender:
    """Return the bare reader."""
    module = [sys.executable, "-m", "benchmarks.contenders.bare"]
    return Contender(f"bare, {concurrency}", lambda url, _: [*module, url, API_KEY, str(concurrency)])


def drain(concurrency: int) -> Contender:
    """Return the reader that throws everything away."""
    module = [sys.executable, "-m", "benchmarks.contenders.drain"]
    return Contender(f"drain, {concurrency}", lambda url, _: [*module, url, str(concurrency)], delivers=False)


def _config(url: str, folder: Path, settings: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({"api_key": API_KEY, "api_url": url, **settings}))
    return str(path)


def _python_with(name: str) -> Path:
    """Return the Python of a virtual environment that has the pinned packages of a file."""
    requirements = _HERE / "requirements" / f"{name}.txt"
    environment = _HERE / ".venvs" / name
    python = environment / "bin" / "python"
    installed = environment / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        quiet = ["--quiet", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", *quiet, "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    return python
