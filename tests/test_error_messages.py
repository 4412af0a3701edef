"""Error messages, and what the log must not show."""

from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import sys
import zlib
from http.client import BadStatusLine, IncompleteRead, LineTooLong, RemoteDisconnected
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ConnectTimeout, InvalidProxyURL, InvalidSchema, InvalidURL, ProxyError

from tap_trackly.errors import (
    MAX_LINE,
    MAX_WORDS,
    METRICS_LOGGER,
    LogFilter,
    api_words,
    connection_advice,
    connection_words,
    is_unreachable,
    mask,
    one_line,
    root_cause,
    status_advice,
    without_phone_numbers,
)

SECRET = "trk_5ecret0f4nAcc0unt"  # noqa: S105


@pytest.mark.parametrize(
    "text,masked",
    [
        (SECRET, "***"),
        (f"the key {SECRET} is wrong", "the key *** is wrong"),
        (f"{SECRET}{SECRET}", "***"),
        (SECRET.upper(), "***"),
        (SECRET.swapcase(), "***"),
        (SECRET[:8], "***"),
        (SECRET[-8:], "***"),
        (f"key={SECRET[:12]}…", "key=***…"),
        (f"{SECRET[:10]} {SECRET[10:]}", "*** ***"),
        (f"İİ{SECRET}", "İİ***"),
        ("a trk_ key", "a trk_ key"),
        (SECRET[:7], SECRET[:7]),
        ("", ""),
    ],
)
def test_mask_key_and_parts(text: str, masked: str) -> None:
    assert mask(text, SECRET) == masked


def test_mask_short_or_empty_key() -> None:
    assert mask("ab ABC abcabc", "abc") == "ab *** ***"
    assert mask("abc", "") == "abc"


@given(before=st.text(), after=st.text(), start=st.integers(0, 13), size=st.integers(8, 21))
def test_mask_leaves_no_part(before: str, after: str, start: int, size: int) -> None:
    masked = mask(before + SECRET[start : start + size] + after, SECRET).lower()
    assert not any(SECRET[place : place + 8].lower() in masked for place in range(len(SECRET) - 7))


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


@given(st.text(alphabet=st.characters()))
def test_one_line_of_any_text(text: str) -> None:
    line = one_line(text)
    assert len(line) <= MAX_WORDS
    assert len(line.splitlines()) <= 1
    line.encode()


def test_long_text_is_truncated() -> None:
    assert one_line("x" * 200) == "x" * (MAX_WORDS - 1) + "…"
    assert one_line("x" * MAX_WORDS) == "x" * MAX_WORDS


@pytest.mark.parametrize(
    "text,shown",
    [
        ("contact +12025550100 exists", "contact +*** exists"),
        ("1234567 and 123456", "*** and 123456"),
        ("٠١٢٣٤٥٦", "***"),
    ],
)
def test_phone_numbers_are_masked(text: str, shown: str) -> None:
    assert without_phone_numbers(text) == shown


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
    assert api_words(body) == words


@pytest.mark.parametrize(
    "status,words,advice",
    [
        (401, "", "Settings > API Keys"),
        (403, "Account is suspended", "The API key has no access"),
        (403, "Offers are not enabled. / offers_not_enabled", "deselect the stream 'offers'"),
        (404, "", "api_url"),
        (302, "", "redirects are not followed"),
        (407, "", "HTTPS_PROXY"),
        (400, "", "does not accept"),
        (410, "", "does not accept"),
    ],
)
def test_status_advice(status: int, words: str, advice: str) -> None:
    assert advice in status_advice(status, words, "offers")


def chained(*errors: BaseException) -> Any:
    """Chain errors, as if each was raised while the previous one was handled; return the last."""
    before: BaseException | None = None
    for error in errors:
        error.__context__, before = before, error
    return errors[-1]


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


PROXY = "http://user:passw0rd@proxy:3128"
TRANSIENT = [
    (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    (RemoteDisconnected("Remote end closed connection without response"), "without response"),
    (IncompleteRead(b"x" * 407, 1000), "IncompleteRead(407 bytes read, 1000 more expected)"),
    (TimeoutError("timed out"), "timed out"),
    (TimeoutError(), "timed out"),
    (zlib.error("Error -3 while decompressing data"), "while decompressing data"),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "EOF occurred"),
    (OSError(f"Tunnel connection failed: 502 {PROXY}"), "Tunnel connection failed: 502"),
]


@pytest.mark.parametrize("cause,words", TRANSIENT)
def test_transient_errors_have_no_advice(cause: Exception, words: str) -> None:
    error = chained(cause, requests.ConnectionError(f"{PROXY} HTTP/1.1 200 {SECRET}"))
    assert root_cause(error) is cause
    assert words in connection_words(cause)
    assert PROXY not in connection_words(cause)
    assert connection_advice(error) == ""


@pytest.mark.parametrize(
    "cause,words,advice",
    [
        (BadStatusLine(f"HTTP/1.1 {SECRET}"), "BadStatusLine", "api_url"),
        (LineTooLong("header line"), "LineTooLong", "api_url"),
        (certificate_error(), "self-signed certificate", "REQUESTS_CA_BUNDLE"),
        (
            OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /x"),
            "Could not find a suitable TLS CA certificate bundle",
            "REQUESTS_CA_BUNDLE",
        ),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "wrong version number", "api_url"),
        (OSError(f"Tunnel connection failed: 407 {PROXY}"), "Tunnel connection failed: 407", "user and password"),
    ],
)
def test_connection_advice(cause: Exception, words: str, advice: str) -> None:
    assert words in connection_words(cause)
    assert not {SECRET, PROXY} & set(connection_words(cause).split())
    assert advice in connection_advice(chained(cause, ProxyError(PROXY)))


@pytest.mark.parametrize(
    "error,advice",
    [
        (InvalidSchema("Missing dependencies for SOCKS support."), "PySocks"),
        (InvalidProxyURL(PROXY), "HTTPS_PROXY"),
        (TypeError("sequence item 1: expected str instance, NoneType found"), "HTTPS_PROXY"),
        (InvalidURL("Failed to parse: http://a..b"), "api_url"),
        (UnicodeError("label too long"), "api_url"),
    ],
)
def test_invalid_url_advice(error: Exception, advice: str) -> None:
    assert advice in connection_advice(error)
    assert connection_words(error) == type(error).__name__


@pytest.mark.parametrize("found", [BadStatusLine("HTTP/1.1 abc"), IncompleteRead(b"")])
def test_error_of_http_client_tells_more_than_its_cause(found: Exception) -> None:
    error = chained(ValueError("invalid literal for int()"), found, requests.ConnectionError())
    assert root_cause(error) is found
    assert root_cause(chained(found, IncompleteRead(b""), requests.ConnectionError())) is found


def test_unreachable_hosts() -> None:
    assert is_unreachable(ConnectTimeout())
    assert is_unreachable(chained(socket.gaierror(-2, "unknown"), requests.ConnectionError()))
    assert is_unreachable(chained(ConnectionRefusedError(), requests.ConnectionError()))
    assert not is_unreachable(chained(ConnectionResetError(), requests.ConnectionError()))


@pytest.mark.parametrize(
    "error,line", [("KeyError('a')", "KeyError: 'a'"), ("singer_sdk.exceptions.FatalAPIError('a')", "a")]
)
def test_unexpected_error_shows_type(error: str, line: str) -> None:
    code = f"""
import singer_sdk.exceptions
from tap_trackly.tap import TapTrackly

def fail():
    raise {error}

TapTrackly.cli = fail
TapTrackly.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [line]


@pytest.fixture
def log_filter(monkeypatch: pytest.MonkeyPatch) -> LogFilter:
    monkeypatch.setattr(LogFilter, "secret", SECRET)
    return LogFilter()


def log_record(message: str, *args: Any, name: str = "tap-trackly", exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "", 0, message, args, exc_info)


def test_log_filter(log_filter: LogFilter) -> None:
    record = log_record("Key %s:\n%s", SECRET, "x" * 1000)
    assert log_filter.filter(record)
    message = record.getMessage()
    assert message.startswith("Key ***: xxx")
    assert message.endswith("x…")
    assert len(message) == MAX_LINE


def test_log_filter_keeps_percent_signs(log_filter: LogFilter) -> None:
    record = log_record("%s", "100 %s %d")
    assert log_filter.filter(record)
    assert record.getMessage() == "100 %s %d"


def test_log_filter_keeps_metrics(log_filter: LogFilter) -> None:
    record = log_record("METRIC: %s", {"a": 1}, name=METRICS_LOGGER)
    assert log_filter.filter(record)
    assert record.msg == "METRIC: %s"


def test_log_filter_masks_tracebacks(log_filter: LogFilter) -> None:
    record = log_record("Traceback:", exc_info=(ValueError, ValueError(f"Key {SECRET}"), None))
    assert log_filter.filter(record)
    shown = logging.Formatter().format(record)
    assert "ValueError: Key ***" in shown
    assert SECRET not in shown
    assert record.exc_info is None
