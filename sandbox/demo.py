"""Demo: loads a sandbox account with Meltano into CSV files and PostgreSQL.

Run by `make demo`. All its files are in `output/demo`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import requests

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.database import postgres
from sandbox.server import running

PROJECT = Path(__file__).parent.parent
OUTPUT = PROJECT / "output" / "demo"
MELTANO = PROJECT / ".venv-meltano" / "bin" / "meltano"
SUMMER_PROMO = "664f1a2b3c4d5e6f7a8b9c0d"
QUESTION = """
  SELECT lists.list_name, offers.name, offers.payout, lists.contact_count AS reach
  FROM trackly.schedules
  CROSS JOIN unnest(schedules.source_lists) AS list_id
  CROSS JOIN unnest(schedules.blasts) AS blast
  CROSS JOIN jsonb_array_elements(blast -> 'offer_links') AS link
  JOIN trackly.lists ON lists.id = list_id
  JOIN trackly.offers ON offers.id = link ->> 'offer_id'
  WHERE offers.status = 'active' AND schedules.status <> 'archive'
  GROUP BY lists.id, lists.list_name, offers.id, offers.name, offers.payout, lists.contact_count
  ORDER BY reach DESC, lists.list_name, payout DESC
"""
WINTER_SALE = "664f1a2b3c4d5e6f7a8b9c0e"
CSV_STATE = ("--state-id", "demo-csv")
POSTGRES_LOAD = ("run", "tap-trackly", "target-postgres")
NEXT = """\
  output/demo/csv/        a CSV file for each stream and load
  output/demo/*.log       the log of each load
  output/demo/meltano.db  the state, with the bookmarks of each stream
  The sandbox account and the PostgreSQL server were temporary, and are stopped.

> Load your own account, with the same Meltano:

  export PATH="$PWD/.venv-meltano/bin:$PATH"
  export TAP_TRACKLY_API_KEY=trk_...   # from Settings > API Keys
  meltano invoke tap-trackly --test    # checks the key
  meltano run tap-trackly target-csv   # writes to output/csv

  README.md has the settings and other targets. `make clean` removes all that was installed and loaded here."""


def main() -> None:
    """Load an account, change it and load it again."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    account = Account(offers=250)
    with running(account) as url, postgres() as database:
        environment = {
            **os.environ,
            "MELTANO_DATABASE_URI": f"sqlite:///{OUTPUT / 'meltano.db'}",
            "TAP_TRACKLY_API_KEY": API_KEY,
            "TAP_TRACKLY_API_URL": url,
            "TARGET_CSV_OUTPUT_PATH": str(OUTPUT / "csv"),
            "TARGET_POSTGRES_SQLALCHEMY_URL": database,
        }
        say(f"The sandbox account with {len(account.offers)} offers is served at {url}.")

        load("first-csv", ("elt", "tap-trackly", "target-csv", *CSV_STATE), environment)
        load("first-postgres", POSTGRES_LOAD, environment)
        show_csv()
        show_table(database)

        say("Archive the offer 'Winter Sale' and raise the payout of 'Summer Promo':")
        request("DELETE", f"{url}/offers/{WINTER_SALE}")
        request("PUT", f"{url}/offers/{SUMMER_PROMO}", {"payout": 3.25})

        load("second-csv", ("el", "tap-trackly", "target-csv", *CSV_STATE), environment)
        load("second-postgres", POSTGRES_LOAD, environment)
        show_csv()
        show_table(database)
        compare(account, database)
        ask(database)
    say("What the demo leaves behind:")
    print(NEXT)


def load(name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Load the account with a Meltano command and show the tap's summary of each stream."""
    say(f"meltano {' '.join(command)}")
    log = OUTPUT / f"{name}.log"
    with log.open("w") as file:
        run = subprocess.run(
            [MELTANO, *command], cwd=PROJECT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if run.returncode:
        print(log.read_text())
        sys.exit(f"Meltano failed, see {log}")
    for line in log.read_text().splitlines():
        if ": done, " in line:
            print(f"  {line.split('tap-trackly')[-1].strip()}")


def show_csv() -> None:
    """Show the header and the first rows of the newest CSV file."""
    newest = max((OUTPUT / "csv").glob("offers-*"))
    lines = newest.read_text().splitlines()
    say(f"{newest.relative_to(PROJECT)} has {len(lines) - 1} rows:")
    for line in lines[:4]:
        print(f"  {line}")


def show_table(database: str) -> None:
    """Show the first rows of the table in PostgreSQL."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT id, name, payout, status, updated_at FROM trackly.offers ORDER BY id"
        ).fetchall()
    say(f"The PostgreSQL table trackly.offers has {len(rows)} rows:")
    for row in rows[:3]:
        print("  " + " | ".join(str(value) for value in row))


def request(method: str, url: str, fields: dict[str, Any] | None = None) -> None:
    """Change the account through the API."""
    print(f"  {method} {url} {fields or ''}")
    requests.request(method, url, headers={"X-Api-Key": API_KEY}, json=fields, timeout=10).raise_for_status()


def compare(account: Account, database: str) -> None:
    """Check that the table and the account have the same offers."""
    truth = {(offer["id"], offer["payout"], offer["status"]) for offer in account.offers.values()}
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT id, payout, status FROM trackly.offers").fetchall()
    if len(rows) != len(truth) or set(rows) != truth:
        sys.exit("The table and the account differ.")
    say(f"The table and the account are equal: {len(rows)} offers, each with the same payout and status.")


def ask(database: str) -> None:
    """Run a query that joins several streams."""
    say("Which active offers are sent to which list, what do they pay, and how many contacts do they reach?")
    print(QUESTION)
    with psycopg.connect(database) as connection:
        for list_name, offer, payout, reach in connection.execute(QUESTION).fetchall():
            print(f"  {list_name:<16} {offer:<28} {payout:>6} {reach:>6}")


def say(sentence: str) -> None:
    """Print a heading."""
    print(f"\n> {sentence}", flush=True)


if __name__ == "__main__":
    main()
