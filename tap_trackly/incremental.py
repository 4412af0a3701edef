"""Incremental replication: which records to emit, and what the state stores. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from tap_trackly.records import parse_time, utc_text

# What changes during a run may be missed by it, so the bookmark never advances past the start of the run,
# by the clock of this machine, which may be this much ahead of the server's.
CLOCK_TOLERANCE = timedelta(minutes=5)
LAST_FULL_SEND = "last_full_send"
LAST_FULL_SEND_OF = "last_full_send_of"
# A schedule does not start to the second, so a resend is due this part of its interval earlier.
_EARLIER = 1 / 24


class Thresholds(NamedTuple):
    """The replication key values from which on records are emitted, in UTC; None for all records.

    Attributes:
        seen_first: For a record when it is first read.
        seen_changed: For a record that is seen to change during the read.
        is_bookmark_in_future: Whether the bookmark is ignored because it lies after the start of the run.
    """

    seen_first: str | None = None
    seen_changed: str | None = None
    is_bookmark_in_future: bool = False

    @property
    def is_full(self) -> bool:
        """Whether all records are emitted, but for those that were last changed before the start date."""
        return self.seen_first == self.seen_changed


def thresholds(
    state: Mapping[str, Any], bookmark: datetime | None, start_date: str | None, resend_reason: str, now: datetime
) -> Thresholds:
    """Return from which replication key values on records are emitted.

    Args:
        state: The state of the stream.
        bookmark: Where the last run ended, or the start date if that is later.
        start_date: The setting, in UTC.
        resend_reason: Why all records are due, or "".
        now: The start of the run.
    """
    value = state.get("replication_key_value")
    is_in_future = value is not None and parse_time(value) > now
    if resend_reason or is_in_future or bookmark is None:
        return Thresholds(start_date, start_date, is_in_future)
    return Thresholds(utc_text(bookmark.isoformat()), start_date)


def should_emit(updated_at: Any, threshold: str | None) -> bool:
    """Return whether a record is due. One without a valid time always is."""
    try:
        return threshold is None or utc_text(updated_at) >= threshold
    except ValueError:
        return True


def resend_reason(state: Mapping[str, Any], now: datetime, hours: float, fingerprint: str) -> str:
    """Return why all records are due to be sent again; "" if they are not.

    Args:
        state: The state of the stream. One without the time of the last full resend was written by hand:
            its bookmark counts, and the hours start now.
        now: The start of the run.
        hours: The setting full_resend_hours.
        fingerprint: What a full resend sends, as `fingerprint_of` returns it.
    """
    try:
        age = (now - parse_time(state.get(LAST_FULL_SEND, now.isoformat()))).total_seconds()
    except ValueError:
        return "the state does not tell when all records were last sent"
    if age < 0:
        return "the last full resend lies in the future"
    if age >= hours * 3600 * (1 - _EARLIER):
        return f"{age / 3600:.0f} hours since the last full resend" if hours else "full_resend_hours is 0"
    before = state.get(LAST_FULL_SEND_OF, fingerprint)
    known = str(before).split()
    changed = [part.partition(":")[0] for part in fingerprint.split() if part not in known] or ["settings"]
    return f"{' and '.join(changed)} changed" if before != fingerprint else ""


def fingerprint_of(**parts: Any) -> str:
    """Return a short text that changes with each part of what a full resend sends."""
    return " ".join(f"{name}:{_hash(part)}" for name, part in parts.items())


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
