"""Incremental replication: which records to emit, and what the state stores. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from tap_trackly.records import parse_time

Record = dict[str, Any]

# A run may miss changes that happen during it, so the bookmark never advances past its start. The clock of
# this machine may be ahead of the server's by this much.
CLOCK_TOLERANCE = timedelta(minutes=5)
LAST_FULL_SEND = "last_full_send"
LAST_FULL_SEND_OF = "last_full_send_of"
# Schedulers do not start a run to the second, so a resend is due earlier by this fraction of the interval.
_EARLIER = 1 / 24
_UNFINISHED = "unfinished"  # no fingerprint


def due(records: Sequence[Record], key: str, threshold: str | None) -> Sequence[Record]:
    """Return the records to emit. Those without a valid time are always emitted.

    Args:
        records: Converted records.
        key: The replication key.
        threshold: Its minimum value; None for all records.
    """
    if threshold is None:
        return records
    return [record for record in records if record[key] is None or record[key] >= threshold]


def resend_reason(state: Mapping[str, Any], now: datetime, hours: int, fingerprint: str) -> str:
    """Return the reason for a full resend; "" if none is due.

    Args:
        state: The state of the stream. One without the time of the last full resend was written by hand:
            its bookmark is used, and the hours count from now.
        now: The start of the run.
        hours: The setting full_resend_hours.
        fingerprint: The result of `fingerprint_of`.
    """
    try:
        age = now - parse_time(state.get(LAST_FULL_SEND, now.isoformat()))
        bookmark = state.get("replication_key_value") or now.isoformat()
        is_from_future = age < timedelta(0) or parse_time(bookmark) > now
    except ValueError:
        return "the state has an invalid time"
    if is_from_future:
        return "the state is from the future"
    if age >= timedelta(hours=hours) * (1 - _EARLIER):
        elapsed = f"{age.total_seconds() / 3600:.0f} hours since the last full resend"
        return elapsed if hours else "full_resend_hours is 0"
    before = state.get(LAST_FULL_SEND_OF, fingerprint)
    changed = [part.partition(":")[0] for part in fingerprint.split() if part not in str(before).split()]
    return f"{' and '.join(changed) or 'settings'} changed" if before != fingerprint else ""


def begin_send(state: dict[str, Any], fingerprint: str) -> None:
    """Note that records are sent under other settings than before.

    If this run fails after some records, the next one must send all of them again, also under the old settings.
    """
    if state.get(LAST_FULL_SEND_OF, fingerprint) != fingerprint:
        state[LAST_FULL_SEND_OF] = _UNFINISHED


def fingerprint_of(**parts: Any) -> str:
    """Return a fingerprint of everything that determines what a full resend emits."""
    return " ".join(f"{name}:{_hash(part)}" for name, part in parts.items())


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
