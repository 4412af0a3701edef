"""The SDK's standard tests over every record, with real checks in place of the two that cannot fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from singer_sdk.io_base import SingerWriter
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running
from tap_trackly.tap import TapTrackly
from tests.tap import selecting

OFFERS = 1234
STREAMS = ["offers", "lists", "audiences", "creatives", "schedules", "contacts"]
_CONFIG: dict[str, Any] = {"api_key": API_KEY, "api_url": "http://127.0.0.1:9"}

_StandardTests = get_tap_test_class(
    TapTrackly,
    config=_CONFIG,
    catalog=selecting(*STREAMS),
    parse_env_config=False,
    suite_config=SuiteConfig(max_records_limit=None),
    # The tap's own writer writes to the process's standard output, where the SDK's runner does not look.
    message_writer=SingerWriter(),
)


@pytest.fixture(scope="class")
def account() -> Iterator[Account]:
    account = Account(OFFERS)
    with running(account) as url:
        _CONFIG["api_url"] = url
        yield account


@pytest.mark.usefixtures("account")
class TestTapTrackly(_StandardTests):  # type: ignore[valid-type, misc]
    """The SDK's tests and two of ours, on one run."""

    def test_primary_keys_are_there_and_unique(self, runner: Any, account: Account) -> None:
        ids = [record["id"] for record in runner.records["offers"]]
        assert len(ids) == len(set(ids)) == OFFERS
        assert set(ids) == set(account.offers)

    def test_final_state_is_final(self, runner: Any) -> None:
        bookmarks = runner.state_messages[-1]["value"]["bookmarks"]
        assert list(bookmarks) == STREAMS
        assert set(bookmarks["offers"]) == {
            "last_full_send",
            "last_full_send_of",
            "replication_key",
            "replication_key_value",
        }
