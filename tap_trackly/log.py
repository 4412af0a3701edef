"""Log lines: one line each, without the API key and without control characters."""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

MAX_LINE = 400  # characters of an error in a log line
_MAX_WORDS = 150  # characters of text from others in a log line
_SHORTEST_KEY = 8  # a shorter API key would also hide parts of other words


class MaskingFormatter(logging.Formatter):
    """Hides the API key in the lines of another formatter."""

    secret = ""

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    @override
    def format(self, record: logging.LogRecord) -> str:
        return _masked(self._formatter.format(record))


def _masked(text: str) -> str:
    secret = MaskingFormatter.secret
    return text.replace(secret, "***") if len(secret) >= _SHORTEST_KEY else text


def one_line(text: str, limit: int = _MAX_WORDS) -> str:
    """Return a text as one short line without the API key, non-printable characters escaped."""
    words = " ".join(_masked(text).split(maxsplit=limit))[: limit + 1]
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def api_words(body: bytes, *, only_code: bool = False) -> str:
    """Return the error text and code of a response, "" if it has none.

    Source: the vendor's pages on errors: `{"error": "text for people", "code": "word_for_programs"}`, in
    which the code may be missing.

    Args:
        body: The body of the response.
        only_code: Whether to leave out the text, which may contain personal data.
    """
    try:
        answer = json.loads(body)
        words = " / ".join(str(answer[name]) for name in ("error", "code", "message") if answer.get(name))
        if only_code:
            words = code if re.fullmatch("[A-Za-z_]+", code := str(answer.get("code") or "")) else ""
    except (AttributeError, RecursionError, ValueError):  # not an object, too deep, not JSON
        return ""
    return f", {one_line(words)}" if words else ""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 page" or "2 pages"."""
    return f"{number:d} {noun}" if number == 1 else f"{number:d} {noun}s"


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
        self._stream, self._logger, self._personal_fields = stream, logger, personal_fields
        self._changed: Counter[str] = Counter()
        self._began, self._next_line = time.monotonic(), 0.0

    def progress(self, records: int, announced: int) -> None:
        """Log the progress at the start and every five seconds."""
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 5
            self._log(logging.INFO, f"{records} of {announced} records read.")

    def changed_values(self, key: Mapping[str, Any], changed: Mapping[str, str]) -> None:
        """Log the first change of each field."""
        for name, reason in changed.items():
            self._changed[name] += 1
            if self._changed[name] == 1:
                shown = [f"{each}={one_line(str(key[each]))}" for each in key if each not in self._personal_fields]
                self._log(logging.WARNING, f"record {' '.join(shown)}: field '{one_line(name)}' {reason}.")

    def end(self, reason: str, errors: Sequence[str], *, records: int, announced: int, pages: int) -> None:
        """Log the result of the read.

        Args:
            reason: Why records may be missing; "" if none can be.
            errors: What failed.
            records: The number of records read.
            announced: The number of records that the API announced.
            pages: The number of pages read.
        """
        read, seconds = f"{count(records, 'record')} read", time.monotonic() - self._began
        if more := self._changed.total() - len(self._changed):
            self._log(logging.WARNING, f"{count(more, 'more value')} changed or ignored.")
        if errors:
            others = f" And {count(len(errors) - 1, 'more error')}." if len(errors) > 1 else ""
            self._log(logging.ERROR, one_line(errors[0], MAX_LINE) + others)
        elif reason:
            words = f"Incomplete read: {reason}. {read}, {announced} announced. Bookmark not advanced."
            self._log(logging.WARNING, words)
        self._log(logging.INFO, f"done, {read}, {self.emitted} emitted, {count(pages, 'page')}, {seconds:.1f} seconds.")

    def _log(self, level: int, text: str) -> None:
        self._logger.log(level, "%s: %s", self._stream, text)
