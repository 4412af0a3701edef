"""Measures how fast each contender reads an account without faults: `python -m benchmarks.speed`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache

from benchmarks.commands import bare, dlt, drain, ours, template
from benchmarks.report import Metrics, Scenario, keep, options, ratios, spread
from benchmarks.running import Contender, Run, run

SCENARIOS = (
    Scenario("10k-0ms", 10_000, 0.0),
    Scenario("10k-100ms", 10_000, 0.1),
    Scenario("50k-20ms", 50_000, 0.02),
    Scenario("100-50ms", 100, 0.05),
    Scenario("memory-3k", 3_000, 0.0),
    Scenario("memory-30k", 30_000, 0.0),
    Scenario("contacts-1m", 1_000_000, 0.0, stream="contacts"),
)
PAIRS = (
    ("tap-trackly, 8", "SDK template"),
    ("tap-trackly, 1", "bare, 1"),
    ("tap-trackly, 8", "bare, 8"),
    ("tap-trackly, 16", "bare, 16"),
)
COLUMNS = {"wall": 2, "processor": 2, "peak": 0, "requests": 0, "in_flight": 0, "server": 2}
"""The columns of the table, each with its number of decimal places."""


def main() -> None:
    """Measure each scenario; print and store the results."""
    given = options("benchmarks.speed", __doc__, SCENARIOS)
    for scenario in given.scenarios:
        metrics = measure(scenario, contenders(scenario.stream), given.runs)
        print(f"\n{scenario}\n", *table(metrics), "", *ratios(metrics, PAIRS), sep="\n", flush=True)
        keep(given.results / "speed.json", scenario, {"contenders": metrics})


@cache
def contenders(stream: str) -> Sequence[Contender]:
    """Return the contenders for a stream, each after one run: the first start of a program is slower."""
    concurrencies = (1, 8, 16) if stream == "offers" else (8,)
    taps = [ours(f"tap-trackly, {number}", stream, concurrency=number) for number in concurrencies]
    everybody = [*taps, template(stream)]
    if stream == "offers":
        everybody += [dlt(load=False), *(bare(number) for number in concurrencies), drain(16)]
    for contender in everybody:
        run(contender, records=1, stream=stream)
    return everybody


def measure(scenario: Scenario, everybody: Sequence[Contender], times: int) -> Metrics:
    """Let all contenders read the account in turn, several times.

    Raises:
        SystemExit: If a contender fails or does not deliver all records.
    """
    runs: dict[str, list[Run]] = {contender.name: [] for contender in everybody}
    for _ in range(times):
        for contender in everybody:
            one = run(contender, records=scenario.records, stream=scenario.stream, latency=scenario.latency)
            if one.exit_status or one.delivered != scenario.records * contender.delivers:
                sys.exit(f"{contender.name}: exit {one.exit_status}, {one.delivered} delivered\n{one.errors}")
            runs[contender.name].append(one)
    return {name: numbers(those) for name, those in runs.items()}


def table(metrics: Metrics) -> Iterator[str]:
    """Yield the lines of a table with a row for each contender."""
    yield "| contender | wall, s | processor, s | peak, MB | requests | most in flight | server's processor, s |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, measured in metrics.items():
        yield f"| {name} | {' | '.join(spread(measured[column], digits) for column, digits in COLUMNS.items())} |"


def numbers(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Return the measurements by name, with a number for each run."""
    return {
        "wall": [one.wall for one in runs],
        "processor": [one.processor for one in runs],
        "peak": [one.peak for one in runs],
        "requests": [one.server.requests for one in runs],
        "in_flight": [one.server.in_flight for one in runs],
        "server": [one.server.processor for one in runs],
    }


if __name__ == "__main__":
    main()
