"""The streams other than offers: each record is emitted once, with its values."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import inf
from typing import Any

import pytest

from sandbox.account import Account
from sandbox.listings import ENDPOINTS
from tests.fake_trackly import ERROR, FakeTrackly, answer
from tests.tap import STREAMS, Run, selecting

SIBLINGS = STREAMS[1:]


def key(record: dict[str, Any]) -> Any:
    return (record["list_id"], record["phone_number"]) if "list_number" in record else record["id"]


@pytest.fixture
def whole(trackly: FakeTrackly) -> Run:
    """A run of all streams."""
    return trackly.sync(catalog=selecting(*STREAMS))


def test_every_record_arrives_once(trackly: FakeTrackly, whole: Run) -> None:
    for stream in SIBLINGS:
        arrived = [key(record) for record in whole.records_of(stream)]
        truth = {key(record): record for record in trackly.account.records(stream)}
        assert len(arrived) == len(truth)
        assert set(arrived) == set(truth)
        for record in whole.records_of(stream):
            for name, value in truth[key(record)].items():
                is_time = name.endswith("_at") or name == "signup_date"
                expected = f"{value[:19]}+00:00" if is_time and value else value
                assert record[name] == expected, name
    assert not whole.lines("WARNING")


def test_all_streams(whole: Run) -> None:
    assert sorted(message["stream"] for message in whole.messages if message["type"] == "SCHEMA") == sorted(STREAMS)


def test_contacts_are_deselected_by_default(trackly: FakeTrackly) -> None:
    run = trackly.sync("--config=ENV")
    assert {message["stream"] for message in run.messages if message["type"] == "SCHEMA"} == {*STREAMS} - {"contacts"}
    assert not trackly.asked(stream="contacts")
    (entry,) = [stream for stream in selecting()["streams"] if stream["tap_stream_id"] == "contacts"]
    (metadata,) = [entry["metadata"] for entry in entry["metadata"] if not entry["breadcrumb"]]
    assert metadata["selected-by-default"] is False


def test_replication_methods(trackly: FakeTrackly, whole: Run) -> None:
    schedule = next(iter(trackly.account.schedules.values()))
    schedule["status"], schedule["updated_at"] = "archive", "2026-11-01T00:00:00"
    again = trackly.sync(catalog=selecting(*SIBLINGS), state=whole.state)
    schedules = {record["id"]: record["status"] for record in again.records_of("schedules")}
    assert schedules[schedule["id"]] == "archive"
    assert len(schedules) < len(trackly.account.schedules)
    assert len(again.records_of("creatives")) == len(trackly.account.creatives)
    bookmarks = again.state["bookmarks"]
    assert bookmarks["schedules"].keys() == bookmarks["offers"].keys()


@pytest.mark.parametrize("settings,largest,most", [({}, 1000, 5), ({"page_size": 100}, 100, 30)])
def test_page_size(trackly: FakeTrackly, settings: dict[str, int], largest: int, most: int) -> None:
    trackly.account = Account(0, contacts=2345)
    run = trackly.sync(catalog=selecting("contacts"), **settings)
    assert len(run.records) == len({key(record) for record in run.records}) == 2345
    assert max(int(request.query["per_page"]) for request in trackly.requests) == largest
    assert len(trackly.requests) <= most


@pytest.mark.parametrize("selected", STREAMS)
def test_deselected_streams_are_not_requested(trackly: FakeTrackly, selected: str) -> None:
    trackly.sync(catalog=selecting(selected))
    assert {request.stream for request in trackly.requests} == {selected}


def test_unexpected_pagination(trackly: FakeTrackly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENDPOINTS, "lists", replace(ENDPOINTS["lists"], largest_page=100))
    trackly.account.lists = {number: {"id": number, "status": "active"} for number in range(240)}
    run = trackly.sync(catalog=selecting("lists"))
    assert [record["id"] for record in run.records] == list(range(240))
    assert {request.page for request in trackly.asked(status=None)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("stream", SIBLINGS)
def test_error_in_a_200(trackly: FakeTrackly, stream: str) -> None:
    trackly.inject(answer(ERROR), times=inf)
    run = trackly.run(catalog=selecting(stream))
    run.assert_failed(f"{trackly.url}/{stream}", "server_error")
    assert not run.records


def test_values_are_converted(trackly: FakeTrackly) -> None:
    creative = next(iter(trackly.account.creatives.values()))
    creative.update(offers=[7, "a\x00"], character_count="12", segment_count=1.5)
    trackly.account.contacts[0].update(revenue_total="1.10", list_id="3", active="true", custom_fields={"größe": "ß"})
    run = trackly.sync(catalog=selecting("creatives", "contacts"))
    (sent,) = [record for record in run.records_of("creatives") if record["id"] == creative["id"]]
    assert (sent["offers"], sent["character_count"], sent["segment_count"]) == (["7", "a\ufffd"], 12, None)
    (contact,) = [record for record in run.records_of("contacts") if record["custom_fields"] == {"größe": "ß"}]
    assert (contact["revenue_total"], contact["list_id"], contact["active"]) == (Decimal("1.10"), 3, True)
    assert len(run.lines("WARNING")) == 2


def test_phone_numbers_are_masked(trackly: FakeTrackly) -> None:
    contact = trackly.account.contacts[0]
    contact["signup_date"] = "soon"
    run = trackly.sync(catalog=selecting("contacts"))
    (line,) = run.lines("WARNING")
    assert f"contacts: record list_id={contact['list_id']}: field 'signup_date'" in line
    assert contact["phone_number"] not in run.log


@pytest.mark.parametrize("catalog", [{"streams": []}, selecting()], ids=["unknown", "deselected"])
def test_no_stream_is_selected(trackly: FakeTrackly, catalog: dict[str, Any]) -> None:
    trackly.run(catalog=catalog).assert_failed("No stream is selected", "select")
    assert not trackly.requests
