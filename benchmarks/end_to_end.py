"""Measures how long each contender takes to load an account into PostgreSQL: `python -m benchmarks.end_to_end`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg

from benchmarks.commands import bare, configured_target, default_target, dlt_to_postgres, ours, python_with, template
from benchmarks.report import TRIALS, Metrics, Scenario, keep, options, ratios, spread
from benchmarks.running import PROJECT, Contender, Run, ask, keep_state, measure, serving
from sandbox.database import postgres

SCENARIOS = (Scenario("10k-100ms", 10_000, 0.1), Scenario("50k-20ms", 50_000, 0.02))
LOADS = ("first load", "hourly load")
PAIRS = (
    ("tap-trackly, target-postgres", "SDK template, target-postgres"),
    ("tap-trackly, target-postgres", "dlt rest_api"),
    ("tap-trackly alone", "bare, 8"),
)
_HERE = PROJECT / "benchmarks"


@dataclass(frozen=True)
class Load:
    """The measurements of one load.

    Attributes:
        wall: Elapsed time in seconds.
        processor: CPU time of all processes of the contender, in seconds.
        wrong: What is wrong with the loaded table; "" if it is correct.
    """

    wall: float
    processor: float
    wrong: str


Loads = Mapping[str, Sequence[Load]]
"""The loads of each contender, by its name."""


def main() -> None:
    """Measure each scenario; print, store and draw the results."""
    given = options("benchmarks.end_to_end", __doc__, SCENARIOS)
    results = given.results / "end_to_end.json"
    with postgres() as database:
        everybody = contenders(database)
        for contender in everybody:
            # Warm up: the first start of a program after its installation is slower.
            turn(contender, Scenario("", 100, 0.0), database)
        for scenario in given.scenarios:
            turns = [{each.name: turn(each, scenario, database) for each in everybody} for _ in range(given.runs)]
            by_load = {
                load: {each.name: [one[each.name][number] for one in turns] for each in everybody}
                for number, load in enumerate(LOADS)
            }
            for load, loads in by_load.items():
                print(f"\n{scenario}: {load}\n", *table(loads), "", sep="\n")
                print(*ratios(metrics(loads), PAIRS), sep="\n", flush=True)
            measured = {
                load: {"contenders": metrics(loads), "wrong": mistakes(loads)} for load, loads in by_load.items()
            }
            keep(results, scenario, measured)
    # The PNG is a preview; only the SVG is committed.
    for picture in (given.results / "end_to_end.svg", TRIALS / "end_to_end.png"):
        subprocess.run(
            [python_with(_HERE / "requirements" / "chart.txt"), _HERE / "chart.py", results, picture], check=True
        )


def contenders(database: str) -> Sequence[Contender]:
    """Return the contenders that load into a database, and two that only read, for comparison."""
    return [
        configured_target(ours("tap-trackly"), database),
        default_target(template(), database),
        dlt_to_postgres(database),
        ours("tap-trackly alone"),
        bare(8),
    ]


def turn(contender: Contender, scenario: Scenario, database: str) -> Sequence[Load]:
    """Load an account into an empty database, and again after a change of 1 % of the offers."""
    loads = []
    with (
        tempfile.TemporaryDirectory(prefix="trackly-") as name,
        serving(scenario.records, latency=scenario.latency) as url,
        psycopg.connect(database, autocommit=True) as connection,
    ):
        connection.execute("DROP SCHEMA IF EXISTS trackly, trackly_staging, melty CASCADE")
        for least in (scenario.records, scenario.records // 100):
            one = measure(contender, url, Path(name))
            keep_state(Path(name))
            loads.append(Load(one.wall, one.processor, wrong(contender, one, least, payouts(url), connection)))
            ask(url, "change")
    return loads


def payouts(url: str) -> dict[str, Decimal]:
    """Return the payout of each offer of an account, by its id."""
    return {key: Decimal(str(payout)) for key, payout in ask(url, "payouts").items()}


def wrong(
    contender: Contender, one: Run, least: int, truth: Mapping[str, Decimal], connection: psycopg.Connection
) -> str:
    """Describe what is wrong with a load; "" if it is correct.

    Args:
        contender: The contender.
        one: The run that loaded.
        least: For a contender without a table, the minimum number of delivered records.
        truth: The payout of each offer of the account.
        connection: The database.
    """
    if one.exit_status:
        print(one.errors, file=sys.stderr)
        return f"exit {one.exit_status}"
    if not contender.table:
        return "" if one.delivered >= least else f"{one.delivered:,} of {least:,} records"
    rows = connection.execute(f"SELECT id, payout::numeric FROM {contender.table}").fetchall()  # noqa: S608
    if len(rows) != len(truth):
        return f"{len(rows):,} of {len(truth):,} rows"
    mistaken = sum(truth.get(key) != payout for key, payout in rows)
    off = sum(payout or 0 for _, payout in rows) - sum(truth.values())
    return f"{mistaken:,} payouts are wrong, their sum by {off:,}" if mistaken or off else ""


def metrics(loads: Loads) -> Metrics:
    """Return the measurements of the contenders whose tables were correct after every load."""
    return {
        name: {"wall": [one.wall for one in those], "processor": [one.processor for one in those]}
        for name, those in loads.items()
        if name not in mistakes(loads)
    }


def mistakes(loads: Loads) -> dict[str, str]:
    """Return what is wrong with a load, by contender."""
    return {name: one.wrong for name, those in loads.items() for one in those if one.wrong}


def table(loads: Loads) -> Iterator[str]:
    """Yield the lines of a table with a row for each contender."""
    yield "| contender | wall, s | processor, s |"
    yield "| --- | --- | --- |"
    for name, measured in metrics(loads).items():
        yield f"| {name} | {spread(measured['wall'], 2)} | {spread(measured['processor'], 2)} |"
    for name, words in mistakes(loads).items():
        yield f"| {name} | {words} | |"


if __name__ == "__main__":
    main()
