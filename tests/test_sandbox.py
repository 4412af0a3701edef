"""The sandbox responds as the vendor documents; for `GET /v2/offers` exactly as in the example."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import requests
from dotenv import dotenv_values

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running
from tests.tap import exact

SPECIFICATION = Path(__file__).parent / "specification" / "list_offers.json"
FIELDS = {
    "contacts": "phone_number list_number list_id active signup_date signup_method custom_fields carrier line_type "
    "timezone is_valid send_count click_count revenue_total conversion_count last_sent_at last_clicked_at in_workflow",
    "lists": "id phone_number brand_name list_name list_type status contact_count created_at",
    "creatives": "id slug name message offer_links offers status creative_type character_count segment_count "
    "created_at",
    "audiences": "id name description source_lists filter cached_size cached_size_updated_at status created_at",
    "schedules": "id name status send_type source_lists audiences is_repeating send_time send_date start_date end_date "
    "days_of_week skip_within_hours use_local_time filter_bots is_mms is_cto automated_percent ir_revenue blasts "
    "created_at updated_at",
}
FILTERS = [
    ("contacts", "active", [True, False]),
    ("contacts", "list_number", ["+18335550100", "+18335550102"]),
    ("lists", "status", ["active", "paused", "suspended", "deleted"]),
    ("creatives", "status", ["active", "paused", "archived"]),
    ("audiences", "status", ["active", "archived"]),
    ("schedules", "status", ["draft", "off", "on", "complete", "archive"]),
]


class Client:
    """A client of the sandbox."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, method: str = "GET", path: str = "/offers", key: str | None = API_KEY, **kwargs: Any
    ) -> tuple[int, Any]:
        headers = {} if key is None else {"X-Api-Key": key}
        answer = requests.request(method, self.url + path, headers=headers, timeout=10, **kwargs)
        return answer.status_code, exact(answer.text)

    def records(self, kind: str, **params: Any) -> list[dict[str, Any]]:
        status, answer = self(path=f"/{kind}", params={"per_page": 1000, **params})
        assert status == 200
        records: list[dict[str, Any]] = answer[kind]
        return records


@pytest.fixture
def account() -> Account:
    return Account(250)


@pytest.fixture
def ask(account: Account) -> Iterator[Client]:
    with running(account) as url:
        yield Client(url)


def test_documented_example() -> None:
    with running(Account(2)) as url:
        answer = Client(url)(params={"status": "active", "page": 1, "per_page": 25})
        text = requests.get(f"{url}/offers", headers={"X-Api-Key": API_KEY}, timeout=10).text
    assert answer == (200, exact(SPECIFICATION.read_text()))
    assert '"payout": 2.50' in text


def test_offers_status_filter(ask: Client, account: Account) -> None:
    def total(**params: Any) -> int:
        return int(ask(params=params)[1]["pagination"]["total"])

    statuses = [offer["status"] for offer in account.offers.values()]
    assert total() == 250 - statuses.count("archived")
    for status in ("active", "paused", "archived"):
        assert total(status=status) == statuses.count(status) > 0
        assert {offer["status"] for offer in ask(params={"status": status})[1]["offers"]} == {status}


@pytest.mark.parametrize(
    "asked,given", [({}, 50), ({"per_page": 7}, 7), ({"per_page": 100}, 100), ({"per_page": 1000}, 100)]
)
def test_offers_page_size(ask: Client, account: Account, asked: dict[str, int], given: int) -> None:
    total = len(account.listed(None))
    status, answer = ask(params=asked)
    assert (status, len(answer["offers"])) == (200, given)
    assert answer["pagination"] == {"page": 1, "per_page": given, "total": total, "total_pages": -(-total // given)}


def test_offers_pages(ask: Client, account: Account) -> None:
    pages = [ask(params={"page": page})[1]["offers"] for page in range(1, 7)]
    assert [offer["id"] for page in pages for offer in page] == [offer["id"] for offer in account.listed(None)]
    assert pages[-1] == []


@pytest.mark.parametrize(
    "key,code", [(None, "missing_api_key"), ("", "missing_api_key"), ("trk_wrong", "invalid_api_key")]
)
def test_invalid_key(ask: Client, key: str | None, code: str) -> None:
    status, answer = ask(key=key)
    assert (status, answer["code"]) == (401, code)
    assert answer["error"]


@pytest.mark.parametrize("params", [{"page": 0}, {"page": "x"}, {"per_page": 0}, {"status": "expired"}])
def test_invalid_query(ask: Client, params: dict[str, Any]) -> None:
    status, answer = ask(params=params)
    assert (status, answer["code"]) == (400, "validation_error")


def test_create_update_and_archive(ask: Client, account: Account) -> None:
    status, offer = ask("POST", json={"name": "Spring", "payout": 1.10, "metadata": {"geo": "US"}})
    assert (status, offer["name"], offer["status"]) == (201, "Spring", "active")
    path = f"/offers/{offer['id']}"
    account.offers[offer["id"]]["updated_at"] = "2025-01-01T00:00:00Z"
    status, changed = ask("PUT", path, json={"payout": 2.20, "metadata": {"vertical": "health"}})
    assert (status, str(changed["payout"])) == (200, "2.2")
    assert changed["metadata"] == {"geo": "US", "vertical": "health"}
    assert changed["updated_at"] > "2025-01-01T00:00:00Z"
    assert ask("DELETE", path)[0] == 200
    assert account.offers[offer["id"]]["status"] == "archived"
    assert len(account.offers) == 251


@pytest.mark.parametrize("method,path", [("PUT", "/offers/none"), ("DELETE", "/offers/none"), ("GET", "/nothing")])
def test_not_found(ask: Client, method: str, path: str) -> None:
    status, answer = ask(method, path, json={})
    assert (status, answer["code"]) == (404, "not_found")


@pytest.mark.parametrize("kind", FIELDS)
def test_documented_fields(ask: Client, kind: str) -> None:
    assert {" ".join(record) for record in ask.records(kind)} == {FIELDS[kind]}


@pytest.mark.parametrize(
    "kind,shown",
    [
        ("lists", {"active", "paused", "suspended"}),
        ("creatives", {"active"}),
        ("audiences", {"active"}),
        ("schedules", {"draft", "off", "on", "complete"}),
    ],
)
def test_default_listing(ask: Client, account: Account, kind: str, shown: set[str]) -> None:
    assert {record["status"] for record in account.records(kind)} > shown
    assert ask.records(kind) == [record for record in account.records(kind) if record["status"] in shown]


def test_contacts_order(ask: Client, account: Account) -> None:
    contacts = ask.records("contacts")
    signups = [contact["signup_date"] for contact in contacts]
    assert contacts == account.contacts
    assert signups == sorted(signups, reverse=True)
    assert len({(contact["list_id"], contact["phone_number"]) for contact in contacts}) == 300
    assert len({contact["phone_number"] for contact in contacts}) < 300


@pytest.mark.parametrize("kind,name,values", FILTERS)
def test_filters(ask: Client, account: Account, kind: str, name: str, values: list[Any]) -> None:
    for value in values:
        having = [record for record in account.records(kind) if record[name] == value]
        text = str(value).lower() if isinstance(value, bool) else value
        assert ask.records(kind, **{name: text}) == having != []


def test_creative_type_filter(ask: Client, account: Account) -> None:
    for params in ({"status": "active"}, {"status": "archived"}):
        having = [creative for creative in account.creatives.values() if creative["status"] == params["status"]]
        for kind in ("automated", "one_time", "welcome"):
            typed = [creative for creative in having if creative["creative_type"] == kind]
            assert ask.records("creatives", creative_type=kind, **params) == typed
            if params["status"] == "active":
                assert ask.records("creatives", creative_type=kind) == typed != []


@pytest.mark.parametrize("kind,name", [(kind, name) for kind, name, _ in FILTERS] + [("creatives", "creative_type")])
@pytest.mark.parametrize("value", ["", "expired", "True", "18335550100"])
def test_invalid_filter_value(ask: Client, kind: str, name: str, value: str) -> None:
    status, answer = ask(path=f"/{kind}", params={name: value})
    assert (status, answer["code"]) == (400, "validation_error")
    assert name in answer["error"]


@pytest.mark.parametrize(
    "kind,asked,given",
    [
        ("contacts", None, 50),
        ("contacts", 1000, 1000),
        ("contacts", 5000, 1000),
        ("creatives", None, 50),
        ("creatives", 1000, 100),
        ("audiences", None, 50),
        ("audiences", 1000, 100),
    ],
)
def test_page_size(kind: str, asked: int | None, given: int) -> None:
    with running(Account(1, contacts=1200)) as url:
        _, answer = Client(url)(path=f"/{kind}", params={"per_page": asked})
    total = answer["pagination"]["total"]
    assert len(answer[kind]) == min(given, total)
    assert answer["pagination"] == {"page": 1, "per_page": given, "total": total, "total_pages": -(-total // given)}


@pytest.mark.parametrize("kind", ["contacts", "creatives", "audiences"])
def test_pages(ask: Client, kind: str) -> None:
    _, answer = ask(path=f"/{kind}", params={"per_page": 3})
    numbers = range(1, answer["pagination"]["total_pages"] + 1)
    pages = [ask.records(kind, per_page=3, page=number) for number in numbers]
    assert [record for page in pages for record in page] == ask.records(kind)


@pytest.mark.parametrize("kind", ["lists", "schedules"])
def test_endpoints_without_pagination(ask: Client, kind: str) -> None:
    assert ask(path=f"/{kind}", params={"page": 7, "per_page": 1}) == ask(path=f"/{kind}")
    assert list(ask(path=f"/{kind}")[1]) == [kind]


def test_references_between_records(account: Account) -> None:
    numbers = {home["id"]: home["phone_number"] for home in account.lists.values()}
    for contact in account.contacts:
        assert contact["list_number"] == numbers[contact["list_id"]]
    for home in account.lists.values():
        assert home["contact_count"] == sum(contact["list_id"] == home["id"] for contact in account.contacts)
    for creative in account.creatives.values():
        assert creative["offers"] == [link["offer_id"] for link in creative["offer_links"]] != []
        assert set(creative["offers"]) <= set(account.offers)
    for audience in account.audiences.values():
        assert set() < set(audience["source_lists"]) <= set(account.lists)
    messages = {creative["message"] for creative in account.creatives.values()}
    for schedule in account.schedules.values():
        assert set() < set(schedule["audiences"]) <= set(account.audiences)
        assert set() < set(schedule["source_lists"]) <= set(account.lists)
        assert sum(blast["percent_audience"] for blast in schedule["blasts"]) == 100
        for blast in schedule["blasts"]:
            assert blast["message"] in messages
            assert {link["offer_id"] for link in blast["offer_links"]} <= set(account.offers)


def test_documented_formats(ask: Client) -> None:
    def first(kind: str) -> dict[str, Any]:
        return ask.records(kind)[0]

    assert {type(first(kind)["id"]) for kind in ("lists", "creatives")} == {int}
    assert {type(first(kind)["id"]) for kind in ("audiences", "schedules")} == {str}
    assert Decimal("1.25") in {contact["revenue_total"] for contact in ask.records("contacts")}
    assert Decimal("32.75") in {schedule["ir_revenue"] for schedule in ask.records("schedules")}
    assert first("contacts")["signup_date"] == "2025-12-15T09:12:00"
    assert first("schedules")["updated_at"].endswith("Z")


def test_initial_records_and_changes() -> None:
    account, other = Account(3, contacts=20), Account(3, contacts=20)
    for kind in ("offers", *FIELDS):
        assert account.records(kind) == other.records(kind)
    for creative in account.creatives.values():
        creative["status"] = "archived"
    account.contacts.insert(0, {**account.contacts[0], "phone_number": "+12125550199"})
    del account.schedules[next(iter(account.schedules))]
    with running(account) as url:
        ask = Client(url)
        assert ask.records("creatives") == []
        assert ask.records("contacts")[0]["phone_number"] == "+12125550199"
        assert ask.records("schedules") == other.records("schedules")[1:5]


def test_empty_account() -> None:
    with running(Account(0, contacts=0)) as url:
        ask = Client(url)
        assert ask.records("offers") == ask.records("contacts") == []
        assert ask.records("creatives")[0]["offers"] == []


def test_command() -> None:
    command = [sys.executable, "-m", "sandbox", "--offers", "3", "--contacts", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(4)]
        settings = dotenv_values(stream=StringIO("".join(lines[:2])))
        assert settings["TAP_TRACKLY_API_KEY"] == API_KEY
        client = Client(str(settings["TAP_TRACKLY_API_URL"]))
        assert client()[1]["pagination"]["total"] == 3
        assert len(client.records("contacts")) == 4
        pasted = subprocess.check_output(["/bin/bash", "-ec", "".join([*lines, "env"])], text=True)
        assert {f"{name}={value}" for name, value in settings.items()} <= set(pasted.splitlines())
        process.terminate()
    assert process.returncode == 0
