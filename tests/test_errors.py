"""Errors that the user must fix: the run fails at once, with one log line that says what to do without the key."""

from __future__ import annotations

from math import inf

import pytest

from tests.fake_trackly import ERROR, KEY, FakeTrackly, answer
from tests.tap import BOOKMARK, offers_state, run_tap, selecting


@pytest.mark.parametrize("code", ["missing_api_key", "invalid_api_key", "unauthorized"])
def test_invalid_key(trackly: FakeTrackly, code: str) -> None:
    trackly.inject(answer({"error": "API key is invalid.", "code": code}, 401), times=inf)
    run = trackly.run(max_retries=5, concurrency=1)
    run.assert_failed("HTTP 401", "API key is invalid.", code, "Settings > API Keys", "api_key")
    assert len(trackly.requests) <= 2, "the first pages of both listings"


def test_key_revoked_during_the_run(trackly: FakeTrackly) -> None:
    trackly.inject(answer({"error": "API key is invalid."}, 401), page=3)
    run = trackly.run(page_size=10, state=offers_state())
    run.assert_failed("HTTP 401", "page=3")
    assert len(run.records) == 20
    assert run.bookmark == BOOKMARK
    assert trackly.sync(state=run.state).ids == sorted(trackly.account.offers)


def test_suspended_account(trackly: FakeTrackly) -> None:
    trackly.inject(answer({"error": "Account is suspended"}, 403), times=inf)
    trackly.run(concurrency=1).assert_failed("HTTP 403, Account is suspended")
    assert len(trackly.requests) == 2, "one for each listing"


@pytest.mark.parametrize("stream", ["offers", "schedules"])
def test_product_not_enabled(trackly: FakeTrackly, stream: str) -> None:
    trackly.inject(answer({"error": "Not enabled.", "code": f"{stream}_not_enabled"}, 403), times=inf, stream=stream)
    run = trackly.run(concurrency=1, catalog=selecting(stream, "lists", "creatives"))
    run.assert_failed("HTTP 403, Not enabled.", f"{stream}_not_enabled", "deselect the stream")
    assert len(trackly.asked(stream=stream)) == 2, "one for each listing"
    assert len(run.records) == sum(len(trackly.account.records(name)) for name in ("lists", "creatives"))
    assert f"failed: {stream}" in run.log.splitlines()[-1]


@pytest.mark.parametrize("status", [400, 404, 410])
def test_fatal_status(trackly: FakeTrackly, status: int) -> None:
    trackly.inject(answer({"error": "No."}, status), times=inf)
    trackly.run(concurrency=1).assert_failed(f"HTTP {status}, No.", "api_url" if status == 404 else "")
    assert len(trackly.requests) == 2, "one for each listing"


def test_wrong_path(trackly: FakeTrackly) -> None:
    trackly.run(concurrency=1, api_url=trackly.url.replace("v2", "v3")).assert_failed("HTTP 404", "/api/v3/", "api_url")


@pytest.mark.parametrize("removed", [None, "__NULL__"])
def test_failure_after_a_stream_that_is_removed_by_a_map(trackly: FakeTrackly, removed: str | None) -> None:
    trackly.inject(answer(ERROR, 404), times=inf, stream="schedules")
    run = trackly.run(catalog=selecting("lists", "schedules"), stream_maps={"lists": removed})
    run.assert_failed("HTTP 404", "schedules")


@pytest.mark.parametrize("location", ["http://[", "http://a b/", "//", "\xff"])
def test_redirect_to_an_invalid_url(trackly: FakeTrackly, location: str) -> None:
    trackly.inject(answer("", 302, Location=location), times=inf)
    trackly.run(concurrency=1).assert_failed(f"{trackly.url}/offers?page=1&per_page=100: ", "api_url")


@pytest.mark.parametrize("record", [{"id": None}, {"id": ""}, {}])
def test_record_without_primary_key(trackly: FakeTrackly, record: dict[str, str | None]) -> None:
    place = sorted(trackly.account.offers)[13]
    trackly.account.offers[place] = {"status": "active", **record}
    listed = [offer.get("id") or None for offer in trackly.account.listed(None)]
    run = trackly.run(page_size=10)
    run.assert_failed("page 2", f"record {listed.index(None) - 9}", "'id'")


def test_unencrypted_api_url() -> None:
    run = run_tap({"api_key": KEY, "api_url": "http://trackly.invalid/api/v2", "max_retries": 0})
    run.assert_failed("trackly.invalid")
    (line,) = run.lines("WARNING")
    assert "key" in line
    assert "http, not https" in line


def test_unencrypted_api_url_on_localhost(trackly: FakeTrackly) -> None:
    assert not trackly.sync().lines("WARNING")


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_key_in_response_is_masked(trackly: FakeTrackly, status: int) -> None:
    trackly.inject(
        answer({"error": f"Key {KEY} is wrong: " + "x" * 500, "code": KEY, "message": KEY}, status), times=inf
    )
    run = trackly.run(concurrency=1, variables={"TAP_TRACKLY_LOGLEVEL": "DEBUG"})
    assert run.status == 1
    assert KEY not in run.stdout
    assert KEY[:12] not in run.log
    assert "Key *** is wrong" in run.log
    assert "x" * 201 not in run.log


def test_key_in_a_record_is_masked(trackly: FakeTrackly) -> None:
    trackly.put({"id": f"{KEY} {'x' * 500}", "payout": "free", KEY: 1, "y" * 500: 2})
    run = trackly.sync(variables={"TAP_TRACKLY_LOGLEVEL": "DEBUG"})
    assert KEY in run.ids[0]
    assert len(run.lines("WARNING")) == 3
    assert "x" * 201 not in run.log
    assert "y" * 201 not in run.log


def test_traceback_at_debug_level(trackly: FakeTrackly) -> None:
    trackly.inject(answer(ERROR, 401), times=inf)
    assert "Traceback" in trackly.run(variables={"TAP_TRACKLY_LOGLEVEL": "DEBUG"}).log


def test_invalid_log_level(trackly: FakeTrackly) -> None:
    run = trackly.run(variables={"LOGLEVEL": "VERBOSE"})
    assert (run.status, run.stdout) == (1, "")
    assert run.log == "Failed with ValueError. TAP_TRACKLY_LOGLEVEL=DEBUG shows where.\n"
