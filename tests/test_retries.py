"""Retries of transient errors and rate limits: how many, and after which wait."""

from __future__ import annotations

import gzip
import socket
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from math import inf

import pytest

from sandbox.account import Account
from tests.fake_trackly import ERROR, KEY, FakeTrackly, Fault, answer, close, cut, rate_limit, reset, slow
from tests.tap import Run, offers_state, run_tap, started

PAGE = {"page": 2, "per_page": 10, "total": 23, "total_pages": 3}
# Each fault with text that the error message must contain.
TRANSIENT: dict[str, tuple[Fault, str]] = {
    **{str(status): (answer(ERROR, status), f"HTTP {status}") for status in (500, 502, 503, 504, 520, 408)},
    "reset": (reset, "reset by peer"),
    "closed": (close, "closed connection"),
    "cut body": (cut, "IncompleteRead"),
    "invalid gzip": (answer(b"\x1f\x8b no gzip", Content_Encoding="gzip"), ""),
    "cut gzip": (answer(gzip.compress(b'{"offers": []}' * 100)[:40], Content_Encoding="gzip"), ""),
    "cut JSON": (answer('{"offers": [{"id": "offer-0'), "JSON"),
    "empty body": (answer(""), "JSON"),
    "HTML": (answer("<html><body>Back soon</body></html>", Content_Type="text/html"), "JSON"),
    "invalid UTF-8": (answer(b'{"offers": "\xff"}'), ""),
    "too deep": (answer("[" * 100_000), ""),
    "error in a 200": (answer(ERROR), "An unexpected error occurred. / server_error"),
    "no records": (answer({"pagination": PAGE}), "'offers'"),
    "object for records": (answer({"offers": {"id": "1"}, "pagination": PAGE}), "'offers'"),
    "array": (answer([{"id": "1"}]), "JSON object"),
}
# Faults that are pages.
UNEXPECTED = {
    "no content": answer("", 204),
    "null records": answer({"offers": None, "pagination": PAGE}),
    "no pagination": answer({"offers": []}),
    "another page": answer({"offers": [], "pagination": {**PAGE, "page": 1}}),
    "empty page": answer({"offers": [], "pagination": PAGE}),
    "404": answer(ERROR, 404),
}


def assert_complete(trackly: FakeTrackly, run: Run) -> None:
    assert run.status == 0, run.log
    assert run.ids == sorted(trackly.account.offers)


@pytest.mark.parametrize("name", TRANSIENT)
def test_transient_error_is_retried(trackly: FakeTrackly, name: str) -> None:
    trackly.keep_alive = False
    trackly.inject(TRANSIENT[name][0], page=2)
    run = trackly.run(page_size=10)
    assert_complete(trackly, run)
    assert len(trackly.asked(page=2)) == 2
    ((line, _),) = run.retries
    assert f"{trackly.url}/offers?page=2&per_page=10" in line
    assert "after try 1" in line


@pytest.mark.parametrize("name", TRANSIENT)
def test_persistent_error_fails(trackly: FakeTrackly, name: str) -> None:
    fault, words = TRANSIENT[name]
    trackly.keep_alive = False
    trackly.inject(fault, times=2, page=2)
    run = trackly.run(page_size=10, state=offers_state())
    run.assert_failed(f"{trackly.url}/offers?page=2&per_page=10: ", words, "2 tries")
    assert len(trackly.asked(page=2)) == 2


@pytest.mark.parametrize("name", UNEXPECTED)
def test_unexpected_page_is_requested_again(trackly: FakeTrackly, name: str) -> None:
    trackly.inject(UNEXPECTED[name], page=2)
    run = trackly.sync(page_size=10)
    assert run.ids == sorted(trackly.account.offers)
    assert len(trackly.asked(page=2)) == 2
    assert not run.lines("WARNING")


def test_max_retries(trackly: FakeTrackly) -> None:
    trackly.inject(answer(ERROR, 500), times=inf)
    run = trackly.run(max_retries=2, offer_statuses=["active"])
    run.assert_failed("HTTP 500, An unexpected error occurred. / server_error", "3 tries")
    assert len(trackly.requests) == 3
    (_, first), (_, second) = run.retries
    assert 1 <= first <= 2
    assert 2 <= second <= 3


def test_no_retries(trackly: FakeTrackly) -> None:
    trackly.inject(answer(ERROR, 500), times=inf)
    trackly.run(max_retries=0, offer_statuses=["active"]).assert_failed("HTTP 500")
    assert len(trackly.requests) == 1


@pytest.mark.parametrize("fault", [reset, answer("", 429), answer("", 503, Retry_After="1")])
def test_page_after_the_last_that_cannot_be_read(trackly: FakeTrackly, fault: Fault) -> None:
    trackly.account = Account(offers=20)
    for offer in trackly.account.offers.values():
        offer["status"] = "active"
    trackly.inject(fault, times=inf, page=3)
    run = trackly.sync(page_size=10, state=offers_state())
    assert run.ids == sorted(trackly.account.offers)
    assert "all complete" in run.log


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        run = run_tap({"api_key": KEY, "api_url": url, "max_retries": 1})
    run.assert_failed(url, "Connection refused", "2 tries")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(trackly: FakeTrackly, status: int, form: str) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    trackly.inject(answer(ERROR, status, Retry_After="90.0" if form == "seconds" else date), page=2)
    with started(trackly.config(page_size=10)) as process:
        assert process.stderr
        line = next(line for line in process.stderr if "Retrying" in line)
    assert 50 < float(line.split("Retrying in ")[1].split()[0]) < 102


@pytest.mark.parametrize("value", ["soon", "-5", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "1e3", "0.5", ""])
def test_retry_after_without_a_pause(trackly: FakeTrackly, value: str) -> None:
    trackly.inject(answer(ERROR, 429, Retry_After=value), page=2)
    assert_complete(trackly, trackly.run(page_size=10))
    first, second = trackly.asked(page=2)
    assert second.time - first.time > 0.4


def test_retry_after_is_capped(trackly: FakeTrackly) -> None:
    trackly.inject(answer(ERROR, 429, Retry_After="86400"), times=inf)
    with started(trackly.config()) as process:
        assert process.stderr
        line = next(line for line in process.stderr if "HTTP 429" in line)
    assert 300 <= float(line.split("Retrying in ")[1].split()[0]) <= 301


def test_rate_limit_pauses_all_requests(trackly: FakeTrackly) -> None:
    trackly.inject(answer(ERROR, 429, Retry_After="2"), page=2, status=None)
    trackly.inject(slow(0.8), times=8)
    assert_complete(trackly, trackly.run(page_size=1, concurrency=4))
    first, second = trackly.asked(page=2, status=None)
    assert second.time - first.time > 1.9
    assert not [request for request in trackly.requests if 0.4 < request.time - first.time < 1.9]


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "1"}], ids=["no Retry-After", "Retry-After"])
def test_token_bucket_rate_limit(trackly: FakeTrackly, headers: dict[str, str]) -> None:
    trackly.inject(rate_limit(per_second=10, burst=10, **headers), times=inf)
    run = trackly.run(page_size=1, max_retries=20)
    assert_complete(trackly, run)
    assert any("HTTP 429" in line for line, _ in run.retries)


def test_waits_for_rate_limits_restart_after_a_success(trackly: FakeTrackly) -> None:
    trackly.inject(rate_limit(per_second=5, burst=5), times=inf)
    run = trackly.run(page_size=1, concurrency=32, max_retries=5)
    assert_complete(trackly, run)
    assert max(wait for _, wait in run.retries) <= 6
