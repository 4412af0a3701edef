"""Which records are emitted, and what the state stores."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tap_trackly.incremental import (
    CLOCK_TOLERANCE,
    LAST_FULL_SEND,
    LAST_FULL_SEND_OF,
    begin_send,
    due,
    fingerprint_of,
    is_old,
    resend_reason,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
BOOKMARK = "2026-03-01T12:00:00+00:00"


@pytest.mark.parametrize(
    "updated_at,is_due",
    [
        ("2026-03-01T12:00:00+00:00", True),
        ("2026-03-01T12:00:00.000001+00:00", True),
        ("2026-03-01T11:59:59.999999+00:00", False),
        ("2026-03-02T00:00:00+00:00", True),
        ("0001-01-01T00:00:00+00:00", False),
        (None, True),
    ],
)
def test_due(updated_at: str | None, *, is_due: bool) -> None:
    records = [{"updated_at": updated_at}]
    assert due(records, "updated_at", BOOKMARK) == (records if is_due else [])
    assert due(records, "updated_at", None) == records


@pytest.mark.parametrize(
    "signup_date,expected",
    [
        ("2026-02-28T11:59:59Z", True),
        ("2026-02-28 11:59:59", True),
        ("2026-02-28T12:00:00", False),
        ("2026-02-28T12:59:59+01:00", True),
        ("soon", False),
        (None, False),
    ],
)
def test_is_old(signup_date: str | None, *, expected: bool) -> None:
    assert is_old("signup_date", BOOKMARK, {"signup_date": signup_date}) is expected
    assert not is_old("signup_date", BOOKMARK, {})


@pytest.mark.parametrize(
    "bookmark,reason",
    [
        (BOOKMARK, ""),
        (NOW.isoformat(), ""),
        ("2026-03-02T13:00:00+01:00", ""),
        ("2026-03-02T12:00:00.000001+00:00", "the state is from the future"),
        ("2026-03-02T12:30:00", "the state is from the future"),
        ("yesterday", "the state has no valid bookmark"),
        (5, "the state has no valid bookmark"),
        (None, "the state has no valid bookmark"),
    ],
)
def test_bookmark_of_another_time(bookmark: Any, reason: str) -> None:
    assert resend_reason({"replication_key_value": bookmark}, NOW, 24, "a:1") == reason


def state_of(age: timedelta, fingerprint: str | None = None) -> dict[str, Any]:
    state = {"replication_key_value": BOOKMARK, LAST_FULL_SEND: (NOW - age).isoformat()}
    return state if fingerprint is None else {**state, LAST_FULL_SEND_OF: fingerprint}


@pytest.mark.parametrize(
    "age,hours,reason",
    [
        (timedelta(0), 24, ""),
        (timedelta(hours=23, seconds=-1), 24, ""),
        (timedelta(hours=23), 24, "full_resend_hours is 24"),
        (timedelta(hours=36, minutes=20), 24, "full_resend_hours is 24"),
        (timedelta(hours=11.4), 12, ""),
        (timedelta(hours=11.5), 12, "full_resend_hours is 12"),
        (timedelta(hours=3000), 24, "full_resend_hours is 24"),
        (timedelta(hours=161), 168, "full_resend_hours is 168"),
        (timedelta(minutes=57), 1, ""),
        (timedelta(minutes=57.5), 1, "full_resend_hours is 1"),
        (timedelta(0), 0, "full_resend_hours is 0"),
        (timedelta(hours=5), 0, "full_resend_hours is 0"),
        (timedelta(seconds=-1), 24, "the state is from the future"),
        (timedelta(seconds=-1), 0, "the state is from the future"),
    ],
)
def test_full_resend_hours(age: timedelta, hours: int, reason: str) -> None:
    assert resend_reason(state_of(age), NOW, hours, "a:1") == reason
    stored = json.loads(json.dumps("a:1"))  # equal but not identical, as if read from a file
    assert resend_reason(state_of(age, stored), NOW, hours, "a:1") == reason


def test_state_written_by_hand() -> None:
    assert resend_reason({"replication_key_value": BOOKMARK}, NOW, 24, "a:1") == ""
    assert resend_reason({"replication_key_value": BOOKMARK}, NOW, 0, "a:1") == "full_resend_hours is 0"


@pytest.mark.parametrize("value", ["yesterday", None, 5])
def test_invalid_last_full_send(value: Any) -> None:
    assert (
        resend_reason({"replication_key_value": BOOKMARK, LAST_FULL_SEND: value}, NOW, 24, "a:1")
        == "the state has no valid bookmark"
    )


def test_last_full_send_with_utc_offset() -> None:
    state = {"replication_key_value": BOOKMARK, LAST_FULL_SEND: "2026-03-01T14:00:01+01:00"}
    assert resend_reason(state, NOW, 24, "") == ""
    assert resend_reason({**state, LAST_FULL_SEND: "2026-03-01T14:00:00+01:00"}, NOW, 24, "") != ""


def test_full_resend_after_change() -> None:
    before = fingerprint_of(account="a", settings=["b"], selection=["c"], stream_maps={})
    after = fingerprint_of(account="a", settings=["x"], selection=["c"], stream_maps={"y": 1})
    state = state_of(timedelta(hours=1), before)
    assert resend_reason(state, NOW, 24, before) == ""
    assert resend_reason(state, NOW, 24, after) == "settings and stream_maps changed"


@pytest.mark.parametrize(
    "before,reason",
    [
        ("account:1 settings:2", ""),
        ("account:0 settings:2", "account changed"),
        ("account:1", "settings changed"),
        ("settings:2 account:1", ""),
        (None, "account and settings changed"),
        (5, "account and settings changed"),
        ("account:1 settings:2 other:3", ""),
    ],
)
def test_changed_parts_of_fingerprint(before: Any, reason: str) -> None:
    state = {**state_of(timedelta(hours=1)), LAST_FULL_SEND_OF: before}
    assert resend_reason(state, NOW, 24, "account:1 settings:2") == reason


@pytest.mark.parametrize("other", ["account:1 settings:0", "account:1 settings:2"])
def test_failed_trial_of_other_settings(other: str) -> None:
    """After a run that may have sent records under other settings, all records are due, also under the old ones."""
    state = state_of(timedelta(hours=1), "account:1 settings:1")
    begin_send(state, "account:1 settings:1")
    assert state == state_of(timedelta(hours=1), "account:1 settings:1")
    for _ in range(2):
        begin_send(state, other)
        assert resend_reason(state, NOW, 24, other) == "settings changed"
        begin_send(state, "account:1 settings:1")
        assert resend_reason(state, NOW, 24, "account:1 settings:1") == "the last one was not finished"


@pytest.mark.parametrize("state", [{}, {"replication_key_value": BOOKMARK}])
def test_first_send(state: dict[str, Any]) -> None:
    before = dict(state)
    begin_send(state, "settings:1")
    assert state == before


def test_fingerprint() -> None:
    fingerprint = fingerprint_of(account={"b": 1, "a": 2}, settings=[NOW])
    assert fingerprint == fingerprint_of(account={"a": 2, "b": 1}, settings=[str(NOW)])
    names, hashes = zip(*(part.split(":") for part in fingerprint.split()), strict=True)
    assert names == ("account", "settings")
    assert [len(each) for each in hashes] == [16, 16]
    assert fingerprint_of(account=1) != fingerprint_of(account=2)
    assert fingerprint_of(account=["key"]) == "account:f9ba5f51eeb2e314"


def test_clock_tolerance() -> None:
    assert timedelta(minutes=5) == CLOCK_TOLERANCE
