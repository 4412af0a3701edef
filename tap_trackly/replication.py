"""Which records of a read are sent, and what the state remembers of it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from hashlib import sha256
from typing import Any, ClassVar

from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.helpers.types import Context, Record
from singer_sdk.singerlib import RecordMessage
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL

from tap_trackly.client import TracklyClient
from tap_trackly.pagination import MAX_PASSES, Listing, Read
from tap_trackly.records import Convert, converters, fit, parse_time
from tap_trackly.workers import side_by_side

# What changes while a run reads may be missed by it, so the bookmark stays before the run's start,
# by the clock of this machine, which may be this much ahead of the server's.
CLOCK_TOLERANCE = timedelta(minutes=5)
LAST_FULL_SEND = "last_full_send"
LAST_FULL_SEND_OF = "last_full_send_of"
SECONDS_BETWEEN_PROGRESS_LINES = 5.0


class TracklyStream(TracklyClient):
    """A stream that proves its reads before it moves its bookmark.

    Attributes:
        listings: The listings that together are all records of the endpoint.
        personal_fields: Parts of the key that the log does not show.
        statuses: The statuses that the endpoint's filter takes, if a setting chooses among them.
        statuses_setting: That setting.
    """

    # records.py has converted each value and dropped unknown fields by the time the SDK would.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    listings: ClassVar[Sequence[Listing]] = (Listing(),)
    personal_fields: ClassVar[Sequence[str]] = ()
    statuses: ClassVar[Sequence[str]] = ()
    statuses_setting: ClassVar[str | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unknown: set[str] = set()
        # Kept from before a catalog is applied, in which a user may name another key for the target, or none.
        self._key = tuple(self.primary_keys)

    def generate_child_contexts(self, record: Record, context: Context | None) -> Sequence[Context | None]:  # noqa: ARG002
        """Return none, since no stream has children: the SDK would copy each record for them."""
        return ()

    @property
    def wanted_listings(self) -> Sequence[Listing]:
        """The listings to read: one for each status, if fewer than all are asked for."""
        statuses = self.config.get(self.statuses_setting or "", self.statuses)
        if set(statuses) == set(self.statuses):
            return self.listings
        return [Listing(status) for status in dict.fromkeys(statuses)]

    def request_records(self, context: Context | None) -> Iterator[Record]:
        """Read the listings and yield the records that are to be sent."""
        run = _Run(self.name, self.logger)
        since, floor = self._thresholds(context, run.started)
        read = Read(self.wanted_listings, self.fetch, self._key, side_by_side(int(self.config["concurrency"])))
        with self.conversation():
            for news in read:
                run.log_progress(read)
                for raw, changed_meanwhile in news:
                    if self._is_due(raw, floor if changed_meanwhile else since):
                        run.emitted += 1
                        record = self._fitted(raw)
                        run.note(record.get(self.replication_key or ""))
                        yield record
                    else:
                        run.unchanged += 1
        if read.moves:
            self._warn_of_moves(read)
        elif self.replication_method == REPLICATION_INCREMENTAL:
            self._move_bookmark(run, context)
            if since == floor or LAST_FULL_SEND not in self.stream_state:
                self.stream_state[LAST_FULL_SEND] = run.started.isoformat()
                self.stream_state[LAST_FULL_SEND_OF] = self._scope
        run.log_end(read)

    def get_replication_key_signpost(self, context: Context | None = None) -> datetime | None:
        """Return the latest bookmark that this run may set: a little before its start."""
        signpost = super().get_replication_key_signpost(context)
        return signpost and signpost - CLOCK_TOLERANCE

    def _thresholds(self, context: Context | None, now: datetime) -> tuple[str | None, str | None]:
        """The replication key values from which on records are sent, `None` for all.

        Returns:
            One for records as they are first read, and one for those that are seen to change while
            the listings are read.
        """
        if self.replication_method != REPLICATION_INCREMENTAL:
            return None, None
        start_date = self.config.get("start_date")
        floor = parse_time(start_date).isoformat() if start_date else None
        if self._full_resend_is_due(now):
            self.logger.info("%s: sending every record, also those that have not changed.", self.name)
            return floor, floor
        bookmark = self.get_starting_timestamp(context)
        return (bookmark.astimezone(timezone.utc).isoformat() if bookmark else None), floor

    def _full_resend_is_due(self, now: datetime) -> bool:
        # A state without this memory was written by hand: its bookmark counts, and the hours from now on.
        last = self.stream_state.get(LAST_FULL_SEND, now.isoformat())
        try:
            age = now - parse_time(last)
        except ValueError:
            return True
        # A time in the future is no memory of this machine's clock, so it cannot be trusted.
        if not 0 <= age.total_seconds() < self.config["full_resend_hours"] * 3600:
            return True
        return bool(self.stream_state.get(LAST_FULL_SEND_OF, self._scope) != self._scope)

    @cached_property
    def _scope(self) -> str:
        """What a full send sends, in short: other settings or another selection give another text."""
        properties = [name for name in self.effective_schema["properties"] if self.mask["properties", name]]
        scope = [[str(listing) for listing in self.wanted_listings], self.config.get("start_date"), sorted(properties)]
        return sha256(json.dumps(scope).encode()).hexdigest()[:16]

    def _is_due(self, raw: Mapping[str, Any], threshold: str | None) -> bool:
        if threshold is None or self.replication_key is None:
            return True
        changed = _time_or_none(raw.get(self.replication_key))
        return changed is None or changed >= threshold

    def _fitted(self, raw: Mapping[str, Any]) -> Record:
        record, replaced, unknown = fit(raw, self._converters)
        for sentence in replaced:
            self.logger.warning("Stream %s, record %s: %s.", self.name, self._shown_key(record), sentence)
        if not self._unknown.issuperset(unknown):
            self._unknown.update(unknown)
            names = self.redacted(", ".join(unknown))
            self.logger.warning("Stream %s: left out fields that its schema does not know: %s.", self.name, names)
        return record

    def _shown_key(self, record: Record) -> str:
        shown = {name: "***" if name in self.personal_fields else record.get(name) for name in self._key}
        return self.redacted(" ".join(f"{name}={value}" for name, value in shown.items()))

    @cached_property
    def _converters(self) -> dict[str, Convert]:
        return converters(self.effective_schema["properties"])

    def _warn_of_moves(self, read: Read) -> None:
        self.logger.warning(
            "%s: records moved while they were read, in each of %d passes (%s); %d were read. Some may be missing. "
            "The bookmark, if the stream has one, stays where it was, so that the next run sends them.",
            self.name,
            read.passes,
            "; ".join(read.moves),
            read.records,
        )

    def _move_bookmark(self, run: _Run, context: Context | None) -> None:
        if run.latest is not None:
            super()._increment_stream_state({str(self.replication_key): run.latest}, context=context)

    @cached_property
    def _selects_everything(self) -> bool:
        return all(self.mask.values())

    def _generate_record_messages(self, record: Record) -> Generator[RecordMessage, None, None]:
        # Private, because the SDK has no public place for it: its own asks for each field of each
        # record, and for each field inside, whether it is selected, a fifth of all work per record.
        if not self._selects_everything:
            yield from super()._generate_record_messages(record)
            return
        now = datetime.now(timezone.utc)
        for stream_map in self.stream_maps:
            mapped = stream_map.transform(record)
            if mapped is not None:
                yield RecordMessage(stream_map.stream_alias, mapped, self._stream_version, now)

    def _increment_stream_state(self, latest_record: Record, *, context: Context | None = None) -> None:
        """Leave the bookmark where it is; `_move_bookmark` moves it at the end of a complete read."""
        # Private, because the SDK has no public place for it: its own moves the bookmark with each
        # record, and stumbles over one without a time.


class _Run:
    """What one run of a stream has done, and what the log says of it."""

    def __init__(self, stream: str, logger: logging.Logger) -> None:
        self.started = datetime.now(timezone.utc)
        self.latest: str | None = None
        self.emitted = 0
        self.unchanged = 0
        self._stream = stream
        self._logger = logger
        self._began = self._spoke = time.monotonic()
        self._passes = 0

    def note(self, changed: str | None) -> None:
        """Remember the latest replication key value among the records that were sent."""
        if changed is not None and (self.latest is None or changed > self.latest):
            self.latest = changed

    def log_progress(self, read: Read) -> None:
        """Say how much there is to read, and every few seconds how far the run is."""
        if read.passes != self._passes:
            self._passes = read.passes
            self._logger.info(
                "%s: %d records to read (pass %d of at most %d).",
                self._stream,
                read.expected,
                read.passes,
                MAX_PASSES,
            )
        if time.monotonic() - self._spoke >= SECONDS_BETWEEN_PROGRESS_LINES:
            self._spoke = time.monotonic()
            self._logger.info(
                "%s: %d of %d records read, %d pages.", self._stream, read.records, read.expected, read.pages
            )

    def log_end(self, read: Read) -> None:
        """Say what the run did."""
        self._logger.info(
            "%s: done, %d records read, %d emitted, %d unchanged, %d pages, %.1f seconds.",
            self._stream,
            read.records,
            self.emitted,
            self.unchanged,
            read.pages,
            time.monotonic() - self._began,
        )


def _time_or_none(value: Any) -> str | None:
    try:
        return parse_time(value).isoformat()
    except ValueError:
        return None
