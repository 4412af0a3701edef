"""Log lines: one line each, without the API key and without control characters."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from typing_extensions import override

MAX_LINE = 400  # characters of an error in a log line
_MAX_WORDS = 150  # characters of text from others in a log line
_MASK = "***"
_SECONDS_BETWEEN_LINES = 5.0
_MAX_FIELDS = 10  # fields of which changes are logged


class MaskingFormatter(logging.Formatter):
    """Hides the API key in the lines of another formatter."""

    secret = ""

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = self._formatter.format(record)
        return line.replace(self.secret, _MASK) if self.secret else line


def one_line(text: str, limit: int = _MAX_WORDS) -> str:
    """Return a text as one short line without the API key, non-printable characters escaped."""
    secret = MaskingFormatter.secret
    # Cut first, because the text may be long, but leave no part of a key at the cut.
    shown = text[: limit + len(secret)]
    shown = shown.replace(secret, _MASK) if secret else shown
    if secret and len(text) > limit + len(secret):
        shown = shown[: -len(secret)]
    words = " ".join(shown.split())
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)
    return line if len(line) <= limit and len(text) <= limit + len(secret) else f"{line[: limit - 1]}…"


def api_words(body: bytes, *, only_code: bool = False) -> str:
    """Return the error text and code of a response, "" if it has none.

    Source: the vendor's pages on errors: `{"error": "text for people", "code": "word_for_programs"}`, in
    which the code may be missing.

    Args:
        body: The body of the response.
        only_code: Whether the text may contain personal data.
    """
    try:
        answer = json.loads(body)
        names = ("code",) if only_code else ("error", "code", "message")
        words = " / ".join(str(answer[name]) for name in names if answer.get(name))
    except (AttributeError, RecursionError, ValueError):  # not an object, too deep, not JSON
        return ""
    return f", {one_line(words)}" if words else ""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 page" or "2 pages"."""
    return f"{number:d} {noun}" if number == 1 else f"{number:d} {noun}s"


class Progress(Protocol):
    """How far a read is, and its result."""

    passes: int
    pages: int
    records: int
    reason: str

    @property
    def announced(self) -> int:
        """The number of records to read, according to the API."""


class ReadLog:
    """The log lines of one read, and the counts in them.

    Args:
        stream: The name of the stream, with which each line begins.
        logger: The logger.
        personal_fields: Fields whose values are not logged.

    Attributes:
        emitted: The number of emitted records.
        failures: Why records could not be emitted.
    """

    def __init__(self, stream: str, logger: logging.Logger, personal_fields: Sequence[str]) -> None:
        self.emitted = 0
        self.failures: list[str] = []
        self._stream = stream
        self._logger = logger
        self._personal_fields = personal_fields
        self._changed: Counter[str] = Counter()
        self._began = self._logged = time.monotonic()

    def progress(self, read: Progress) -> None:
        """Log the progress at the start and every few seconds."""
        if read.pages == 1 and read.passes == 1:
            self._logger.info("%s: %s to read so far.", self._stream, count(read.announced, "record"))
        elif time.monotonic() - self._logged >= _SECONDS_BETWEEN_LINES:
            self._logged = time.monotonic()
            words = (self._stream, read.records, read.announced, count(read.pages, "page"))
            self._logger.info("%s: %d of %d records read, %s.", *words)

    def changed_values(self, key: Mapping[str, Any], changed: Mapping[str, str]) -> None:
        """Log the first change of each field."""
        for name, reason in changed.items():
            self._changed[name] += 1
            if self._changed[name] > 1 or len(self._changed) > _MAX_FIELDS:
                continue
            shown = [f"{each}={one_line(str(key[each]))}" for each in key if each not in self._personal_fields]
            self._logger.warning("%s: record %s: field '%s' %s.", self._stream, " ".join(shown), one_line(name), reason)

    def without_key(self, failure: str) -> None:
        """Log that a record is left out, because it has no valid key."""
        self.failures.append(failure)
        if len(self.failures) == 1:
            self._logger.error("%s: a record is left out: %s.", self._stream, failure)

    def end(self, read: Progress, errors: Sequence[str]) -> None:
        """Log the result of the read."""
        for name, number in self._changed.most_common(_MAX_FIELDS):
            if number > 1:
                self._logger.warning(
                    "%s: field '%s' was changed or ignored in %s.",
                    self._stream,
                    one_line(name),
                    count(number, "record"),
                )
        if len(self._changed) > _MAX_FIELDS:
            more = count(len(self._changed) - _MAX_FIELDS, "more field")
            self._logger.warning("%s: %s were changed or ignored.", self._stream, more)
        if len(self.failures) > 1:
            self._logger.error("%s: %d records are left out.", self._stream, len(self.failures))
        elif errors and not self.failures:
            self._logger.error("%s: %s", self._stream, one_line(errors[0], MAX_LINE))
        if read.reason and not errors:
            self._logger.warning(
                "%s: Incomplete read: %s. %s read, %d announced. Bookmark not advanced.",
                self._stream,
                read.reason,
                count(read.records, "record"),
                read.announced,
            )
        self._logger.info(
            "%s: done, %s read, %d emitted, %s, %.1f seconds.",
            self._stream,
            count(read.records, "record"),
            self.emitted,
            count(read.pages, "page"),
            time.monotonic() - self._began,
        )
