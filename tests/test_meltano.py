"""Meltano loads an account into targets, changes it and loads it again."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from sandbox.account import Account
from sandbox.database import postgres
from tests.fake_trackly import KEY, FakeTrackly
from tests.project import shown
from tests.servers import relay, serving
from tests.tap import STREAMS, TAP, environment

PROJECT = Path(__file__).parent.parent
MELTANO = PROJECT / ".venv-meltano" / "bin" / "meltano"
SUMMER_PROMO = "664f1a2b3c4d5e6f7a8b9c0d"
WINTER_SALE = "664f1a2b3c4d5e6f7a8b9c0e"

pytestmark = pytest.mark.source
Meltano = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        # Times must be stored in UTC, even if the time zone of the server is another.
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET timezone = 'America/New_York'")
            connection.execute("SELECT pg_reload_conf()")
        yield address


@pytest.fixture
def database(server: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS trackly CASCADE")
        yield connection


@pytest.fixture
def meltano(trackly: FakeTrackly, server: str, tmp_path: Path) -> Meltano:
    def run(*command: str, **variables: str | None) -> str:
        settings = {
            "MELTANO_DATABASE_URI": f"sqlite:///{tmp_path / 'meltano.db'}",
            "TAP_TRACKLY_API_KEY": KEY,
            "TAP_TRACKLY_API_URL": trackly.url,
            "TARGET_CSV_OUTPUT_PATH": str(tmp_path / "csv"),
            "TARGET_JSONL_DESTINATION_PATH": str(tmp_path / "jsonl"),
            "TARGET_POSTGRES_SQLALCHEMY_URL": server,
        }
        finished = subprocess.run(
            [MELTANO, *command],
            cwd=PROJECT,
            env=environment(**{name: value for name, value in {**settings, **variables}.items() if value is not None}),
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout + finished.stderr

    return run


def table(database: psycopg.Connection, columns: str = "id, payout, status") -> list[Any]:
    return database.execute(f"SELECT {columns} FROM trackly.offers ORDER BY id").fetchall()  # noqa: S608


def csv_rows(folder: Path, stream: str) -> list[list[dict[str, str]]]:
    """Return the rows of each file of a stream, oldest file first."""
    return [list(csv.DictReader(StringIO(file.read_text("utf-8")))) for file in sorted(folder.glob(f"{stream}-*"))]


def test_postgres_incremental(trackly: FakeTrackly, database: psycopg.Connection, meltano: Meltano) -> None:
    offers = trackly.account.offers
    command = ("elt", "tap-trackly", "target-postgres", "--state-id", "test")
    meltano(*command)
    assert {row[0] for row in table(database)} == set(offers)

    trackly.account.archive(WINTER_SALE)
    trackly.account.update(SUMMER_PROMO, {"payout": Decimal("3.25")})
    new = trackly.account.create({"name": "Ostern 🐣 in Zürich", "payout": Decimal("0.10")})
    log = meltano(*command)
    assert "offers: done, 26 records read, 3 emitted" in log
    truth = sorted((offer["id"], offer["payout"], offer["status"]) for offer in offers.values())
    assert table(database) == truth
    assert ("archived",) in table(database, "status")
    assert sum(payout for _, payout, _ in table(database)) == sum(offer["payout"] for offer in offers.values())
    assert (new["id"], "Ostern 🐣 in Zürich") in table(database, "id, name")


def test_postgres_column_types(trackly: FakeTrackly, database: psycopg.Connection, meltano: Meltano) -> None:
    trackly.account.update(SUMMER_PROMO, {"payout": Decimal("12345678901234.123456789"), "name": "a\x00b"})
    meltano("el", "tap-trackly", "target-postgres", "--state-id", "types")
    types: dict[str, str] = dict(
        database.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'offers'"
        ).fetchall()
    )
    assert types["payout"] == "numeric"
    assert types["metadata"] == "jsonb"
    assert types["filter_bots"] == "boolean"
    assert types["created_at"] == types["updated_at"] == "timestamp without time zone"
    assert types["id"] == types["external_id"] == "text"
    (row,) = database.execute(
        "SELECT name, payout, filter_bots, metadata, created_at FROM trackly.offers WHERE id = %s", [SUMMER_PROMO]
    ).fetchall()
    assert row == (
        "a\ufffdb",
        Decimal("12345678901234.123456789"),
        True,
        {"vertical": "health", "geo": "US"},
        datetime(2025, 11, 1, 14, 30),  # noqa: DTZ001 - the column has no time zone
    )


class Forwarder(BaseRequestHandler):
    """Forwards a TCP connection to the Unix socket of PostgreSQL."""

    path: str

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as inside:
            inside.connect(self.path)
            relay(self.request, inside)


def test_postgres_by_host_and_user(
    trackly: FakeTrackly, server: str, database: psycopg.Connection, meltano: Meltano
) -> None:
    folder = parse_qs(urlsplit(server).query)["host"][0]
    handler = type("Bound", (Forwarder,), {"path": f"{folder}/.s.PGSQL.5432"})
    with serving(ThreadingTCPServer(("127.0.0.1", 0), handler)) as forwarder:
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(forwarder.server_address[1]),
            "USER": "postgres",
            "PASSWORD": "none",
            "DATABASE": "postgres",
            "SQLALCHEMY_URL": None,
        }
        variables = {f"TARGET_POSTGRES_{name}": value for name, value in settings.items()}
        meltano("run", "tap-trackly", "target-postgres", **variables)
    assert len(table(database)) == len(trackly.account.offers)


def test_job_and_schedule(trackly: FakeTrackly, database: psycopg.Connection, meltano: Meltano) -> None:
    meltano("run", "trackly-to-postgres")
    trackly.account.archive(SUMMER_PROMO)
    assert "offers: done, 25 records read, 1 emitted" in meltano("run", "trackly-to-postgres")
    assert dict(table(database, "id, status"))[SUMMER_PROMO] == "archived"
    assert "trackly-nightly" in meltano("schedule", "list")


def test_csv(trackly: FakeTrackly, meltano: Meltano, tmp_path: Path) -> None:
    trackly.account.update(SUMMER_PROMO, {"metadata": {"größe": "ß", "weight": Decimal("0.5")}})
    trackly.account.offers[WINTER_SALE]["metadata"] = None
    command = ("el", "tap-trackly", "target-csv", "--state-id", "test")
    meltano(*command)
    trackly.account.archive("664f1a2b3c4d5e6f7a8b9c0f")
    trackly.account.update(SUMMER_PROMO, {"payout": Decimal("3.10")})
    meltano(*command)

    first, second = csv_rows(tmp_path / "csv", "offers")
    assert sorted(row["id"] for row in first) == sorted(trackly.account.offers)
    promo, sale = first[0], first[1]
    assert (promo["payout"], promo["filter_bots"]) == ("2.50", "True")
    assert json.loads(promo["metadata"]) == {"vertical": "health", "geo": "US", "größe": "ß", "weight": 0.5}
    assert (sale["metadata"], sale["external_id"]) == ("", "")
    assert sum(Decimal(row["payout"]) for row in first) == sum(
        offer["payout"] - (Decimal("0.60") if offer["id"] == SUMMER_PROMO else 0)
        for offer in trackly.account.offers.values()
    )
    changed = {row["id"]: (row["payout"], row["status"]) for row in second}
    assert changed == {SUMMER_PROMO: ("3.10", "active"), "664f1a2b3c4d5e6f7a8b9c0f": ("0.02", "archived")}


def test_jsonl(trackly: FakeTrackly, meltano: Meltano, tmp_path: Path) -> None:
    meltano("run", "tap-trackly", "target-jsonl")
    (file,) = (tmp_path / "jsonl").glob("offers-*")
    assert sorted(json.loads(line)["id"] for line in file.read_text().splitlines()) == sorted(trackly.account.offers)


def test_postgres_all_streams(trackly: FakeTrackly, database: psycopg.Connection, meltano: Meltano) -> None:
    account = trackly.account
    command = ("run", "tap-trackly", "target-postgres")
    everything = {"TAP_TRACKLY__SELECT": '["*.*"]'}
    meltano(*command, **everything)
    next(iter(account.creatives.values()))["status"] = "paused"
    next(iter(account.lists.values()))["list_name"] = "Zürich"
    next(iter(account.audiences.values()))["filter"] = {"operator": "or", "conditions": [{"fieldName": "ß"}]}
    next(iter(account.schedules.values())).update(status="archive", updated_at="2026-11-01T00:00:00Z")
    account.contacts[0]["revenue_total"] = Decimal("9.99")
    meltano(*command, **everything)

    columns = {
        "offers": ["status", "payout", "metadata"],
        "lists": ["list_name"],
        "audiences": ["filter", "source_lists"],
        "creatives": ["status", "offers", "offer_links"],
        "schedules": ["status", "blasts", "source_lists"],
    }
    for stream, names in columns.items():
        rows = database.execute(f"SELECT id, {', '.join(names)} FROM trackly.{stream}").fetchall()  # noqa: S608
        truth = {record["id"]: tuple(record[name] for name in names) for record in account.records(stream)}
        assert {row[0]: row[1:] for row in rows} == truth
        assert len(rows) == len(truth)
    rows = database.execute("SELECT count(*), sum(revenue_total) FROM trackly.contacts").fetchall()
    assert rows == [(len(account.contacts), sum(contact["revenue_total"] for contact in account.contacts))]


def test_csv_default_streams(trackly: FakeTrackly, meltano: Meltano, tmp_path: Path) -> None:
    meltano("run", "tap-trackly", "target-csv")
    files = {file.name.split("-")[0]: file for file in (tmp_path / "csv").iterdir()}
    assert {*files} == {*STREAMS} - {"contacts"}
    for stream in ("audiences", "creatives", "schedules"):
        held = {str(record["id"]): record for record in trackly.account.records(stream)}
        rows = list(csv.DictReader(StringIO(files[stream].read_text("utf-8"))))
        assert len(rows) == len(held)
        for row in rows:
            for name, value in held[row["id"]].items():
                if isinstance(value, dict | list):
                    assert json.loads(row[name]) == value


@pytest.mark.parametrize("target", ["target-postgres", "target-csv", "target-jsonl"])
def test_selection_in_each_target(
    target: str, trackly: FakeTrackly, database: psycopg.Connection, meltano: Meltano, tmp_path: Path
) -> None:
    left_out = {"offers": "metadata", "audiences": "filter", "creatives": "offers", "schedules": "blasts"}
    rules = ["*.*", "!contacts.*", *(f"!{stream}.{field}" for stream, field in left_out.items())]
    meltano("run", "tap-trackly", target, TAP_TRACKLY__SELECT=json.dumps(rules))

    def landed(stream: str) -> list[dict[str, Any]]:
        if target == "target-postgres":
            rows = database.execute(f"SELECT to_jsonb({stream}) FROM trackly.{stream}")  # noqa: S608
            return [row for (row,) in rows]
        if target == "target-csv":
            return list(csv_rows(tmp_path / "csv", stream)[0])
        (file,) = (tmp_path / "jsonl").glob(f"{stream}-*")
        return [json.loads(line) for line in file.read_text().splitlines()]

    for stream, field in left_out.items():
        held, rows = trackly.account.records(stream), landed(stream)
        assert {str(row["id"]) for row in rows} == {str(record["id"]) for record in held}
        assert set(held[0]) - set(rows[0]) == {field}


def test_recipe_without_meltano(trackly: FakeTrackly, tmp_path: Path) -> None:
    trackly.account = Account(offers=12)
    (recipe,) = [block for block in shown("README.md", "sh") if "states.jsonl" in block]
    (tmp_path / "config.json").write_text(json.dumps({"api_key": KEY, "api_url": trackly.url}))
    (tmp_path / "state.json").write_text("{}")
    script = recipe.partition("# before the first run only\n")[2]
    programs = [TAP.parent, PROJECT / ".meltano" / "loaders" / "target-jsonl" / "venv" / "bin"]
    variables = environment(PATH=os.pathsep.join([*map(str, programs), os.environ["PATH"]]))
    states = []
    for _ in range(3):
        subprocess.run(["/bin/bash", "-eu", "-c", script], cwd=tmp_path, env=variables, check=True)
        states.append(json.loads((tmp_path / "state.json").read_text())["bookmarks"]["offers"])
    assert states[0] == states[1] == states[2]
    assert "replication_key_value" in states[0]


def test_demo() -> None:
    """Its files are in `output/demo`, which no other test uses."""
    demo = [sys.executable, "-m", "sandbox.demo"]
    run = subprocess.run(demo, cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("  offers: done, 250 records read") == 4
    assert "The table and the account are equal: 250 offers" in run.stdout
