"""Incremental replication: which records to emit, and what the state stores. Pure functions."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from tap_trackly.records import parse_time

Record = dict[str, Any]

# A read may miss changes that happen during it, so the bookmark never advances past its start. The clock of
# this machine may be ahead of the server's by this much.
CLOCK_TOLERANCE = timedelta(minutes=5)
# Imported contacts may have a signup date before that of contacts that were already read.
_IMPORT_TOLERANCE = timedelta(days=1)
LAST_FULL_SEND = "last_full_send"
LAST_FULL_SEND_OF = "last_full_send_of"
_UNFINISHED = "unfinished"  # before the fingerprint of the last one that was finished


def due(records: Sequence[Record], key: str, threshold: str | None) -> Sequence[Record]:
    """Return the records to emit. Those without a valid time are always emitted.

    Args:
        records: Converted records.
        key: The replication key.
        threshold: Its minimum value; None for all records.
    """
    return [record for record in records if threshold is None or record[key] is None or record[key] >= threshold]


def is_old(key: str, threshold: str | None, record: Record) -> bool:
    """Return whether a record is so much older than a threshold that only older ones follow it.

    Without a threshold, none is.
    """
    try:
        return parse_time(record.get(key)) < parse_time(threshold) - _IMPORT_TOLERANCE
    except ValueError:
        return False


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
        last = parse_time(state.get(LAST_FULL_SEND, now.isoformat()))
        latest = max(last, parse_time(state.get("replication_key_value")))
    except ValueError:
        return "the state has no valid bookmark"
    if latest > now:
        return "the state is from the future"
    if now - last >= timedelta(hours=hours) * 23 / 24:  # schedulers do not start a run to the second
        return f"full_resend_hours is {hours}"
    before = str(state.get(LAST_FULL_SEND_OF, fingerprint)).split()
    changed = [part.partition(":")[0] for part in fingerprint.split() if part not in before]
    if changed:
        return f"{' and '.join(changed)} changed"
    return "the last one was not finished" if _UNFINISHED in before else ""


def begin_send(state: dict[str, Any], fingerprint: str) -> None:
    """Note in the state that records are sent with settings that differ from those of the last full resend.

    If this run fails after some records, the next one must be a full resend, even with the old settings.
    """
    before = str(state.get(LAST_FULL_SEND_OF, fingerprint))
    if before != fingerprint and not before.startswith(_UNFINISHED):
        state[LAST_FULL_SEND_OF] = f"{_UNFINISHED} {before}"


def fingerprint_of(**parts: Any) -> str:
    """Return a fingerprint of everything that determines what a full resend emits."""
    texts = {name: json.dumps(part, sort_keys=True, default=str) for name, part in parts.items()}
    return " ".join(f"{name}:{sha256(text.encode()).hexdigest()[:16]}" for name, text in texts.items())
