"""What arrives: every offer, once, with its true state."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from sandbox.account import Account
from sandbox.server import running
from tests.conftest import Trackly
from tests.tap import offers_catalog


def state(bookmark: str | None = None, last_full_send: str | None = None) -> dict[str, Any]:
    """A state as the tap writes it; by default every offer was sent just now."""
    values = {
        "replication_key": bookmark and "updated_at",
        "replication_key_value": bookmark,
        "last_full_send": last_full_send or datetime.now(timezone.utc).isoformat(),
    }
    return {"bookmarks": {"offers": {name: value for name, value in values.items() if value}}}


def hours_ago(hours: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1234])
def test_every_offer_arrives_exactly_once(count: int) -> None:
    account = Account(count)
    with running(account) as url:
        run = Trackly(account, url).sync()
    assert sorted(run.ids) == sorted(account.offers)
    assert run.messages[0]["type"] == "SCHEMA"
    assert run.messages[-1]["type"] == "STATE"
    assert not run.lines("ERROR")


def test_the_example_of_the_vendors_page_arrives_field_by_field() -> None:
    account = Account(2)
    with running(account) as url:
        run = Trackly(account, url).sync()
    assert run.records == [
        {
            "id": "664f1a2b3c4d5e6f7a8b9c0d",
            "name": "Summer Promo",
            "tracking_url": "https://track.example.com/click?offer_id=123",
            "external_platform": "tune",
            "external_id": "4521",
            "advertiser_id": "adv_882",
            "payout": Decimal("2.50"),
            "payout_type": "cpa",
            "filter_bots": True,
            "status": "active",
            "metadata": {"vertical": "health", "geo": "US"},
            "created_at": "2025-11-01T14:30:00+00:00",
            "updated_at": "2025-12-15T09:12:00+00:00",
        },
        {
            "id": "664f1a2b3c4d5e6f7a8b9c0e",
            "name": "Winter Sale",
            "tracking_url": "https://track.example.com/click?offer_id=456",
            "external_platform": None,
            "external_id": None,
            "advertiser_id": None,
            "payout": Decimal("1.75"),
            "payout_type": "cpc",
            "filter_bots": False,
            "status": "active",
            "metadata": {},
            "created_at": "2025-12-01T08:00:00+00:00",
            "updated_at": "2025-12-01T08:00:00+00:00",
        },
    ]
    assert '"payout":2.50' in run.stdout


def test_values_are_made_fit_on_the_way(trackly: Trackly) -> None:
    trackly.put(
        {"id": 7, "payout": "2.50", "filter_bots": "false", "created_at": "2025-11-01T14:30:00", "updated_at": "soon"},
        {"id": "8", "payout": Decimal("12345678901234.123456789"), "name": "a\x00\ud800", "metadata": {"k": "\x00"}},
        {"id": "9", "payout": float("nan"), "unknown": 1},
    )
    run = trackly.sync()
    assert run.by_id["7"] == {
        "id": "7",
        "payout": Decimal("2.50"),
        "filter_bots": False,
        "created_at": "2025-11-01T14:30:00+00:00",
        "updated_at": None,
        "status": "active",
        "metadata": {},
    }
    assert run.by_id["8"]["name"] == "a\ufffd\ufffd"
    assert run.by_id["8"]["metadata"] == {"k": "\ufffd"}
    assert '"payout":12345678901234.123456789' in run.stdout
    assert run.by_id["9"] == {"id": "9", "payout": None, "status": "active", "metadata": {}}
    warnings = "\n".join(run.lines("WARNING"))
    assert "Stream offers, record id=7: field 'updated_at' is no time, sent as null." in warnings
    assert "Stream offers, record id=8: field 'name' held what no target can store, replaced." in warnings
    assert "Stream offers, record id=9: field 'payout' is no number that a target can store, sent as null." in warnings
    assert warnings.count("unknown") == 1


def test_statuses_that_the_page_does_not_know_arrive_by_default(trackly: Trackly) -> None:
    trackly.put({"id": "1", "status": "expired"}, {"id": "2", "status": "archived"}, {"id": "3", "status": None})
    assert sorted(trackly.sync().ids) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "statuses,ids",
    [
        (["archived"], "c"),
        (["paused", "active"], "ab"),
        (["active", "active"], "a"),
        (["archived", "active", "paused"], "abcd"),
    ],
)
def test_fewer_statuses_are_read_one_by_one(trackly: Trackly, statuses: list[str], ids: str) -> None:
    trackly.put(
        {"id": "a", "status": "active"},
        {"id": "b", "status": "paused"},
        {"id": "c", "status": "archived"},
        {"id": "d", "status": "expired"},
    )
    assert sorted(trackly.sync(offer_statuses=statuses).ids) == list(ids)


def test_a_second_run_sends_what_is_at_or_after_the_bookmark(trackly: Trackly) -> None:
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
    assert sorted(third.ids) == ["middle", "newest", "old"]
    assert third.by_id["middle"]["status"] == "archived"
    assert "3 records read, 3 emitted, 0 unchanged, 2 pages" in third.log


@pytest.mark.parametrize(
    "bookmark", ["2025-03-01T00:00:00Z", "2025-03-01T00:00:00", "2025-03-01", "2025-03-01T01:00:00+01:00"]
)
def test_mixed_shapes_of_time_lose_nothing(trackly: Trackly, bookmark: str) -> None:
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
    run = trackly.sync(state=state(bookmark))
    assert sorted(run.ids) == sorted(after)
    assert run.bookmark == "2025-03-01T00:30:00+00:00"


@pytest.mark.parametrize(
    "unusable", [{"updated_at": None}, {"updated_at": ""}, {}, {"updated_at": "soon"}, {"updated_at": 5}]
)
def test_a_record_without_a_usable_time_is_always_sent_and_never_moves_the_bookmark(
    trackly: Trackly, unusable: dict[str, Any]
) -> None:
    trackly.put({"id": "1", "updated_at": "2025-01-01T00:00:00Z"}, {"id": "2", **unusable})
    first = trackly.sync()
    assert (sorted(first.ids), first.bookmark) == (["1", "2"], "2025-01-01T00:00:00+00:00")
    second = trackly.sync(state=state("2025-02-01T00:00:00+00:00"))
    assert (second.ids, second.bookmark) == (["2"], "2025-02-01T00:00:00+00:00")


def test_the_bookmark_never_passes_the_start_of_the_run(trackly: Trackly) -> None:
    trackly.put({"id": "1", "updated_at": "2999-01-01T00:00:00Z"})
    run = trackly.sync()
    assert run.bookmark is not None
    passed = datetime.now(timezone.utc) - datetime.fromisoformat(run.bookmark)
    assert timedelta(minutes=5) <= passed < timedelta(minutes=6)
    assert trackly.sync(state=run.state).ids == ["1"]


def test_start_date_leaves_out_what_was_changed_before_it(trackly: Trackly) -> None:
    trackly.put(
        {"id": "before", "updated_at": "2025-01-31T23:59:59Z"},
        {"id": "at", "updated_at": "2025-02-01T00:00:00Z"},
        {"id": "unknown", "updated_at": None},
    )
    assert sorted(trackly.sync(start_date="2025-02-01").ids) == ["at", "unknown"]
    resend = state("2025-03-01T00:00:00+00:00", hours_ago(25))
    assert sorted(trackly.sync(state=resend, start_date="2025-02-01").ids) == ["at", "unknown"]
    assert trackly.sync(state=state("2025-03-01T00:00:00+00:00"), start_date="2025-02-01").ids == ["unknown"]


def test_full_table_by_catalog_sends_all_each_time(trackly: Trackly) -> None:
    catalog = offers_catalog()
    catalog["streams"][0]["replication_method"] = "FULL_TABLE"
    run = trackly.sync(catalog=catalog, start_date="2030-01-01")
    assert len(run.records) == 25
    again = trackly.sync(catalog=catalog, state=run.state)
    assert len(again.records) == 25
    assert again.messages[-1]["type"] == "STATE"


def test_every_offer_is_sent_again_when_the_time_has_come(trackly: Trackly) -> None:
    bookmark = "2026-01-01T00:00:00+00:00"
    assert trackly.sync(state=state(bookmark, hours_ago(23))).ids == []
    run = trackly.sync(state=state(bookmark, hours_ago(25)))
    assert len(run.records) == 25
    assert len(trackly.sync(state=run.state).records) == 1
    assert len(trackly.sync(state=run.state, full_resend_hours=0).records) == 25
    assert len(trackly.sync(state=run.state, full_resend_hours=0.000001).records) == 25


@pytest.mark.parametrize("unusable", ["soon", hours_ago(-48)])
def test_every_offer_is_sent_when_nobody_knows_when_it_last_was(trackly: Trackly, unusable: str) -> None:
    assert len(trackly.sync(state=state("2026-01-01T00:00:00+00:00", unusable)).records) == 25


def test_a_bookmark_set_by_hand_counts_and_starts_the_hours(trackly: Trackly) -> None:
    by_hand = {
        "bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "2025-12-01T08:00:00"}}
    }
    run = trackly.sync(state=by_hand)
    assert len(run.records) == 2
    assert len(trackly.sync(state=run.state).records) == 1
    assert len(trackly.sync(state=run.state, full_resend_hours=0.000001).records) == 25
    assert len(trackly.sync(state=by_hand, full_resend_hours=0).records) == 25


def test_hours_may_be_many(trackly: Trackly) -> None:
    assert trackly.sync(state=state("2026-01-01T00:00:00+00:00"), full_resend_hours=1e12).ids == []


def test_wider_settings_send_what_narrower_ones_left_out(trackly: Trackly) -> None:
    active = trackly.sync(offer_statuses=["active"])
    assert len(active.records) < 25
    assert len(trackly.sync(state=active.state, offer_statuses=["active"]).records) == 1
    assert len(trackly.sync(state=active.state).records) == 25
    late = trackly.sync(start_date="2025-12-01")
    assert len(late.records) == 2
    assert len(trackly.sync(state=late.state).records) == 25
    poor = trackly.sync(catalog=offers_catalog(payout={"selected": False}))
    assert len(trackly.sync(state=poor.state, catalog=offers_catalog(payout={"selected": False})).records) == 1
    assert all("payout" in record for record in trackly.sync(state=poor.state).records)
    assert len(trackly.sync(state=poor.state).records) == 25


@pytest.mark.parametrize("key", [[], ["advertiser_id"]])
def test_a_catalog_with_another_key_is_read_like_any_other(trackly: Trackly, key: list[str]) -> None:
    catalog = offers_catalog()
    catalog["streams"][0]["key_properties"] = key
    run = trackly.sync(catalog=catalog)
    assert sorted(run.ids) == sorted(trackly.account.offers)
    assert run.bookmark == "2025-12-15T09:12:00+00:00"
    assert not run.lines("WARNING")


def test_a_resend_repairs_an_archiving_that_did_not_move_the_time(trackly: Trackly) -> None:
    first = trackly.sync()
    offer = next(offer for offer in trackly.account.offers.values() if offer["status"] == "active")
    offer["status"] = "archived"
    assert trackly.sync(state=first.state, full_resend_hours=0).by_id[offer["id"]]["status"] == "archived"


def test_a_run_that_changes_nothing_ends_with_its_state(trackly: Trackly) -> None:
    trackly.put({"id": "1", "updated_at": "2025-01-01T00:00:00Z"})
    run = trackly.sync(state=state("2025-02-01T00:00:00+00:00"))
    assert run.records == []
    assert run.messages[-1]["type"] == "STATE"
    assert run.bookmark == "2025-02-01T00:00:00+00:00"


def test_the_log_tells_a_person_what_happens() -> None:
    account = Account(130)
    with running(account) as url:
        run = Trackly(account, url).sync(page_size=10)
    assert "offers: 130 records to read" in run.log
    assert "offers: done, 130 records read, 130 emitted, 0 unchanged, 14 pages" in run.log


def test_a_long_run_says_every_few_seconds_how_far_it_is() -> None:
    account = Account(12)
    with running(account, latency=0.6) as url:
        run = Trackly(account, url).sync(page_size=1, concurrency=1)
    assert any("of 12 records read" in line for line in run.lines("INFO"))
