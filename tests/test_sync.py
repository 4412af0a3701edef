"""Every offer is emitted once, with its true state, even if the account changes while it is read."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace
from decimal import Decimal
from math import inf

import pytest

from sandbox.account import Account
from tests.fake_trackly import FakeTrackly, Fault, Handler, Request, slow
from tests.tap import BOOKMARK, SPECIFICATION, exact, offers_catalog, offers_state


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1234])
def test_every_offer_arrives_once(trackly: FakeTrackly, count: int) -> None:
    trackly.account = Account(count)
    run = trackly.sync()
    assert run.ids == sorted(trackly.account.offers)
    assert run.messages[0]["type"] == "SCHEMA"
    assert not run.lines("WARNING") + run.lines("ERROR")


def test_documented_example(trackly: FakeTrackly) -> None:
    trackly.account = Account(2)
    run = trackly.sync()
    examples = exact(SPECIFICATION.read_text())["offers"]
    for record, example in zip(run.records, examples, strict=True):
        assert example.keys() <= record.keys() <= run.messages[0]["schema"]["properties"].keys()
        for name, value in example.items():
            assert record[name] == (value.replace("Z", "+00:00") if name.endswith("_at") else value)
    assert '"payout":2.50' in run.stdout


def test_values_are_converted(trackly: FakeTrackly) -> None:
    trackly.put(
        {"id": 7, "payout": "2.50", "filter_bots": "false", "created_at": "2025-11-01T14:30:00", "updated_at": "soon"},
        {"id": "8", "payout": Decimal("12345678901234.123456789"), "name": "a\x00\ud800", "metadata": {"k": "\x00"}},
        *({"id": f"9{payout}", "payout": payout, "unknown": 1} for payout in (float("nan"), inf, -inf, "free")),
    )
    run = trackly.sync()
    expected = {
        "payout": Decimal("2.50"),
        "filter_bots": False,
        "created_at": "2025-11-01T14:30:00+00:00",
        "updated_at": None,
        "status": "active",
        "metadata": {},
    }
    assert expected.items() <= run.by_id["7"].items()
    assert (run.by_id["8"]["name"], run.by_id["8"]["metadata"]) == ("a\ufffd\ufffd", {"k": "\ufffd"})
    assert '"payout":12345678901234.123456789' in run.stdout
    warnings = "\n".join(run.lines("WARNING"))
    for field in ("7: field 'updated_at'", "8: field 'name'", "8: field 'metadata", "9nan: field 'payout'"):
        assert warnings.count(f"id={field}") == 1
    for key in ("9nan", "9inf", "9-inf", "9free"):
        assert (run.by_id[key]["payout"], "unknown" in run.by_id[key]) == (None, False)
    assert "offers: 6 more values changed or ignored." in warnings
    assert warnings.count("'unknown'") == 1


def test_undocumented_statuses(trackly: FakeTrackly) -> None:
    trackly.put({"id": "1", "status": "expired"}, {"id": "2", "status": "archived"}, {"id": "3", "status": None})
    assert trackly.sync().ids == ["1", "2", "3"]


@pytest.mark.parametrize(
    "statuses,ids",
    [
        (["archived"], "c"),
        (["paused", "active"], "ab"),
        (["active", "active"], "a"),
        (["archived", "active", "paused"], "abcd"),
    ],
)
def test_offer_statuses(trackly: FakeTrackly, statuses: list[str], ids: str) -> None:
    trackly.put(
        {"id": "a", "status": "active"},
        {"id": "b", "status": "paused"},
        {"id": "c", "status": "archived"},
        {"id": "d", "status": "expired"},
    )
    assert trackly.sync(offer_statuses=statuses).ids == list(ids)


@pytest.mark.parametrize("key", [[], ["advertiser_id"]])
def test_catalog_with_other_key_properties(trackly: FakeTrackly, key: list[str]) -> None:
    catalog = offers_catalog()
    catalog["streams"][0]["key_properties"] = key
    run = trackly.sync(catalog=catalog)
    assert run.ids == sorted(trackly.account.offers)
    assert run.bookmark == "2025-12-15T09:12:00+00:00"
    assert not run.lines("WARNING")


def test_summary_in_the_log(trackly: FakeTrackly) -> None:
    run = trackly.sync(page_size=2)
    done = re.search(r"offers: done, 25 records read, 25 emitted, (\d+) pages", run.log)
    assert done
    assert 12 + 1 <= int(done[1]) <= len(trackly.requests)
    assert re.search(r"Run finished: 1 stream, \d+\.\d seconds, all complete\.$", run.log.rstrip())


def test_progress_in_the_log(trackly: FakeTrackly) -> None:
    trackly.inject(slow(0.65), times=inf)
    run = trackly.sync(page_size=3, concurrency=1)
    assert any(re.search(r"\d+ of \d+ records read", line) for line in run.lines("INFO"))


def test_first_pages_are_requested_together(trackly: FakeTrackly) -> None:
    both = threading.Barrier(2)

    def wait_for_the_other(handler: Handler) -> None:
        both.wait(10)
        handler.proceed()

    trackly.inject(wait_for_the_other, times=2, page=1)
    assert trackly.sync(concurrency=2, max_retries=0).ids == sorted(trackly.account.offers)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_concurrency(trackly: FakeTrackly, concurrency: int) -> None:
    lock, in_flight, most = threading.Lock(), 0, 0

    def count(handler: Handler) -> None:
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        time.sleep(0.05)
        with lock:
            in_flight -= 1
        handler.proceed()

    trackly.inject(count, times=inf)
    assert trackly.sync(page_size=1, concurrency=concurrency).ids == sorted(trackly.account.offers)
    assert most == concurrency


def first_page_again(*, echo: bool) -> Fault:
    """Respond to every request with the first page; if `echo`, with the requested page number."""

    def send(handler: Handler) -> None:
        asked = handler.received
        status, text = handler.server.answer(replace(asked, query={**asked.query, "page": "1"}))
        body = json.loads(text)
        body["pagination"]["page"] = asked.page if echo else 1
        handler.reply(status, json.dumps(body))

    return send


def test_ignored_page_number(trackly: FakeTrackly) -> None:
    trackly.inject(first_page_again(echo=False), times=inf)
    run = trackly.sync(page_size=10, state=offers_state(last_full_send="1999-01-01"))
    assert (len(run.by_id), run.bookmark) == (12, BOOKMARK)
    (line,) = run.lines("WARNING")
    assert "offers: Incomplete read: 10 records read, 23 announced." in line


def test_repeated_first_page(trackly: FakeTrackly) -> None:
    trackly.inject(first_page_again(echo=True), times=inf)
    run = trackly.sync(page_size=10, state=offers_state(last_full_send="1999-01-01"))
    assert (len(run.by_id), run.bookmark) == (12, BOOKMARK)
    assert 2 <= len(trackly.asked(page=2)) <= 3
    (line,) = run.lines("WARNING")
    assert "Incomplete read" in line


def test_record_that_moves_between_pages(trackly: FakeTrackly) -> None:
    """An offer that was read is archived, so that another one moves to the previous page."""
    first, offer = next(iter(trackly.account.offers.items()))

    def archive_once(request: Request) -> None:
        if request.page == 2 and offer["status"] == "active":
            trackly.account.archive(first)

    trackly.before_answer = archive_once
    run = trackly.sync(page_size=10, concurrency=1)
    assert sorted(run.by_id) == sorted(trackly.account.offers)
    assert run.by_id[first]["status"] == "archived"
    assert len(run.records) == 25 + 1, "only new and changed records are emitted again"
    assert len(trackly.asked(page=2)) == 2
    assert str(run.bookmark) > "2026"
    assert not run.lines("WARNING")


@pytest.mark.parametrize("method", ["INCREMENTAL", "FULL_TABLE"])
def test_listing_that_keeps_changing(trackly: FakeTrackly, method: str) -> None:
    def grow(request: Request) -> None:
        if request.page == 2:
            trackly.account.create({})

    trackly.before_answer = grow
    catalog = offers_catalog()
    catalog["streams"][0]["replication_method"] = method
    run = trackly.sync(page_size=10, concurrency=1, catalog=catalog, state=offers_state(last_full_send="1999-01-01"))
    assert run.bookmark == BOOKMARK
    assert run.state["bookmarks"]["offers"]["last_full_send"] == "1999-01-01"
    assert len(trackly.asked(page=2)) == 3
    (line,) = run.lines("WARNING")
    assert f"{len(run.records)}" in line


def test_schema_without_draft(trackly: FakeTrackly) -> None:
    for run in (trackly.sync("--config=ENV"), trackly.sync()):
        schemas = [message["schema"] for message in run.messages if message["type"] == "SCHEMA"]
        assert schemas
        assert not any("$schema" in schema for schema in schemas)
