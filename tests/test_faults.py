"""What a user gets when Trackly, the network or the machine fails."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults import KEY, Fault, Server, answer, close, cut, drip, offers, reset, serving, silence
from tests.tap import TAP, Run, arguments, environment, offers_catalog, run_tap, selecting

BOOKMARK = "2025-01-01T00:00:00+00:00"
STATE = {"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": BOOKMARK}}}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(offers(250), archived=[{"id": "old", "status": "archived"}])) as server:
        yield server


def assert_all_arrived(run: Run) -> None:
    assert run.status == 0, run.log
    assert sorted(run.ids) == [*(offer["id"] for offer in offers(250)), "old"]
    assert KEY not in run.log


def assert_failed(run: Run, *words: str) -> None:
    """The run failed with one line that has these words, and a next run can start from its state."""
    assert run.status == 1, run.log
    assert "Traceback" not in run.log
    assert KEY not in run.log + run.stdout
    assert max(map(len, run.log.splitlines())) < 1000
    (line,) = run.lines("ERROR")
    for word in words:
        assert word in line
    assert not any("last_full_send" in str(message.get("value")) for message in run.messages)
    if run.messages and run.messages[-1]["type"] == "STATE":
        assert run.bookmark in {None, BOOKMARK}


ERROR = {"error": "An unexpected error occurred.", "code": "server_error"}
BROKEN: dict[str, Fault] = {
    **{str(status): answer(ERROR, status) for status in (500, 502, 503, 504, 520, 408)},
    "reset": reset,
    "closed early": close,
    "cut body": cut,
    "corrupt gzip": answer(b"\x1f\x8b no gzip", Content_Encoding="gzip"),
    "half of a gzip": answer(gzip.compress(b'{"offers": []}' * 100)[:40], Content_Encoding="gzip"),
    "cut JSON": answer('{"offers": [{"id": "offer-0'),
    "empty body": answer(""),
    "no content": answer("", 204),
    "HTML": answer("<html><body>Back soon</body></html>", Content_Type="text/html"),
    "no UTF-8": answer(b'{"offers": "\xff"}'),
    "too deep": answer("[" * 100_000),
    "error in a 200": answer(ERROR),
    "no records": answer({"pagination": {"page": 2, "per_page": 100, "total": 250, "total_pages": 3}}),
    "null records": answer({"offers": None, "pagination": {}}),
    "records no list": answer({"offers": {"id": "1"}, "pagination": {}}),
    "bare list": answer([{"id": "1"}]),
    "no pagination": answer({"offers": []}),
    "another page": answer({"offers": [], "pagination": {"page": 1, "per_page": 100, "total": 0, "total_pages": 0}}),
    "empty page in the middle": answer(
        {"offers": [], "pagination": {"page": 2, "per_page": 100, "total": 250, "total_pages": 3}}
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_passes_is_tried_again_and_nothing_is_lost(server: Server, name: str) -> None:
    server.faults[2] = [BROKEN[name]]
    run = run_tap(server.config())
    assert_all_arrived(run)
    assert server.calls(page=2) == 2
    assert server.calls(page=1) == server.calls(page=3) == server.calls(page=1, status="archived") == 1
    (line,) = [line for line in run.lines("WARNING") if "Trying again" in line]
    assert f"{server.url}/offers?page=2&per_page=100" in line
    assert "(1 of 1)" in line


@pytest.mark.parametrize(
    "name,words",
    [
        ("500", "HTTP 500, An unexpected error occurred. / server_error"),
        ("408", "HTTP 408"),
        ("reset", "reset by peer"),
        ("closed early", "closed connection without response"),
        ("cut body", "IncompleteRead"),
        ("cut JSON", "the answer is no JSON"),
        ("empty body", "the answer is no JSON"),
        ("HTML", "the answer is no JSON"),
        ("error in a 200", "no field 'offers', An unexpected error occurred. / server_error"),
        ("no records", "no field 'offers'"),
        ("null records", "field 'offers' is no list of objects"),
        ("records no list", "field 'offers' is no list of objects"),
        ("bare list", "the answer is no JSON object but a list"),
        ("no pagination", "no object 'pagination'"),
        ("another page", "field 'pagination.page' is 1, asked for was page 2"),
        ("empty page in the middle", "field 'offers' has 0 records on page 2"),
    ],
)
def test_what_does_not_pass_is_a_failure_that_names_url_and_cause(server: Server, name: str, words: str) -> None:
    server.faults[2] = [BROKEN[name]] * 2
    run = run_tap(server.config(), state=STATE)
    assert_failed(run, f"{server.url}/offers?page=2&per_page=100: ", words, "Gave up after 2 tries")
    assert server.calls(page=2) == 2


def test_max_retries_counts_the_tries_after_the_first(server: Server) -> None:
    server.always = answer(ERROR, 500)
    run = run_tap(server.config(max_retries=2, offer_statuses=["active"]))
    assert_failed(run, "Gave up after 3 tries")
    assert server.calls(page=1, status="active") == 3
    waits = [
        float(line.split("Trying again in ")[1].split(" s")[0]) for line in run.lines("WARNING") if "Trying" in line
    ]
    assert 0.5 <= waits[0] <= 1.5
    assert 1 <= waits[1] <= 3


def test_no_retries_if_none_are_wanted(server: Server) -> None:
    server.always = answer(ERROR, 500)
    assert_failed(run_tap(server.config(max_retries=0, offer_statuses=["active"])), "HTTP 500")
    assert len(server.requests) == 1


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        run = run_tap({"api_key": KEY, "api_url": url, "max_retries": 1})
    assert_failed(run, url, "Connection refused", "Gave up after 2 tries")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(server: Server, status: int, form: str) -> None:
    wanted = (
        "3" if form == "seconds" else format_datetime(datetime.now(timezone.utc) + timedelta(seconds=4), usegmt=True)
    )
    server.faults[2] = [answer(ERROR, status, Retry_After=wanted)]
    assert_all_arrived(run_tap(server.config()))
    first, second = server.times(page=2)
    assert second - first > (2.9 if form == "seconds" else 1.5)


@pytest.mark.parametrize("wanted", ["soon", "-5", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "1e3", ""])
def test_a_retry_after_that_asks_for_no_pause_gets_one(server: Server, wanted: str) -> None:
    server.faults[2] = [answer(ERROR, 429, Retry_After=wanted)]
    assert_all_arrived(run_tap(server.config()))
    first, second = server.times(page=2)
    assert second - first > 0.4


def test_a_retry_after_of_a_day_is_cut_to_some_minutes(server: Server) -> None:
    server.always = answer(ERROR, 429, Retry_After="86400")
    run, _ = stopped(server, signal.SIGTERM, after="Trying again")
    assert "Trying again in 300.0 s" in run.log


def test_a_rate_limit_slows_all_requests(server: Server) -> None:
    server.offers = offers(2000)
    server.faults[1] = [answer(ERROR, 429, Retry_After="2")]
    run = run_tap(server.config(concurrency=4))
    assert run.status == 0
    first_page = server.times(page=1)
    others = [request.time for request in server.requests if request.page > 1]
    assert min(others) >= first_page[1] > first_page[0] + 1.9


@pytest.mark.parametrize(
    "fault",
    [
        silence,
        drip(b""),
        drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{"),
    ],
    ids=["silence", "before the status", "in the headers", "in the body", "in a chunk"],
)
def test_an_answer_that_does_not_end_is_given_up(server: Server, fault: Fault) -> None:
    server.faults[2] = [fault]
    began = time.monotonic()
    run = run_tap(server.config(request_timeout=1))
    assert_all_arrived(run)
    assert server.calls(page=2) == 2
    assert time.monotonic() - began < 15
    server.faults[2] = [fault]
    assert_failed(run_tap(server.config(request_timeout=1, max_retries=0)), "page=2", "time")


@pytest.mark.parametrize("code", ["missing_api_key", "invalid_api_key", "unauthorized"])
def test_a_refused_key_fails_at_once(server: Server, code: str) -> None:
    server.always = answer({"error": "API key is invalid.", "code": code}, 401)
    run = run_tap(server.config(max_retries=5, concurrency=1))
    assert_failed(run, "HTTP 401", "API key is invalid.", code, "Settings > API Keys", "api_key")
    assert len(server.requests) == 1


def test_a_suspended_account_fails_at_once(server: Server) -> None:
    server.always = answer({"error": "Account is suspended"}, 403)
    assert_failed(run_tap(server.config(concurrency=1)), "HTTP 403, Account is suspended")
    assert len(server.requests) == 1


def test_a_product_that_the_account_lacks_names_the_stream_to_deselect(server: Server) -> None:
    server.always = answer({"error": "Offers are not enabled.", "code": "offers_not_enabled"}, 403)
    run = run_tap(server.config(concurrency=1))
    assert_failed(run, "Offers are not enabled.", "offers_not_enabled", "deselect the stream 'offers'")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 410])
def test_what_trying_again_cannot_help_fails_at_once(server: Server, status: int) -> None:
    server.always = answer({"error": "No."}, status)
    assert_failed(run_tap(server.config(concurrency=1)), f"HTTP {status}, No.", *(["api_url"] if status == 404 else []))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_the_key_goes_to_no_other_host(server: Server, status: int) -> None:
    with serving(Server(offers(1))) as other:
        server.always = answer("", status, Location=f"{other.url}/offers?page=1")
        run = run_tap(server.config(concurrency=1))
        assert other.requests == []
    assert_failed(run, f"HTTP {status}", "api_url")
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["http://[", "http://a b/", "//", "\xff"])
def test_a_redirect_to_what_is_no_address_fails_in_words(server: Server, location: str) -> None:
    server.always = answer("", 302, Location=location)
    assert_failed(run_tap(server.config(concurrency=1)), f"{server.url}/offers?page=1&per_page=100: ", "api_url")


@pytest.mark.parametrize("key", [None, ""])
def test_a_record_without_an_id_fails_and_names_its_place(server: Server, key: str | None) -> None:
    server.offers[107]["id"] = key
    assert_failed(run_tap(server.config()), "page 2, record 8", "'id'")
    del server.offers[107]["id"]
    assert_failed(run_tap(server.config()), "page 2, record 8", "'id'")


def test_a_key_revoked_in_mid_sync_keeps_what_was_read_and_the_bookmark(server: Server) -> None:
    server.faults[3] = [answer({"error": "API key is invalid.", "code": "invalid_api_key"}, 401)]
    run = run_tap(server.config(), state=STATE)
    assert_failed(run, "HTTP 401", "page=3")
    assert len(run.records) == 200
    assert run.bookmark == BOOKMARK
    again = run_tap(server.config(), state=run.state)
    assert_all_arrived(again)


@pytest.mark.parametrize("payout", ["NaN", "Infinity", "-Infinity", '"free"'])
def test_a_payout_that_is_no_number_is_null_with_a_warning(server: Server, payout: str) -> None:
    pagination = '{"page": 1, "per_page": 100, "total": 1, "total_pages": 1}'
    server.archived = []
    server.faults[1] = [answer(f'{{"offers": [{{"id": "1", "payout": {payout}}}], "pagination": {pagination}}}')]
    run = run_tap(server.config())
    assert run.records == [{"id": "1", "payout": None}]
    (line,) = [line for line in run.lines("WARNING") if "payout" in line]
    assert "Stream offers, record id=1: field 'payout'" in line


def stopped(server: Server, number: signal.Signals, after: str, slow_target: float = 0) -> tuple[Run, float]:
    """Start the tap, send a signal when its log says something, and wait for its end.

    A slow target reads nothing for some seconds, so that the pipe to it is full when the signal comes.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [str(TAP), *arguments(Path(folder), server.config(), STATE, selecting("offers"))]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment()
        ) as process:
            assert process.stderr
            log = ""
            while after not in log:
                log += process.stderr.readline()
            time.sleep(slow_target)
            began = time.monotonic()
            process.send_signal(number)
            stdout, rest = process.communicate(timeout=30)
    return Run(process.returncode, stdout, log + rest), time.monotonic() - began


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("fault", [silence, answer(ERROR, 503, Retry_After="200")], ids=["in a request", "in a pause"])
def test_a_signal_ends_the_run_soon(server: Server, number: signal.Signals, status: int, fault: Fault) -> None:
    server.faults[3] = [fault]
    run, seconds = stopped(server, number, after="records to read")
    assert run.status == status
    assert seconds < 5
    assert "Traceback" not in run.log
    assert run.stdout == "" or run.stdout.endswith("\n")
    assert len(run.messages) == len(run.stdout.splitlines())
    assert run.bookmark == BOOKMARK


def test_a_signal_leaves_no_half_line_even_if_the_target_is_slow(server: Server) -> None:
    server.offers = offers(250, name="x" * 9000)
    run, _ = stopped(server, signal.SIGTERM, after="records to read", slow_target=1)
    assert run.status == 143
    assert run.stdout.endswith("\n")
    assert len(run.messages) == len(run.stdout.splitlines()) > 1


def test_a_signal_ends_the_run_even_if_nobody_reads_its_log(server: Server) -> None:
    server.offers = [{**offer, "payout": "free"} for offer in offers(2000)]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(TAP), *arguments(Path(folder), server.config(), None, selecting("offers"))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()) as process:
            time.sleep(3)
            assert process.poll() is None, "the log was not full"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143


def test_a_dead_target_ends_the_run(server: Server) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [str(TAP), *arguments(Path(folder), server.config(), None, selecting("offers"))]
        reader, writer = os.pipe()
        os.close(reader)
        began = time.monotonic()
        run = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, encoding="utf-8", env=environment(), timeout=30, check=False
        )
        os.close(writer)
    assert run.returncode not in {0, None}
    assert "Traceback" not in run.stderr
    assert time.monotonic() - began < 10


def test_http_to_another_machine_is_warned_of() -> None:
    run = run_tap({"api_key": KEY, "api_url": "http://trackly.invalid/api/v2", "max_retries": 0})
    assert_failed(run, "trackly.invalid")
    assert any("The key travels in clear" in line for line in run.lines("WARNING"))


def test_http_to_this_machine_is_not_warned_of(server: Server) -> None:
    assert "in clear" not in run_tap(server.config()).log


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_a_body_that_echoes_the_key_is_not_shown(server: Server, status: int) -> None:
    server.always = answer({"error": f"Key {KEY} is wrong: " + "x" * 500, "code": KEY, "message": KEY}, status)
    run = run_tap(server.config(max_retries=1, concurrency=1), variables={"TAP_TRACKLY_LOGLEVEL": "DEBUG"})
    assert run.status == 1
    assert KEY not in run.log + run.stdout
    assert KEY[:12] not in run.log
    assert "Key *** is wrong" in run.log
    assert "x" * 201 not in run.log


def test_a_record_that_echoes_the_key_is_sent_but_not_shown(server: Server) -> None:
    server.offers = [{"id": f"{KEY} {'x' * 500}", "payout": "free", KEY: 1, "y" * 500: 2}]
    run = run_tap(server.config(), variables={"TAP_TRACKLY_LOGLEVEL": "DEBUG"})
    assert run.status == 0
    assert len(run.lines("WARNING")) == 2
    assert KEY not in run.log
    assert "x" * 201 not in run.log
    assert "y" * 201 not in run.log


def test_the_traceback_is_there_for_those_who_debug(server: Server) -> None:
    server.always = answer(ERROR, 404)
    run = run_tap(server.config(), variables={"TAP_TRACKLY_LOGLEVEL": "DEBUG"})
    assert "Traceback" in run.log
    assert KEY not in run.log


def test_a_server_that_ignores_the_page_is_found_out(server: Server) -> None:
    page_1 = server.answer(None, 1)
    server.faults = {number: [answer(page_1)] * 9 for number in (2, 3)}
    assert_failed(run_tap(server.config()), "field 'pagination.page' is 1, asked for was page")
    echoed = {number: {**page_1, "pagination": {**page_1["pagination"], "page": number}} for number in (2, 3)}
    server.requests.clear()
    server.faults = {number: [answer(body)] * 9 for number, body in echoed.items()}
    run = run_tap(server.config(), state=STATE)
    assert (run.status, run.bookmark) == (0, BOOKMARK)
    assert len(server.requests) == 3 * 4
    assert any("came twice" in line for line in run.lines("WARNING"))


def test_a_record_that_slips_by_while_pages_move_is_read_in_the_next_pass(server: Server) -> None:
    """One read offer is archived between two pages, which moves another one over the page boundary."""

    def archive_one(handler: Any) -> None:
        server.archived.append({**server.offers.pop(0), "status": "archived"})
        answer(server.answer(None, 2))(handler)

    server.faults[2] = [archive_one]
    run = run_tap(server.config(concurrency=1))
    assert run.status == 0
    assert set(run.ids) == {*(offer["id"] for offer in offers(250)), "old"}
    assert run.by_id["offer-0000"]["status"] == "archived"
    assert len(run.records) == 252, "only what is new or changed is sent again"
    assert len(server.requests) == 2 * 4
    assert run.bookmark == "2025-12-01T08:00:00+00:00"


def test_an_account_that_never_holds_still_is_a_warning_and_holds_the_bookmark(server: Server) -> None:
    def grow(handler: Any) -> None:
        server.offers.insert(0, {"id": f"new-{len(server.offers)}", "updated_at": "2025-12-02T00:00:00Z"})
        answer(server.answer(None, 2))(handler)

    server.faults[2] = [grow] * 9
    run = run_tap(server.config(concurrency=1), state=STATE)
    assert (run.status, run.bookmark) == (0, BOOKMARK)
    assert "last_full_send" not in run.state["bookmarks"]["offers"]
    (line,) = [line for line in run.lines("WARNING") if "moved while they were read" in line]
    assert "each of 3 passes" in line
    assert "announced 252 records, later 253" in line
    assert run.messages[-1]["type"] == "STATE"


def test_a_full_table_account_that_never_holds_still_is_a_warning(server: Server) -> None:
    server.faults = {2: [answer(server.answer(None, 1) | {"pagination": server.answer(None, 2)["pagination"]})] * 9}
    catalog = offers_catalog()
    catalog["streams"][0]["replication_method"] = "FULL_TABLE"
    run = run_tap(server.config(), catalog=catalog)
    assert run.status == 0
    assert any("moved while they were read" in line for line in run.lines("WARNING"))
