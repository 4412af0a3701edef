"""Incremental replication: which records to emit, and what the state stores. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from tap_trackly.records import parse_time, utc_text

# A run may miss changes that happen during it, so the bookmark never advances past its start. The clock of
# this machine may be ahead of the server's by this much.
CLOCK_TOLERANCE = timedelta(minutes=5)
LAST_FULL_SEND = "last_full_send"
LAST_FULL_SEND_OF = "last_full_send_of"
# Schedulers do not start a run to the second, so a resend is due earlier by this fraction of the interval.
_EARLIER = 1 / 24


class Thresholds(NamedTuple):
    """The minimum replication key values of emitted records, in UTC; None for all records.

    Attributes:
        seen_first: For a record that is read for the first time.
        seen_changed: For a record that changed during the read.
        is_bookmark_in_future: Whether the bookmark is ignored because it is after the start of the run.
    """

    seen_first: str | None = None
    seen_changed: str | None = None
    is_bookmark_in_future: bool = False

    @property
    def is_full(self) -> bool:
        """Whether all records are emitted, except those last updated before the start date."""
        return self.seen_first == self.seen_changed


def thresholds(
    state: Mapping[str, Any], bookmark: datetime | None, start_date: str | None, resend_reason: str, now: datetime
) -> Thresholds:
    """Return the minimum replication key values of emitted records.

    Args:
        state: The state of the stream.
        bookmark: The bookmark of the last run, or the start date if that is later.
        start_date: The setting, in UTC.
        resend_reason: The reason for a full resend, or "".
        now: The start of the run.
    """
    value = state.get("replication_key_value")
    is_in_future = value is not None and parse_time(value) > now
    if resend_reason or is_in_future or bookmark is None:
        return Thresholds(start_date, start_date, is_in_future)
    return Thresholds(utc_text(bookmark.isoformat()), start_date)


def should_emit(updated_at: Any, threshold: str | None) -> bool:
    """Return whether to emit a record. Records without a valid time are always emitted."""
    try:
        return threshold is None or utc_text(updated_at) >= threshold
    except ValueError:
        return True


def resend_reason(state: Mapping[str, Any], now: datetime, hours: float, fingerprint: str) -> str:
    """Return the reason for a full resend; "" if none is due.

    Args:
        state: The state of the stream. One without the time of the last full resend was written by hand:
            its bookmark is used, and the hours count from now.
        now: The start of the run.
        hours: The setting full_resend_hours.
        fingerprint: The result of `fingerprint_of`.
    """
    try:
        age = (now - parse_time(state.get(LAST_FULL_SEND, now.isoformat()))).total_seconds()
    except ValueError:
        return "last_full_send in the state is not a valid time"
    if age < 0:
        return "the last full resend is in the future"
    if age >= hours * 3600 * (1 - _EARLIER):
        return f"{age / 3600:.0f} hours since the last full resend" if hours else "full_resend_hours is 0"
    before = state.get(LAST_FULL_SEND_OF, fingerprint)
    known = str(before).split()
    changed = [part.partition(":")[0] for part in fingerprint.split() if part not in known] or ["settings"]
    return f"{' and '.join(changed)} changed" if before != fingerprint else ""


def fingerprint_of(**parts: Any) -> str:
    """Return a fingerprint of everything that determines what a full resend emits."""
    return " ".join(f"{name}:{_hash(part)}" for name, part in parts.items())


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
