"""Compares hourly reads of new contacts in a small and a large account: `python -m benchmarks.new_contacts`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from statistics import median

from benchmarks.commands import ours
from benchmarks.report import spread
from benchmarks.running import STATE, Contender, Run, measure, serving
from benchmarks.server import NEWEST_SIGNUP

NEW = 200
ACCOUNTS = (1_000, 1_000_000)
LATENCY = 0.05  # seconds


def main() -> None:
    """Read both accounts in turn, several times, and print the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.new_contacts", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each account (default: 5)")
    tap = ours("tap-trackly", "contacts", {"replication-method": "INCREMENTAL"})
    runs: dict[int, list[Run]] = {contacts: [] for contacts in ACCOUNTS}
    for _ in range(parser.parse_args().runs):
        for contacts, those in runs.items():
            those.append(read(tap, contacts))
    print("| contacts | requests | wall, s |\n| --- | --- | --- |")
    for contacts, those in runs.items():
        requests, wall = [one.server.requests for one in those], [one.wall for one in those]
        print(f"| {contacts:,} | {spread(requests, 0)} | {spread(wall, 2)} |")
    small, large = (median(one.wall for one in those) for those in runs.values())
    print(f"\n{NEW} new contacts of {ACCOUNTS[1]:,} take {large / small:.2f} of the time of {ACCOUNTS[0]:,}.")


def read(tap: Contender, contacts: int) -> Run:
    """Read the new contacts of an account.

    Raises:
        SystemExit: If others are delivered, or the tap fails.
    """
    bookmark = (NEWEST_SIGNUP - timedelta(minutes=NEW - 1)).isoformat()
    state = {"replication_key": "signup_date", "replication_key_value": bookmark}
    with tempfile.TemporaryDirectory() as folder, serving(contacts, "contacts", LATENCY) as url:
        (Path(folder) / STATE).write_text(json.dumps({"bookmarks": {"contacts": state}}))
        one = measure(tap, url, Path(folder))
    if one.exit_status or one.delivered != NEW:
        sys.exit(f"exit {one.exit_status}, {one.delivered} delivered\n{one.errors}")
    return one


if __name__ == "__main__":
    main()
