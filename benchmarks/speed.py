"""How fast each contender reads an account when nothing goes wrong: `python -m benchmarks.speed`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.chart import bars
from benchmarks.commands import bare, dlt, drain, ours, template
from benchmarks.running import PROJECT, Contender, Run, run

Runs = Mapping[str, Sequence[Run]]
"""The runs of each contender by its name."""


@dataclass(frozen=True)
class Scenario:
    """An account to read.

    Attributes:
        name: What the option --scenario takes.
        offers: How many offers it has.
        latency: Seconds that each answer waits.
    """

    name: str
    offers: int
    latency: float

    def __str__(self) -> str:
        return f"{self.offers:,} offers, {self.latency * 1000:.0f} ms a request"


SCENARIOS = (
    Scenario("10k-0ms", 10_000, 0.0),
    Scenario("10k-100ms", 10_000, 0.1),
    Scenario("50k-20ms", 50_000, 0.02),
    Scenario("100-50ms", 100, 0.05),
    Scenario("memory-3k", 3_000, 0.0),
    Scenario("memory-30k", 30_000, 0.0),
)
DRAWN = "10k-100ms"
PAIRS = (
    ("tap-trackly, 8", "SDK template"),
    ("tap-trackly, 1", "bare, 1"),
    ("tap-trackly, 8", "bare, 8"),
    ("tap-trackly, 16", "bare, 16"),
)


def main() -> None:
    """Measure each scenario, print it and keep it."""
    options = _options()
    results = PROJECT / ("output/benchmarks" if options.quick else "benchmarks/results")
    results.mkdir(parents=True, exist_ok=True)
    contenders = [
        *(ours(f"tap-trackly, {concurrency}", concurrency=concurrency) for concurrency in (1, 8, 16)),
        template(),
        dlt(load=False),
        *(bare(concurrency) for concurrency in (1, 8, 16)),
        drain(16),
    ]
    for contender in contenders:
        # What is measured is not the first start of a program after its installation.
        run(contender, offers=1)
    for scenario in SCENARIOS:
        if options.scenario in {None, scenario.name}:
            measured = replace(scenario, offers=scenario.offers // 10 or 1) if options.quick else scenario
            runs = measure(measured, contenders, options.runs)
            print(f"\n{measured}\n", *table(runs), "", *ratios(runs), sep="\n", flush=True)
            keep(results, measured, runs)


def measure(scenario: Scenario, contenders: Sequence[Contender], times: int) -> Runs:
    """Let all contenders read the account in turn, and that some times.

    Raises:
        SystemExit: If one of them did not deliver the account; a fast failure is no result.
    """
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for _ in range(times):
        for contender in contenders:
            one = run(contender, offers=scenario.offers, latency=scenario.latency)
            if one.exit_status or one.delivered != scenario.offers * contender.delivers:
                sys.exit(f"{contender.name}: exit {one.exit_status}, {one.delivered} delivered\n{one.errors}")
            runs[contender.name].append(one)
    return runs


def table(runs: Runs) -> Iterator[str]:
    """Yield the lines of a table with a row for each contender."""
    yield "| contender | wall, s | processor, s | peak, MB | requests | most in flight | server's processor, s |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, metrics in ((name, numbers(those)) for name, those in runs.items()):
        cells = [
            _spread(metrics["wall"], 2),
            _spread(metrics["processor"], 2),
            _spread(metrics["peak"], 0),
            _spread(metrics["requests"], 0),
            _spread(metrics["in_flight"], 0),
            _spread(metrics["server"], 2),
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def ratios(runs: Runs) -> Iterator[str]:
    """Yield the lines of a table of what the tap took, divided by what another took."""
    yield "| tap | other | wall, tap / other | processor, tap / other |"
    yield "| --- | --- | --- | --- |"
    for tap, other in PAIRS:
        above, below = numbers(runs[tap]), numbers(runs[other])
        cells = [
            f"{statistics.median(above[name]) / statistics.median(below[name]):.2f}" for name in ("wall", "processor")
        ]
        yield f"| {tap} | {other} | {' | '.join(cells)} |"


def numbers(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Return what was measured, by name, with a number for each run."""
    return {
        "wall": [one.wall for one in runs],
        "processor": [one.processor for one in runs],
        "peak": [one.peak for one in runs],
        "requests": [one.server.requests for one in runs],
        "in_flight": [one.server.in_flight for one in runs],
        "server": [one.server.processor for one in runs],
    }


def keep(folder: Path, scenario: Scenario, runs: Runs) -> None:
    """Put a scenario's numbers in the place of older ones, and draw the one that is drawn."""
    path = folder / "speed.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[scenario.name] = {
        "offers": scenario.offers,
        "latency": scenario.latency,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "contenders": {name: numbers(those) for name, those in runs.items()},
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")
    if scenario.name == DRAWN:
        walls = {name: statistics.median(numbers(those)["wall"]) for name, those in runs.items() if those[0].delivered}
        (folder / "speed.svg").write_text(bars(f"Seconds to read {scenario}", walls, "tap-trackly"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--runs", type=int, help="runs of each contender (default: 3; with --quick 1)")
    parser.add_argument("--scenario", choices=[scenario.name for scenario in SCENARIOS], help="measure only this one")
    parser.add_argument("--quick", action="store_true", help="a tenth of the offers, kept under output/, for trying")
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 3)
    return options


def _spread(values: Sequence[float], digits: int) -> str:
    """Median and range; only the value where all are equal."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
