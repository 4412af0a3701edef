"""The SDK's standard tests with all records, and two tests of our own on the same run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from singer_sdk.io_base import SingerWriter
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from sandbox.account import Account
from tap_trackly.tap import TapTrackly
from tests.fake_trackly import KEY, FakeTrackly
from tests.servers import serving
from tests.tap import STREAMS, selecting

OFFERS = 1234
WITHOUT_SAMPLES = [name for name in STREAMS if not Account(1).records(name)]
_CONFIG: dict[str, Any] = {"api_key": KEY, "api_url": "http://127.0.0.1:9"}

_StandardTests = get_tap_test_class(
    TapTrackly,
    config=_CONFIG,
    catalog=selecting(*STREAMS),
    parse_env_config=False,
    suite_config=SuiteConfig(max_records_limit=None, ignore_no_records_for_streams=WITHOUT_SAMPLES),
    # The SDK's test runner cannot capture the tap's own writer, which writes to file descriptor 1.
    message_writer=SingerWriter(),
)


@pytest.fixture(scope="class")
def account() -> Iterator[Account]:
    with serving(FakeTrackly(Account(OFFERS))) as trackly:
        _CONFIG["api_url"] = trackly.url
        yield trackly.account


# Samples are optional, also those of a field.
@pytest.mark.filterwarnings("default:No records were available to test")
@pytest.mark.usefixtures("account")
class TestTapTrackly(_StandardTests):  # type: ignore[valid-type, misc]
    """The SDK's standard tests, and two of our own."""

    def test_every_offer_arrives_once(self, runner: Any, account: Account) -> None:
        ids = [record["id"] for record in runner.records["offers"]]
        assert len(ids) == len(set(ids)) == OFFERS
        assert set(ids) == set(account.offers)

    def test_final_state(self, runner: Any) -> None:
        bookmarks = runner.state_messages[-1]["value"]["bookmarks"]
        assert sorted(bookmarks) == sorted(STREAMS)
        assert set(bookmarks["offers"]) == {
            "last_full_send",
            "last_full_send_of",
            "replication_key",
            "replication_key_value",
        }
