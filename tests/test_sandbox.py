"""The sandbox answers as the vendor's page on `GET /v2/offers` says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running
from tests.tap import exact

SPECIFICATION = Path(__file__).parent / "specification" / "list_offers.json"


class Client:
    """Asks the sandbox as curl would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, method: str = "GET", path: str = "/offers", key: str | None = API_KEY, **kwargs: Any
    ) -> tuple[int, Any]:
        headers = {} if key is None else {"X-Api-Key": key}
        answer = requests.request(method, self.url + path, headers=headers, timeout=10, **kwargs)
        return answer.status_code, exact(answer.text)


@pytest.fixture
def account() -> Account:
    return Account(250)


@pytest.fixture
def ask(account: Account) -> Iterator[Client]:
    with running(account) as url:
        yield Client(url)


def test_it_gives_the_pages_example_word_for_word() -> None:
    with running(Account(2)) as url:
        answer = Client(url)(params={"status": "active", "page": 1, "per_page": 25})
        text = requests.get(f"{url}/offers", headers={"X-Api-Key": API_KEY}, timeout=10).text
    assert answer == (200, exact(SPECIFICATION.read_text()))
    assert '"payout": 2.50' in text


def test_archived_offers_are_left_out_unless_asked_for(ask: Client, account: Account) -> None:
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
def test_pages_have_50_offers_and_at_most_100(ask: Client, account: Account, asked: dict[str, int], given: int) -> None:
    total = len(account.listed(None))
    status, answer = ask(params=asked)
    assert (status, len(answer["offers"])) == (200, given)
    assert answer["pagination"] == {"page": 1, "per_page": given, "total": total, "total_pages": -(-total // given)}


def test_pages_together_are_the_listing(ask: Client, account: Account) -> None:
    pages = [ask(params={"page": page})[1]["offers"] for page in range(1, 7)]
    assert [offer["id"] for page in pages for offer in page] == [offer["id"] for offer in account.listed(None)]
    assert pages[-1] == []


@pytest.mark.parametrize(
    "key,code", [(None, "missing_api_key"), ("", "missing_api_key"), ("trk_wrong", "invalid_api_key")]
)
def test_a_wrong_key_is_refused(ask: Client, key: str | None, code: str) -> None:
    status, answer = ask(key=key)
    assert (status, answer["code"]) == (401, code)
    assert answer["error"]


@pytest.mark.parametrize("params", [{"page": 0}, {"page": "x"}, {"per_page": 0}, {"status": "expired"}])
def test_a_wrong_query_is_refused(ask: Client, params: dict[str, Any]) -> None:
    status, answer = ask(params=params)
    assert (status, answer["code"]) == (400, "validation_error")


def test_an_offer_is_created_changed_and_archived(ask: Client, account: Account) -> None:
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
def test_what_is_not_there_is_not_found(ask: Client, method: str, path: str) -> None:
    status, answer = ask(method, path, json={})
    assert (status, answer["code"]) == (404, "not_found")


def test_it_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "sandbox", "--offers", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip().removeprefix("TAP_TRACKLY_API_URL=")
        assert process.stdout.readline().strip() == f"TAP_TRACKLY_API_KEY={API_KEY}"
        assert Client(url)()[1]["pagination"]["total"] == 3
        process.terminate()
    assert process.returncode == 0
