"""Contacts with incremental replication: a run reads new signups only, and all contacts once a day."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sandbox.account import Account
from tests.fake_trackly import FakeTrackly
from tests.tap import selecting

NOW = datetime.now(timezone.utc)


def catalog(**entry: Any) -> dict[str, Any]:
    """Return a catalog of the contacts with incremental replication, as Meltano's `metadata` configures it."""
    found = selecting("contacts")
    (stream,) = [stream for stream in found["streams"] if stream["tap_stream_id"] == "contacts"]
    (root,) = [each["metadata"] for each in stream["metadata"] if not each["breadcrumb"]]
    root.update({"replication-method": "INCREMENTAL", "replication-key": "signup_date"})
    stream.pop("replication_method", None)
    stream.update(entry)
    return {"streams": [stream]}


def sign_up(account: Account, number: int, age: timedelta) -> None:
    """Add a contact that signed up some time ago to the front of the listing."""
    date = (NOW - age).strftime("%Y-%m-%dT%H:%M:%S")
    account.contacts.insert(0, {**account.contacts[-1], "phone_number": f"+1917{number:07}", "signup_date": date})


@pytest.fixture
def account(trackly: FakeTrackly) -> Account:
    trackly.account = Account(0, contacts=5000)
    for number, contact in enumerate(trackly.account.contacts):
        contact["signup_date"] = (NOW - timedelta(days=3, minutes=10 * number)).strftime("%Y-%m-%dT%H:%M:%S")
    return trackly.account


def bookmark(state: dict[str, Any]) -> Any:
    return state["bookmarks"]["contacts"].get("replication_key_value")


def test_new_signups(trackly: FakeTrackly, account: Account) -> None:
    first = trackly.sync(catalog=catalog())
    assert len(first.records) == 5000
    for number in range(200):
        sign_up(account, number, timedelta(minutes=600 - number))
    trackly.requests.clear()
    second = trackly.sync(catalog=catalog(), state=first.state)
    assert {each["phone_number"] for each in second.records} >= {
        each["phone_number"] for each in account.contacts[:200]
    }
    assert len(second.records) <= 201
    assert len(trackly.requests) <= 4
    assert bookmark(second.state) > bookmark(first.state)
    assert not second.lines("WARNING")


def test_full_resend(trackly: FakeTrackly, account: Account) -> None:
    first = trackly.sync(catalog=catalog())
    account.contacts[-1]["active"] = False
    state = first.state
    state["bookmarks"]["contacts"]["last_full_send"] = (NOW - timedelta(hours=25)).isoformat()
    assert len(trackly.sync(catalog=catalog(), state=state).records) == 5000


@pytest.mark.parametrize("value", [None, "soon", "2999-01-01T00:00:00+00:00"])
def test_unusable_bookmark(trackly: FakeTrackly, account: Account, value: str | None) -> None:
    state = trackly.sync(catalog=catalog()).state
    state["bookmarks"]["contacts"]["replication_key_value"] = value
    assert len(trackly.sync(catalog=catalog(), state=state).records) == len(account.contacts)


def test_incremental_in_the_catalog_entry(trackly: FakeTrackly, account: Account) -> None:
    run = trackly.sync(catalog=catalog(replication_method="INCREMENTAL"))
    assert bookmark(run.state) == account.contacts[0]["signup_date"] + "+00:00"


def test_full_table_is_the_default(trackly: FakeTrackly, account: Account) -> None:
    run = trackly.sync(catalog=selecting("contacts"))
    assert len(run.records) == len(account.contacts)
    assert bookmark(run.state) is None
