"""Log lines: one line, without the API key, and what they say about a read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_trackly.log import MAX_LINE, MaskingFormatter, ReadLog, api_words, count, one_line

SECRET = "trk_5ecret0f4nAcc0unt"  # noqa: S105
LIMIT = len(one_line("x" * 10_000))


@pytest.fixture(autouse=True, scope="module")
def _secret() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskingFormatter, "secret", SECRET)
        yield


@pytest.mark.parametrize(
    "text,line",
    [
        ("a\nb\r\n\tc", "a b c"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("nul\x00", r"nul\x00"),
        ("\x9bC1\x80", r"\x9bC1\x80"),
        ("\x7f", r"\x7f"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("\u2066x\u2069\u200f\u061c", r"\u2066x\u2069\u200f\u061c"),
        ("\ufeff\u200b\xad", r"\ufeff\u200b\xad"),
        ("\u2060\u206f", r"\u2060\u206f"),
        ("\ud800", r"\ud800"),
        ("ß ☃ 😀", "ß ☃ 😀"),
    ],
)
def test_invisible_characters_are_escaped(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text(alphabet=st.characters()), st.integers(2, 500))
def test_one_line_of_any_text(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert line.isprintable()


@pytest.mark.parametrize("limit", [LIMIT, MAX_LINE])
def test_long_text_is_truncated(limit: int) -> None:
    assert one_line("x" * (limit + 1), limit) == "x" * (limit - 1) + "…"
    assert one_line("x" * 100_000, limit) == "x" * (limit - 1) + "…"
    assert one_line("x" * limit, limit) == "x" * limit


def parts_of_the_key(line: str) -> list[str]:
    """Return parts of 4 characters of the key that a line shows."""
    return [part for start in range(len(SECRET) - 3) if (part := SECRET[start : start + 4]) in line]


@given(st.text(alphabet=" \nxß\x1b", max_size=60), st.integers(0, 1000), st.text(max_size=30), st.integers(1, 20))
def test_key_is_masked_in_text_of_any_length(before: str, padding: int, after: str, times: int) -> None:
    assert not parts_of_the_key(one_line((before + "-" * padding + SECRET) * times + after))


@pytest.mark.parametrize("before", range(LIMIT - 2 * len(SECRET), LIMIT + 2 * len(SECRET)))
@pytest.mark.parametrize("filler", ["x", " ", "\x1b"])
@pytest.mark.parametrize("after", ["", "x" * 1000])
def test_no_part_of_the_key_at_the_cut(before: int, filler: str, after: str) -> None:
    assert not parts_of_the_key(one_line(filler * before + SECRET + after))
    assert not parts_of_the_key(one_line(SECRET * 3 + filler * before + SECRET + after))


@pytest.mark.parametrize("key", ["", "x", "xxxxxxx"])
def test_missing_or_very_short_key_hides_nothing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MaskingFormatter, "secret", key)
    assert one_line(f"{SECRET} {'x' * 1000}").startswith(f"{SECRET} xxx")


def test_megabytes_of_text_take_no_time() -> None:
    began = time.process_time()
    for text in ("x" * 8_000_000, "\n x" * 4_000_000, f" {SECRET}" * 500_000):
        assert len(one_line(text)) == LIMIT
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "body,words",
    [
        (b'{"error": "No.", "code": "nope"}', "No. / nope"),
        (b'{"error": "No."}', "No."),
        (b'{"code": "nope", "message": "Hm"}', "nope / Hm"),
        (b'{"error": {"a": 1}}', "{'a': 1}"),
        (b'{"error": null}', ""),
        (b'["error"]', ""),
        (b"<html>", ""),
        (b"\xff", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_api_error_text(body: bytes, words: str) -> None:
    assert api_words(body) == (f", {words}" if words else "")


def test_api_error_text_is_one_line_without_the_key() -> None:
    assert api_words(f'{{"error": "Key\\n{SECRET} is wrong"}}'.encode()) == ", Key *** is wrong"
    assert not parts_of_the_key(api_words(f'{{"error": "{"x" * 140}{SECRET}{"x" * 1000}"}}'.encode()))


def test_api_error_text_of_a_stream_with_personal_data() -> None:
    body = b'{"error": "+12025550100 exists", "code": "exists", "message": "+12025550100"}'
    assert api_words(body, only_code=True) == ", exists"
    assert api_words(b'{"error": "+12025550100 exists"}', only_code=True) == ""
    assert api_words(b'{"code": "+12025550100 exists"}', only_code=True) == ""


@pytest.mark.parametrize("number,words", [(0, "0 pages"), (1, "1 page"), (2, "2 pages")])
def test_count(number: int, words: str) -> None:
    assert count(number, "page") == words


def formatted(message: str, *args: Any, exc_info: Any = None) -> str:
    record = logging.LogRecord("tap-trackly", logging.WARNING, "", 0, message, args, exc_info)
    return MaskingFormatter(logging.Formatter("%(levelname)s %(message)s")).format(record)


def test_formatter_masks_the_key() -> None:
    assert formatted("Key %s, 100 %%: %s", SECRET, "%s %d") == "WARNING Key ***, 100 %: %s %d"
    assert formatted("METRIC: %s", {"key": SECRET}) == "WARNING METRIC: {'key': '***'}"


def test_formatter_masks_tracebacks() -> None:
    shown = formatted("Traceback:", exc_info=(ValueError, ValueError(f"Key {SECRET}"), None))
    assert "ValueError: Key ***" in shown
    assert SECRET not in shown


def test_formatter_without_a_key_or_another_formatter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MaskingFormatter, "secret", "")
    record = logging.LogRecord("tap-trackly", logging.WARNING, "", 0, "%s", ("text",), None)
    assert MaskingFormatter(None).format(record) == "text"


NUMBERS = {"records": 2, "announced": 3, "pages": 1}
Lines = Callable[[], list[str]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return a function that returns the lines that were logged, except those of level INFO."""
    caplog.set_level(logging.INFO)
    return lambda: [f"{each.levelname} {each.getMessage()}" for each in caplog.records if each.levelname != "INFO"]


def read_log(*personal_fields: str) -> ReadLog:
    return ReadLog("offers", logging.getLogger(__name__), personal_fields)


def test_complete_read(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    log = read_log()
    log.progress(0, 3)
    log.progress(2, 3)
    log.emitted = 2
    log.end("", [], pages=4, records=3, announced=3)
    assert lines() == []
    first, last = caplog.messages
    assert first == "offers: 0 of 3 records read."
    assert last.startswith("offers: done, 3 records read, 2 emitted, 4 pages, ")


def test_incomplete_read(lines: Lines) -> None:
    read_log().end("the listing kept changing", [], **NUMBERS)
    assert lines() == [
        (
            "WARNING offers: Incomplete read: the listing kept changing. 2 records read, 3 announced. "
            "Bookmark not advanced."
        )
    ]


def test_failed_read(lines: Lines) -> None:
    read_log().end("a listing failed", [f"Key {SECRET}\n"], **NUMBERS)
    assert lines() == ["ERROR offers: Key ***"]


def test_read_with_several_errors(lines: Lines) -> None:
    read_log().end("", ["HTTP 400.", "HTTP 404.", "HTTP 400."], **NUMBERS)
    assert lines() == ["ERROR offers: HTTP 400. And 2 more errors."]


def test_records_without_a_key(lines: Lines) -> None:
    log = read_log()
    log.failures.append("a record is left out: page 1, record 2: key field 'id' is missing or empty.")
    log.failures.append("another one")
    assert len(log.failures) == 2
    log.end("", log.failures, **NUMBERS)
    assert lines() == [
        "ERROR offers: a record is left out: page 1, record 2: key field 'id' is missing or empty. And 1 more error."
    ]


def test_first_change_of_each_field_and_their_number(lines: Lines) -> None:
    log = read_log()
    log.changed_values({"id": "1\n"}, {"payout": "is not a number, sent as null"})
    log.changed_values({"id": "2"}, {"payout": "is not a number, sent as null", "a\nb": "is ignored"})
    log.end("", [], **NUMBERS)
    assert lines() == [
        "WARNING offers: record id=1: field 'payout' is not a number, sent as null.",
        "WARNING offers: record id=2: field 'a b' is ignored.",
        "WARNING offers: 1 more value changed or ignored.",
    ]


def test_no_summary_of_changes_that_were_logged(lines: Lines) -> None:
    log = read_log()
    log.changed_values({"id": "1"}, {f"field_{number}": "is ignored" for number in range(10)})
    log.end("", [], **NUMBERS)
    assert len(lines()) == 10


def test_personal_fields_are_not_logged(lines: Lines) -> None:
    read_log("phone_number").changed_values(
        {"list_id": 7, "phone_number": "+12025550100"}, {"email": "is not a text, sent as null"}
    )
    assert lines() == ["WARNING offers: record list_id=7: field 'email' is not a text, sent as null."]
