"""Incremental replication: the bookmark, the start date, and the full resend."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.fake_trackly import FakeTrackly
from tests.tap import offers_catalog, offers_state

NEWEST = "2026-01-01T00:00:00+00:00"  # later than any updated_at of the account


def hours_ago(hours: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(hours=hours)).isoformat()


def test_second_run_sends_changes(trackly: FakeTrackly) -> None:
    trackly.put(
        {"id": "old", "updated_at": "2025-01-01T00:00:00Z"},
        {"id": "newest", "updated_at": "2025-03-01T00:00:00Z"},
        {"id": "middle", "updated_at": "2025-02-01T00:00:00Z"},
    )
    first = trackly.sync()
    assert first.bookmark == "2025-03-01T00:00:00+00:00"
    second = trackly.sync(state=first.state)
    assert second.ids == ["newest"]
    trackly.account.update("old", {"payout": 1})
    trackly.account.archive("middle")
    third = trackly.sync(state=second.state)
    assert third.ids == ["middle", "newest", "old"]
    assert third.by_id["middle"]["status"] == "archived"
    assert "3 records read, 3 emitted" in third.log


@pytest.mark.parametrize(
    "bookmark", ["2025-03-01T00:00:00Z", "2025-03-01T00:00:00", "2025-03-01", "2025-03-01T01:00:00+01:00"]
)
def test_time_formats(trackly: FakeTrackly, bookmark: str) -> None:
    after = [
        "2025-03-01T00:00:00Z",
        "2025-03-01T00:00:00",
        "2025-03-01T00:00:00.000Z",
        "2025-03-01 00:00:00.5",
        "2025-02-28T23:30:00-01:00",
        "2025-03-01T01:00:00.000001+01:00",
    ]
    before = ["2025-02-28T23:59:59.999999Z", "2025-03-01T00:59:59+01:00"]
    trackly.put(*({"id": time, "updated_at": time} for time in after + before))
    run = trackly.sync(state=offers_state(bookmark))
    assert run.ids == sorted(after)
    assert run.bookmark == "2025-03-01T00:30:00+00:00"


@pytest.mark.parametrize(
    "invalid", [{"updated_at": None}, {"updated_at": ""}, {}, {"updated_at": "soon"}, {"updated_at": 5}]
)
def test_record_without_a_valid_time(trackly: FakeTrackly, invalid: dict[str, Any]) -> None:
    trackly.put({"id": "1", "updated_at": "2025-01-01T00:00:00Z"}, {"id": "2", **invalid})
    first = trackly.sync()
    assert (first.ids, first.bookmark) == (["1", "2"], "2025-01-01T00:00:00+00:00")
    second = trackly.sync(state=offers_state("2025-02-01T00:00:00+00:00"))
    assert (second.ids, second.bookmark) == (["2"], "2025-02-01T00:00:00+00:00")


def test_bookmark_stays_before_start_of_run(trackly: FakeTrackly) -> None:
    trackly.put({"id": "1", "updated_at": "2999-01-01T00:00:00Z"})
    run = trackly.sync()
    assert run.bookmark is not None
    passed = datetime.now(timezone.utc) - datetime.fromisoformat(run.bookmark)
    assert timedelta(minutes=5) <= passed < timedelta(minutes=6)
    assert trackly.sync(state=run.state).ids == ["1"]


def test_start_date(trackly: FakeTrackly) -> None:
    trackly.put(
        {"id": "before", "updated_at": "2025-01-31T23:59:59Z"},
        {"id": "at", "updated_at": "2025-02-01T00:00:00Z"},
        {"id": "unknown", "updated_at": None},
    )
    assert trackly.sync(start_date="2025-02-01").ids == ["at", "unknown"]
    state = offers_state("2025-03-01T00:00:00+00:00")
    assert trackly.sync(state=state, start_date="2025-02-01").ids == ["unknown"]
    resend = offers_state("2025-03-01T00:00:00+00:00", last_full_send=hours_ago(25))
    assert trackly.sync(state=resend, start_date="2025-02-01").ids == ["at", "unknown"]


def test_full_table(trackly: FakeTrackly) -> None:
    catalog = offers_catalog()
    catalog["streams"][0]["replication_method"] = "FULL_TABLE"
    run = trackly.sync(catalog=catalog, start_date="2030-01-01")
    assert len(run.records) == 25
    assert len(trackly.sync(catalog=catalog, state=run.state).records) == 25


def test_full_resend(trackly: FakeTrackly) -> None:
    assert trackly.sync(state=offers_state(NEWEST, last_full_send=hours_ago(22))).ids == []
    run = trackly.sync(state=offers_state(NEWEST, last_full_send=hours_ago(25)))
    assert len(run.records) == 25
    assert len(trackly.sync(state=run.state).records) == 1
    assert len(trackly.sync(state=run.state, full_resend_hours=0).records) == 25


@pytest.mark.parametrize("invalid", ["soon", hours_ago(-48)], ids=["no time", "future"])
def test_full_resend_after_an_invalid_time(trackly: FakeTrackly, invalid: str) -> None:
    assert len(trackly.sync(state=offers_state(NEWEST, last_full_send=invalid)).records) == 25


def test_bookmark_set_by_hand(trackly: FakeTrackly) -> None:
    by_hand = offers_state("2025-12-01T08:00:00")
    run = trackly.sync(state=by_hand)
    assert len(run.records) == 2
    assert len(trackly.sync(state=run.state).records) == 1
    assert len(trackly.sync(state=by_hand, full_resend_hours=0).records) == 25


def test_full_resend_after_wider_settings(trackly: FakeTrackly) -> None:
    active = trackly.sync(offer_statuses=["active"])
    assert len(active.records) < 25
    assert len(trackly.sync(state=active.state, offer_statuses=["active"]).records) == 1
    assert len(trackly.sync(state=active.state).records) == 25
    late = trackly.sync(start_date="2025-12-01")
    assert len(late.records) == 2
    assert len(trackly.sync(state=late.state).records) == 25
    without_payout = offers_catalog(payout={"selected": False})
    narrow = trackly.sync(catalog=without_payout)
    assert len(trackly.sync(state=narrow.state, catalog=without_payout).records) == 1
    wide = trackly.sync(state=narrow.state)
    assert len(wide.records) == 25
    assert all("payout" in record for record in wide.records)


def test_full_resend_of_change_without_updated_at(trackly: FakeTrackly) -> None:
    first = trackly.sync()
    offer = next(offer for offer in trackly.account.offers.values() if offer["status"] == "active")
    offer["status"] = "archived"
    assert trackly.sync(state=first.state, full_resend_hours=0).by_id[offer["id"]]["status"] == "archived"


def test_state_without_changes(trackly: FakeTrackly) -> None:
    first = trackly.sync(state=offers_state(NEWEST))
    second = trackly.sync(state=first.state)
    assert first.records == second.records == []
    assert first.bookmark == NEWEST
    assert first.state == second.state
