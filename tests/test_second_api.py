"""The tap reads an API that was written from the vendor's pages alone, or says that it did not."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from sqlalchemy import Engine, create_engine, delete, insert, text
from sqlalchemy.orm import Session

from sandbox import samples
from sandbox.database import postgres
from sandbox.samples import Record
from tests.second_api.api import API_KEY, INDEXES, Base, Contact, Offer
from tests.tap import Run, environment, run_tap, selecting
from tests.varied_trackly import keys_in, template_reads

PROJECT = Path(__file__).parent.parent
WORKERS = 3
IMPORT = datetime(2025, 6, 1, 12)  # noqa: DTZ001 - the database has no time zones
TIMES = {"created_at", "updated_at", "signup_date", "last_sent_at", "last_clicked_at"}
COLUMNS = {"metadata": "extra"}


@dataclass
class Api:
    """The API in several processes, and its database."""

    url: str
    database: Engine

    def put(self, offers: list[Record], contacts: list[Record], *, indexed: bool) -> None:
        """Replace all rows, with or without an index on the time that the listing is sorted by."""
        with Session(self.database) as session:
            for model, records in ((Offer, offers), (Contact, contacts)):
                session.execute(delete(model))
                if records:
                    session.execute(insert(model), [as_row(record) for record in records])
            session.commit()
        for index in INDEXES:
            index.drop(self.database, checkfirst=True)
            if indexed:
                index.create(self.database)
        with self.database.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))

    def read(self, *streams: str) -> Run:
        """Run the tap."""
        return run_tap({"api_key": API_KEY, "api_url": self.url}, catalog=selecting(*streams))


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """The API with an empty database."""
    with postgres() as address, socket.create_server(("127.0.0.1", 0)) as listener:
        url = address.replace("postgresql://", "postgresql+psycopg://")
        database = create_engine(url)
        Base.metadata.create_all(database)
        command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--log-level", "error"]
        command += ["--bind", f"fd://{listener.fileno()}", "--no-control-socket", "tests.second_api.api:create_app()"]
        variables = environment(DATABASE_URL=url)
        with subprocess.Popen(command, cwd=PROJECT, env=variables, pass_fds=[listener.fileno()]) as gunicorn:
            try:
                yield Api(answering(f"http://127.0.0.1:{listener.getsockname()[1]}/api/v2"), database)
            finally:
                gunicorn.terminate()
        database.dispose()


def answering(url: str) -> str:
    """Wait until the API answers, and return its URL."""
    request = Request(f"{url}/offers", headers={"X-Api-Key": API_KEY})  # noqa: S310 - on loopback
    with build_opener(ProxyHandler({})).open(request, timeout=60):
        return url


def as_row(record: Record) -> dict[str, Any]:
    """Return the columns of a record of the sandbox."""
    return {COLUMNS.get(name, name): as_time(value) if name in TIMES else value for name, value in record.items()}


def as_time(value: Any) -> Any:
    """Return a time of the sandbox, which is in UTC, without its zone."""
    return (
        datetime.fromisoformat(value.replace("Z", "+00:00")).replace(tzinfo=None) if isinstance(value, str) else value
    )


def as_emitted(value: Any) -> Any:
    """Return the value of a column in the form in which the tap emits it."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=timezone.utc).isoformat()
    return Decimal(value) if isinstance(value, Decimal) else value


def offers_of(count: int, *, tied: int = 0) -> list[Record]:
    """Return offers, of which some were created at the same time."""
    offers = samples.make_offers(count)
    for number, offer in enumerate(offers):
        offer.setdefault("slug", None)
        if tied and number % (count // tied) == 0:
            offer["created_at"] = IMPORT
    return offers


def contacts_of(count: int, *, tied: int = 0) -> list[Record]:
    """Return contacts, of which some were imported at the same time."""
    contacts = samples.make_contacts(count, samples.make_lists()[:4])
    for contact in contacts[1000 : 1000 + tied]:
        contact["signup_date"] = contacts[1000]["signup_date"]
    return contacts


def assert_whole_or_incomplete(run: Run, stream: str, key: tuple[str, ...], records: list[Record]) -> bool:
    """Compare what was delivered with the database, key by key, and return whether the read was complete."""
    rows = {tuple(record[name] for name in key): record for record in records}
    delivered = {tuple(record[name] for name in key): record for record in run.records_of(stream)}
    for name, record in delivered.items():
        for column, value in as_row(rows[name]).items():
            if column in TIMES or column in {"payout", "revenue_total", "status", "active"}:
                found = record[column]
                expected = as_emitted(value)
                assert (Decimal(found) if isinstance(expected, Decimal) else found) == expected
    missing = rows.keys() - delivered.keys()
    is_complete = not any(f"{stream}" in line and "Incomplete read" in line for line in run.lines("WARNING"))
    assert not (missing and is_complete), f"{len(missing)} of {len(rows)} are missing, and no word of it"
    return is_complete


def assert_bookmark_is_honest(run: Run, *, is_complete: bool) -> None:
    bookmark = run.state["bookmarks"].get("offers", {}).get("replication_key_value")
    assert (bookmark is not None) == is_complete


def assert_not_fewer_than_the_template(api: Api, run: Run, stream: str) -> None:
    _, read = template_reads(api.url, API_KEY, stream)
    delivered = keys_in(stream, run.records_of(stream))
    assert len(delivered) >= len(read), run.log


@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
def test_offers_and_contacts(api: Api, indexed: bool) -> None:  # noqa: FBT001
    offers, contacts = offers_of(1000), contacts_of(1000)
    api.put(offers, contacts, indexed=indexed)
    run = api.read("offers", "contacts")
    assert run.status == 0, run.log
    assert assert_whole_or_incomplete(run, "offers", ("id",), offers), run.log
    assert assert_whole_or_incomplete(run, "contacts", ("list_id", "phone_number"), contacts), run.log
    assert_bookmark_is_honest(run, is_complete=True)


@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
def test_offers_with_the_same_time(api: Api, indexed: bool) -> None:  # noqa: FBT001
    offers = offers_of(450, tied=150)
    api.put(offers, [], indexed=indexed)
    run = api.read("offers")
    assert run.status == 0, run.log
    is_complete = assert_whole_or_incomplete(run, "offers", ("id",), offers)
    assert_bookmark_is_honest(run, is_complete=is_complete)
    assert_not_fewer_than_the_template(api, run, "offers")


@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
def test_contacts_with_the_same_date(api: Api, indexed: bool) -> None:  # noqa: FBT001
    contacts = contacts_of(5001, tied=3000)
    api.put([], contacts, indexed=indexed)
    run = api.read("offers", "contacts")
    assert run.status == 0, run.log
    assert_whole_or_incomplete(run, "contacts", ("list_id", "phone_number"), contacts)
    assert_not_fewer_than_the_template(api, run, "contacts")
