"""Log lines of a run: progress, and summaries of each stream and of the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timezone

from tap_trackly.verified_read import MAX_PASSES, VerifiedRead

_SECONDS_BETWEEN_LINES = 5.0
_INCOMPLETE = (
    "Incomplete read: the listing kept changing. %d records read, %d announced. Bookmark not advanced. "
    "Run again; if this happens in every run, set concurrency to 1."
)


class StreamSummary:
    """The progress and the result of a stream.

    Args:
        stream: The name of the stream.

    Attributes:
        started: The start time of the stream.
        emitted: The number of emitted records.
        left_out: The number of records that were read but not emitted.
        left_out_as: The reason, as in the log line.
        unwanted: The number of records whose status is not in offer_statuses.
        announced: The number of records in all listings, according to their first pages.
        is_incomplete: Whether the read could not be verified.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.started = datetime.now(timezone.utc)
        self.emitted = self.left_out = self.unwanted = self.announced = 0
        self.left_out_as = "unchanged"
        self.is_incomplete = False
        self._logged = time.monotonic()
        self._passes = 0

    def log_progress(self, read: VerifiedRead, logger: logging.Logger) -> None:
        """Log the number of records at the start of each pass, and the progress every few seconds."""
        if read.passes != self._passes:
            self._passes = read.passes
            again = f" (pass {read.passes} of at most {MAX_PASSES})" if read.passes > 1 else ""
            logger.info("%s: %s to read%s.", self.stream, _count(self.announced, "record"), again)
        if time.monotonic() - self._logged >= _SECONDS_BETWEEN_LINES:
            self._logged = time.monotonic()
            logger.info("%s: %d of %d records read, %d pages.", self.stream, read.records, self.announced, read.pages)

    def log_end(self, read: VerifiedRead, logger: logging.Logger) -> None:
        """Log the summary of the stream, and whether records may have been missed."""
        self.is_incomplete = not read.is_verified
        if self.is_incomplete:
            logger.warning(_INCOMPLETE, read.records, read.announced)
        if self.unwanted:
            logger.warning("Skipped %d records whose status is not in offer_statuses.", self.unwanted)
        counts = f"{_count(read.records, 'record')} read, {self.emitted} emitted, {self.left_out} {self.left_out_as}"
        seconds = (datetime.now(timezone.utc) - self.started).total_seconds()
        logger.info("%s: done, %s, %s, %.1f seconds.", self.stream, counts, _count(read.pages, "page"), seconds)


def log_run(summaries: Sequence[StreamSummary], seconds: float, logger: logging.Logger) -> None:
    """Log the summary of the run."""
    incomplete = ", ".join(summary.stream for summary in summaries if summary.is_incomplete)
    emitted = _count(sum(summary.emitted for summary in summaries), "record")
    result = f"incomplete: {incomplete}" if incomplete else "all complete"
    logger.info("Run finished: %s, %s, %.1f seconds, %s.", emitted, _count(len(summaries), "stream"), seconds, result)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
