"""Scenarios, command line options, and tables and files of results."""

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
"""The folder of results that are not committed."""
Metrics = Mapping[str, Mapping[str, Sequence[float]]]
"""The measurements of each contender, such as "wall" and "processor", with a number for each run."""


@dataclass(frozen=True)
class Scenario:
    """An account to read.

    Attributes:
        name: The value of the option --scenario.
        records: The number of records.
        latency: The delay of each response, in seconds.
        stream: The stream that is read, "offers" or "contacts".
    """

    name: str
    records: int
    latency: float
    stream: str = "offers"

    def __str__(self) -> str:
        return f"{self.records:,} {self.stream}, {self.latency * 1000:.0f} ms a request"


@dataclass(frozen=True)
class Options:
    """The command line options.

    Attributes:
        runs: The number of runs of each contender.
        scenarios: The scenarios to measure.
        results: The folder of the result files.
    """

    runs: int
    scenarios: Sequence[Scenario]
    results: Path


def options(module: str, about: str | None, scenarios: Sequence[Scenario]) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--runs", type=int, help="runs of each contender (default: 3, with --quick: 1)")
    parser.add_argument("--scenario", choices=[scenario.name for scenario in scenarios], help="measure only this one")
    parser.add_argument("--quick", action="store_true", help="a tenth of the records, results in output/")
    given = parser.parse_args()
    chosen = [scenario for scenario in scenarios if given.scenario in {None, scenario.name}]
    if given.quick:
        chosen = [replace(scenario, records=scenario.records // 10 or 1) for scenario in chosen]
    TRIALS.mkdir(parents=True, exist_ok=True)
    results = TRIALS if given.quick else PROJECT / "benchmarks" / "results"
    return Options(given.runs or (1 if given.quick else 3), chosen, results)


def ratios(metrics: Metrics, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of a table with the ratio of the times of each pair of contenders."""
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
    """Store the measurements of a scenario; they replace earlier ones."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[scenario.name] = {
        "account": str(scenario),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **measured,
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def spread(values: Sequence[float], digits: int) -> str:
    """Return the median and the range; only the value if all are equal."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
