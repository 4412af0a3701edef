"""The tap's own way of writing records gives what the SDK's way gives."""

from __future__ import annotations

from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from typing import Any

import pytest
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.io_base import SingerWriter

from tap_trackly.streams import OffersStream
from tap_trackly.tap import TapTrackly
from tests.fake_trackly import FakeTrackly
from tests.tap import Run, selecting


def by_the_sdk(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Sync with the SDK's writer, its selection of fields and its conversion of types."""
    monkeypatch.setattr(OffersStream, "TYPE_CONFORMANCE_LEVEL", TypeConformanceLevel.RECURSIVE)
    monkeypatch.setattr(OffersStream, "_selects_everything", False)
    with redirect_stdout(StringIO()) as stdout:
        TapTrackly(config=config, catalog=selecting("offers"), message_writer=SingerWriter()).sync_all()
    return Run(0, stdout.getvalue(), "")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flattening_enabled": True, "flattening_max_depth": 1},
        {"stream_maps": {"offers": {"__alias__": "deals", "total": "float(payout * 2)", "__filter__": "payout > 1"}}},
    ],
    ids=["plain", "flattened", "mapped"],
)
def test_messages_are_the_same_field_by_field(
    trackly: FakeTrackly, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = trackly.account.offers["664f1a2b3c4d5e6f7a8b9c0d"]
    offer["metadata"] = {"ß": "\u2603", "n": 1.5, "deep": {"a": [None]}}
    ours = trackly.sync(**settings)
    theirs = by_the_sdk(trackly.config(**settings), monkeypatch)
    assert len(ours.records) == len(theirs.records) > 0
    for message in [*ours.messages, *theirs.messages]:
        if message["type"] == "RECORD":
            assert datetime.fromisoformat(message.pop("time_extracted").replace("Z", "+00:00")).tzinfo
        if message["type"] == "STATE":
            message["value"]["bookmarks"]["offers"].pop("last_full_send")
    assert ours.messages[: len(ours.records) + 2] == theirs.messages[: len(ours.records) + 2]
