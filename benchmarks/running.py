"""Runs a contender against a new server, and measures both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from benchmarks.server import Stats

PROJECT = Path(__file__).parent.parent
OUTPUT = "output"
STATE = "state.json"
_LAUNCH = PROJECT / "benchmarks" / "launch.py"
_ID = re.compile(rb'"(?:id|phone_number)": ?"([0-9a-f]{24}|\+1[0-9]{10})"')
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True)
class Contender:
    """A program that reads an account.

    Attributes:
        name: Its name in tables.
        command: Returns its command line for the URL of the API and a working folder. It delivers
            records to standard output or to the subfolder "output".
        delivers: Whether it delivers any records.
        table: The database table that it loads offers into; "" if it uses no database.
    """

    name: str
    command: Callable[[str, Path], list[str]]
    delivers: bool = True
    table: str = ""


@dataclass(frozen=True)
class Run:
    """The result of one run of a contender.

    Attributes:
        exit_status: The exit status of its process; negative for a signal.
        delivered: The number of different records that it delivered.
        wall: Elapsed time in seconds.
        processor: CPU time of all its processes, user and system, in seconds.
        peak: Peak memory of its largest process, in megabytes.
        server: The statistics of the server.
        errors: Its standard error.
    """

    exit_status: int
    delivered: int
    wall: float
    processor: float
    peak: float
    server: Stats
    errors: str


def run(
    contender: Contender, *, records: int, stream: str = "offers", latency: float = 0.0, fault: str | None = None
) -> Run:
    """Let a contender read a new account."""
    with (
        tempfile.TemporaryDirectory(prefix="trackly-") as folder,
        serving(records, stream, latency, fault) as url,
    ):
        return measure(contender, url, Path(folder))


def measure(contender: Contender, url: str, folder: Path) -> Run:
    """Let a contender read an account, in a folder that may have the state of its last run."""
    output = folder / OUTPUT
    output.mkdir(exist_ok=True)
    started = stats(url)
    command = contender.command(f"{url}/api/v2", folder)
    exit_status, wall, processor, peak = _measure(command, folder)
    ended = stats(url)
    ended.processor -= started.processor
    return Run(
        exit_status=exit_status,
        delivered=len(_ids(output)),
        wall=wall,
        processor=processor,
        peak=peak,
        server=ended,
        errors=(folder / "errors").read_text(errors="replace"),
    )


def keep_state(folder: Path) -> None:
    """Keep the last state for the next run: a STATE message from a tap, or its value from a target."""
    lines = (folder / OUTPUT / "stdout").read_bytes().splitlines()
    last = json.loads(lines[-1]) if lines else {}
    state = last.get("value", last)
    if "bookmarks" in state:
        (folder / STATE).write_text(json.dumps(state))


@contextmanager
def serving(records: int, stream: str = "offers", latency: float = 0.0, fault: str | None = None) -> Iterator[str]:
    """Serve an account in a separate process while the context is open.

    Args:
        records: The number of records.
        stream: What they are, "offers" or "contacts".
        latency: The delay of each response, in seconds.
        fault: A fault, one of the server's `FAULTS`.

    Yields:
        The URL of the server, without a path.
    """
    command = [sys.executable, "-m", "benchmarks.server", f"--{stream}={records}", f"--latency={latency}"]
    command += [f"--fault={fault}"] if fault else []
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin  # noqa: S101 - a pipe, as requested
        assert server.stdout  # noqa: S101
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def stats(url: str) -> Stats:
    """Return the statistics of a server so far."""
    return Stats(**ask(url, "stats"))


def ask(url: str, path: str) -> Any:
    """Return the JSON that a server responds with."""
    with build_opener(ProxyHandler({})).open(f"{url}/{path}", timeout=60) as answer:
        return json.load(answer)


def _measure(command: list[str], folder: Path) -> tuple[int, float, float, float]:
    """Run a command; return its exit status, wall time, processor time and peak memory."""
    report = folder / "report"
    launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(report), *command]
    with (folder / OUTPUT / "stdout").open("wb") as out, (folder / "errors").open("wb") as errors:
        subprocess.run(launch, cwd=PROJECT, env=_environment(folder), stdout=out, stderr=errors, check=True)
    exit_status, wall, processor, peak = report.read_text().split()
    return int(exit_status), float(wall), float(processor), int(peak) * _MAXRSS_UNIT / 1e6


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment without proxies and dlt's telemetry, with the working folder as home."""
    return {
        **os.environ,
        "NO_PROXY": "*",
        "no_proxy": "*",
        "HOME": str(folder),
        "DLT_DATA_DIR": str(folder / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
    }


def _ids(output: Path) -> set[bytes]:
    """Return the ids of the records in all JSON lines files in a folder."""
    ids: set[bytes] = set()
    for path in output.rglob("*"):
        if path.is_file():
            with path.open("rb") as lines:
                ids.update(found for line in lines for found in _ID.findall(line))
    return ids
