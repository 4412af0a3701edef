"""The accounts that are read, and how what was measured is told and kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.running import PROJECT

TRIALS = PROJECT / "output" / "benchmarks"
"""Where what is not to be committed goes."""
Metrics = Mapping[str, Mapping[str, Sequence[float]]]
"""What was measured of each contender, by name: "wall", "processor" and others, a number for each run."""


@dataclass(frozen=True)
class Scenario:
    """An account to read.

    Attributes:
        name: What the option --scenario takes.
        records: How many records it has.
        latency: Seconds that each answer waits.
        stream: Which records, "offers" or "contacts".
    """

    name: str
    records: int
    latency: float
    stream: str = "offers"

    def __str__(self) -> str:
        return f"{self.records:,} {self.stream}, {self.latency * 1000:.0f} ms a request"


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        runs: How often each contender runs.
        scenarios: What to measure.
        results: The folder to keep the numbers in.
    """

    runs: int
    scenarios: Sequence[Scenario]
    results: Path


def options(module: str, about: str | None, scenarios: Sequence[Scenario]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--runs", type=int, help="runs of each contender (default: 3; with --quick 1)")
    parser.add_argument("--scenario", choices=[scenario.name for scenario in scenarios], help="measure only this one")
    parser.add_argument("--quick", action="store_true", help="a tenth of the records, kept under output/, for trying")
    given = parser.parse_args()
    chosen = [scenario for scenario in scenarios if given.scenario in {None, scenario.name}]
    if given.quick:
        chosen = [replace(scenario, records=scenario.records // 10 or 1) for scenario in chosen]
    TRIALS.mkdir(parents=True, exist_ok=True)
    results = TRIALS if given.quick else PROJECT / "benchmarks" / "results"
    return Options(given.runs or (1 if given.quick else 3), chosen, results)


def ratios(metrics: Metrics, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of a table of what the first of each pair took, divided by what the second took."""
    yield "| tap | other | wall, tap / other | processor, tap / other |"
    yield "| --- | --- | --- | --- |"
    for tap, other in pairs:
        if {tap, other} <= set(metrics):
            above, below = metrics[tap], metrics[other]
            cells = [
                f"{statistics.median(above[name]) / statistics.median(below[name]):.2f}"
                for name in ("wall", "processor")
            ]
            yield f"| {tap} | {other} | {' | '.join(cells)} |"


def keep(path: Path, scenario: Scenario, measured: Mapping[str, Any]) -> None:
    """Put what was measured of a scenario in the place of what was measured before."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[scenario.name] = {
        "account": str(scenario),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **measured,
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def spread(values: Sequence[float], digits: int) -> str:
    """Return median and range; only the value where all are equal."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
