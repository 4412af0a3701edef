"""Runs the installed `tap-trackly` as a user does: as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

TAP = Path(sys.executable).with_name("tap-trackly")


@dataclass
class Run:
    """What a run left: its exit status, its messages and its log."""

    status: int
    stdout: str
    log: str
    messages: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.messages = [parsed for line in self.stdout.splitlines() if isinstance(parsed := exact(line), dict)]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [message["record"] for message in self.messages if message["type"] == "RECORD"]

    @property
    def ids(self) -> list[str]:
        return [record["id"] for record in self.records]

    @property
    def by_id(self) -> dict[str, dict[str, Any]]:
        return {record["id"]: record for record in self.records}

    @property
    def state(self) -> dict[str, Any]:
        states: list[dict[str, Any]] = [message["value"] for message in self.messages if message["type"] == "STATE"]
        return states[-1]

    @property
    def bookmark(self) -> str | None:
        value = self.state["bookmarks"]["offers"].get("replication_key_value")
        return None if value is None else str(value)

    def lines(self, level: str) -> list[str]:
        """The tap's own log lines of a level; Python's and the SDK's say things about the machine, too."""
        return [line for line in self.log.splitlines() if f"| {level}" in line and "| tap-trackly" in line]


def exact(text: str) -> Any:
    """Parse JSON, keeping every digit."""
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return None


def arguments(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write the files that a run reads and return the arguments that name them."""
    if config and "CONCURRENCY" in os.environ:
        config = {"concurrency": int(os.environ["CONCURRENCY"]), **config}
    given: list[str] = []
    for name, content in (("config", config), ("state", state), ("catalog", catalog)):
        if content is not None:
            file = folder / f"{name}.json"
            file.write_text(json.dumps(content))
            given += [f"--{name}", str(file)]
    return given


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without a tap's settings, and with some variables."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("TAP_TRACKLY_")}
    return {**mine, "NO_PROXY": "*", **variables}


def run_tap(
    config: Mapping[str, Any] | None = None,
    *options: str,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
    command: Sequence[str | Path] = (TAP,),
) -> Run:
    """Run the tap to its end; with a config and without a catalog it reads the offers."""
    if config is not None and catalog is None and not options:
        catalog = selecting("offers")
    with tempfile.TemporaryDirectory() as folder:
        files = arguments(Path(folder), config, state, catalog)
        run = subprocess.run(
            [*command, *files, *options],
            env=environment(**(variables or {})),
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
    return Run(run.returncode, run.stdout, run.stderr)


@cache
def _catalog() -> str:
    return subprocess.run([TAP, "--discover"], capture_output=True, encoding="utf-8", check=True).stdout


def selecting(*names: str) -> dict[str, Any]:
    """Return the discovered catalog with these streams selected, and no others."""
    catalog: dict[str, Any] = json.loads(_catalog())
    for stream in catalog["streams"]:
        (entry,) = [entry for entry in stream["metadata"] if not entry["breadcrumb"]]
        entry["metadata"]["selected"] = stream["tap_stream_id"] in names
    return catalog


def offers_catalog(**selections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the catalog entry of the offers, with metadata merged into the entries of the named fields."""
    (stream,) = [stream for stream in selecting("offers")["streams"] if stream["tap_stream_id"] == "offers"]
    for entry in stream["metadata"]:
        entry["metadata"].update(selections.get(entry["breadcrumb"][-1] if entry["breadcrumb"] else "", {}))
    return {"streams": [stream]}
