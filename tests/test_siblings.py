"""The other lists of the account arrive whole, like the offers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sandbox.account import Account
from sandbox.server import running
from tests.conftest import Trackly
from tests.faults import Server, answer, serving
from tests.tap import Run, run_tap, selecting

SIBLINGS = ["lists", "audiences", "creatives", "schedules", "contacts"]


def records(run: Run, stream: str) -> list[dict[str, Any]]:
    return [message["record"] for message in run.messages if message.get("stream") == stream and "record" in message]


def key(record: dict[str, Any]) -> Any:
    return (
        (record["list_id"], record["phone_number"])
        if "phone_number" in record and "list_id" in record
        else record["id"]
    )


@pytest.fixture
def whole(trackly: Trackly) -> Run:
    """A run of all streams."""
    run = run_tap(trackly.config(), catalog=selecting("offers", *SIBLINGS))
    assert run.status == 0, run.log
    return run


@pytest.mark.parametrize("stream", SIBLINGS)
def test_every_record_arrives_once_whatever_its_status(trackly: Trackly, whole: Run, stream: str) -> None:
    arrived = [key(record) for record in records(whole, stream)]
    assert len(arrived) == len(set(arrived))
    assert set(arrived) == {key(record) for record in trackly.account.records(stream)}
    assert not whole.lines("WARNING")


@pytest.mark.parametrize("stream", SIBLINGS)
def test_every_field_arrives_as_it_is(trackly: Trackly, whole: Run, stream: str) -> None:
    truth = {key(record): record for record in trackly.account.records(stream)}
    for record in records(whole, stream):
        for name, value in truth[key(record)].items():
            is_time = name.endswith("_at") or name == "signup_date"
            expected = f"{value[:19]}+00:00" if is_time and value else value
            assert record[name] == expected, name


def test_streams_come_after_those_that_they_refer_to(whole: Run) -> None:
    order = [message["stream"] for message in whole.messages if message["type"] == "SCHEMA"]
    assert order == ["offers", "lists", "audiences", "creatives", "schedules", "contacts"]
    assert whole.messages[-1]["type"] == "STATE"


def test_contacts_are_left_out_unless_they_are_selected(trackly: Trackly) -> None:
    run = run_tap(trackly.config(), "--config=ENV")
    assert run.status == 0
    assert records(run, "creatives")
    assert not records(run, "contacts")
    (entry,) = [stream for stream in selecting()["streams"] if stream["tap_stream_id"] == "contacts"]
    (metadata,) = [entry["metadata"] for entry in entry["metadata"] if not entry["breadcrumb"]]
    assert metadata["selected-by-default"] is False


def test_schedules_are_incremental_and_the_others_are_not(trackly: Trackly, whole: Run) -> None:
    schedule = next(iter(trackly.account.schedules.values()))
    schedule["status"], schedule["updated_at"] = "archive", "2026-11-01T00:00:00"
    again = run_tap(trackly.config(), catalog=selecting(*SIBLINGS), state=whole.state)
    assert {record["id"]: record["status"] for record in records(again, "schedules")}[schedule["id"]] == "archive"
    assert len(records(again, "schedules")) < len(trackly.account.schedules)
    assert len(records(again, "creatives")) == len(trackly.account.creatives)
    assert set(again.state["bookmarks"]["schedules"]) == {
        "last_full_send",
        "last_full_send_of",
        "replication_key",
        "replication_key_value",
    }


def test_pages_have_the_size_that_the_endpoint_allows() -> None:
    with running(Account(0, contacts=2345)) as url:
        trackly = Trackly(Account(0), url)
        run = run_tap(trackly.config(), catalog=selecting("contacts"))
        assert "2345 records read, 2345 emitted, 0 unchanged, 3 pages" in run.log
        run = run_tap(trackly.config(page_size=100), catalog=selecting("contacts"))
        assert "2345 records read, 2345 emitted, 0 unchanged, 24 pages" in run.log


@pytest.mark.parametrize("deselected", ["offers", *SIBLINGS])
def test_a_deselected_stream_makes_no_request(deselected: str) -> None:
    with serving(Server([])) as server:
        server.always = answer({"error": "No."}, 404)
        for selected in [name for name in ("offers", *SIBLINGS) if name != deselected]:
            run_tap(server.config(), catalog=selecting(selected))
        assert {request.path for request in server.requests} == {"offers", *SIBLINGS} - {deselected}


def test_a_product_that_the_account_lacks_names_its_stream_and_keeps_what_came_before() -> None:
    with running(Account(3)) as url, serving(Server([])) as server:
        good = run_tap(Trackly(Account(3), url).config(), catalog=selecting("offers", "lists"))
        assert good.status == 0
        server.refused = {"audiences": answer({"error": "No audiences.", "code": "audiences_not_enabled"}, 403)}
        server.unpaged = {"lists": [{"id": 1}]}
        run = run_tap(server.config(), catalog=selecting("lists", "audiences", "creatives"))
    assert run.status == 1
    (line,) = run.lines("ERROR")
    assert "audiences_not_enabled" in line
    assert "deselect the stream 'audiences'" in line
    assert records(run, "lists") == [{"id": 1}]


def test_a_list_that_is_paged_one_day_is_read_to_its_end() -> None:
    with serving(Server([])) as server:
        server.paged = {"lists": [{"id": number} for number in range(250)]}
        run = run_tap(server.config(), catalog=selecting("lists"))
        assert run.status == 0, run.log
        assert [record["id"] for record in records(run, "lists")] == list(range(250))
        assert sorted(request.page for request in server.requests if request.status is None) == [1, 2, 3]


@pytest.mark.parametrize("stream", SIBLINGS)
def test_a_broken_answer_is_no_empty_success(stream: str) -> None:
    with serving(Server([])) as server:
        server.always = answer({"error": "Oops", "code": "server_error"})
        run = run_tap(server.config(), catalog=selecting(stream))
    assert run.status == 1
    assert f"no field '{stream}'" in run.lines("ERROR")[0]


def test_nested_values_and_amounts_of_the_wrong_kind(trackly: Trackly) -> None:
    creative = next(iter(trackly.account.creatives.values()))
    creative.update(offers=[7, "a\x00"], character_count="12", segment_count=1.5)
    trackly.account.contacts[0].update(revenue_total="1.10", list_id="3", active="true", custom_fields={"größe": "ß"})
    run = run_tap(trackly.config(), catalog=selecting("creatives", "contacts"))
    sent = {record["id"]: record for record in records(run, "creatives")}[creative["id"]]
    assert (sent["offers"], sent["character_count"], sent["segment_count"]) == (["7", "a\ufffd"], 12, None)
    (contact,) = [record for record in records(run, "contacts") if record["custom_fields"] == {"größe": "ß"}]
    assert (contact["revenue_total"], contact["list_id"], contact["active"]) == (Decimal("1.10"), 3, True)
    assert len(run.lines("WARNING")) == 2


def test_phone_numbers_stay_out_of_the_log(trackly: Trackly) -> None:
    contact = trackly.account.contacts[0]
    contact["signup_date"] = "soon"
    run = run_tap(trackly.config(), catalog=selecting("contacts"))
    (line,) = run.lines("WARNING")
    assert f"record list_id={contact['list_id']} phone_number=***: field 'signup_date' is no time" in line
    assert contact["phone_number"] not in run.log
