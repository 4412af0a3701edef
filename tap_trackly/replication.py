"""Which records of a read are sent, and what the state remembers of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, ClassVar

from singer_sdk.helpers._state import PROGRESS_MARKERS
from singer_sdk.helpers.types import Context, Record
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL

from tap_trackly.client import TracklyClient
from tap_trackly.pagination import MAX_PASSES, Listing, Read
from tap_trackly.records import Convert, converters, fit, parse_time
from tap_trackly.workers import side_by_side

# What changes while a run reads may be missed by it, so the bookmark stays before the run's start,
# by the clock of this machine, which may be this much ahead of the server's.
CLOCK_TOLERANCE = timedelta(minutes=5)
LAST_FULL_SEND = "last_full_send"
SECONDS_BETWEEN_PROGRESS_LINES = 5.0


class TracklyStream(TracklyClient):
    """A stream that proves its reads before it moves its bookmark.

    Attributes:
        listings: The listings that together are all records of the endpoint.
        statuses: The statuses that the endpoint's filter takes, if a setting chooses among them.
        statuses_setting: That setting.
    """

    listings: ClassVar[Sequence[Listing]] = (Listing(),)
    statuses: ClassVar[Sequence[str]] = ()
    statuses_setting: ClassVar[str | None] = None

    @property
    def wanted_listings(self) -> Sequence[Listing]:
        """The listings to read: one for each status, if fewer than all are asked for."""
        statuses = self.config.get(self.statuses_setting or "", self.statuses)
        if set(statuses) == set(self.statuses):
            return self.listings
        return [Listing(status) for status in dict.fromkeys(statuses)]

    def request_records(self, context: Context | None) -> Iterator[Record]:
        """Read the listings and yield the records that are to be sent."""
        run = _Run(self.logger)
        since, floor = self._thresholds(context, run.started)
        read = Read(self.wanted_listings, self.fetch, self.primary_keys, side_by_side(int(self.config["concurrency"])))
        with self.conversation():
            for news in read:
                run.log_progress(read)
                for raw, changed_meanwhile in news:
                    if self._is_due(raw, floor if changed_meanwhile else since):
                        run.emitted += 1
                        yield self._fitted(raw)
                    else:
                        run.unchanged += 1
        self._remember(read, run.started, was_full=since == floor)
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
            self.logger.info("Sending every record, also those that have not changed.")
            return floor, floor
        bookmark = self.get_starting_timestamp(context)
        return (bookmark.astimezone(timezone.utc).isoformat() if bookmark else None), floor

    def _full_resend_is_due(self, now: datetime) -> bool:
        try:
            age = now - parse_time(self.stream_state.get(LAST_FULL_SEND))
        except ValueError:
            return True
        # A time in the future is no memory of this machine's clock, so it cannot be trusted.
        return not timedelta(0) <= age < timedelta(hours=self.config["full_resend_hours"])

    def _is_due(self, raw: Mapping[str, Any], threshold: str | None) -> bool:
        if threshold is None or self.replication_key is None:
            return True
        changed = _time_or_none(raw.get(self.replication_key))
        return changed is None or changed >= threshold

    def _fitted(self, raw: Mapping[str, Any]) -> Record:
        record, replaced = fit(raw, self._converters)
        for sentence in replaced:
            key = " ".join(f"{name}={record.get(name)}" for name in self.primary_keys)
            self.logger.warning("Stream %s, record %s: %s.", self.name, key, sentence)
        return record

    @cached_property
    def _converters(self) -> dict[str, Convert]:
        return converters(self.effective_schema["properties"])

    def _remember(self, read: Read, started: datetime, *, was_full: bool) -> None:
        if read.moves:
            self.logger.warning(
                "The records moved while they were read, in each of %d passes (%s); %d were read. Some may be "
                "missing, so the bookmark stays where it was and the next run sends them.",
                read.passes,
                "; ".join(read.moves),
                read.records,
            )
            self.stream_state.pop(PROGRESS_MARKERS, None)
        elif was_full and self.replication_method == REPLICATION_INCREMENTAL:
            self.stream_state[LAST_FULL_SEND] = started.isoformat()

    def _increment_stream_state(self, latest_record: Record, *, context: Context | None = None) -> None:
        # Private, because the SDK has no public place for it: its own logs a warning for each
        # record without a replication key value.
        if self.replication_key and latest_record.get(self.replication_key) is not None:
            super()._increment_stream_state(latest_record, context=context)


class _Run:
    """What the log says of one run of a stream."""

    def __init__(self, logger: logging.Logger) -> None:
        self.started = datetime.now(timezone.utc)
        self.emitted = 0
        self.unchanged = 0
        self._logger = logger
        self._began = self._spoke = time.monotonic()
        self._passes = 0

    def log_progress(self, read: Read) -> None:
        """Say how much there is to read, and every few seconds how far the run is."""
        if read.passes != self._passes:
            self._passes = read.passes
            self._logger.info("%d records to read (pass %d of at most %d).", read.expected, read.passes, MAX_PASSES)
        if time.monotonic() - self._spoke >= SECONDS_BETWEEN_PROGRESS_LINES:
            self._spoke = time.monotonic()
            self._logger.info("%d of %d records read, %d pages.", read.records, read.expected, read.pages)

    def log_end(self, read: Read) -> None:
        """Say what the run did."""
        self._logger.info(
            "Done: %d records read, %d emitted, %d unchanged, %d pages, %.1f seconds.",
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
