"""Reads of an account that changes between any two requests, checked over many histories.

The number of histories can be raised: `HISTORIES=20000 .venv/bin/python -m pytest tests/test_model.py`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from singer_sdk.io_base import GenericSingerWriter
from singer_sdk.singerlib import Message, RecordMessage, StateMessage

from tap_trackly.pagination import MAX_PASSES, Listing, Page, accept
from tap_trackly.streams import OffersStream
from tap_trackly.tap import TapTrackly
from tests.tap import selecting

PER_PAGE = 2
MOST_OFFERS = 8
HISTORIES = int(os.environ.get("HISTORIES", "500"))
LONG_AGO = datetime.now(timezone.utc) - timedelta(days=30)

Change = tuple[str, int]
Offer = dict[str, Any]


@dataclass
class SimulatedAccount:
    """An account whose offers change before each request as a history says.

    Attributes:
        history: For each request the changes that come before it; none when it is used up.
        had: Every state that each offer has been in.
        moved: The offers whose `updated_at` has moved since the history began.
    """

    offers: list[Offer] = field(default_factory=list)
    history: list[Sequence[Change]] = field(default_factory=list)
    had: dict[str, list[Offer]] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    requests: int = 0
    changes: int = 0

    def change(self, kind: str, which: int) -> None:
        """Apply one change to one offer, or to the order of all."""
        self.changes += 1
        if kind == "create":
            self._touch(self.add("active"))
        elif not self.offers:
            return
        elif kind == "reorder":
            cut = which % len(self.offers)
            self.offers = self.offers[cut:][::-1] + self.offers[:cut]
        else:
            offer = self.offers[which % len(self.offers)]
            offer["payout"] = self.changes
            if kind.startswith(("archive", "restore")):
                offer["status"] = "archived" if kind.startswith("archive") else "active"
            if not kind.endswith("quietly"):
                self._touch(offer)
            self._remember(offer)

    def add(self, status: str) -> Offer:
        """Add an offer that was last changed long ago."""
        number = len(self.had)
        updated_at = (LONG_AGO + timedelta(hours=number)).isoformat()
        offer = {"id": f"offer-{number}", "status": status, "payout": 0, "updated_at": updated_at}
        # New offers come first, which is what moves all others over the page boundaries.
        self.offers.insert(0, offer)
        self._remember(offer)
        return offer

    def fetch(self, listing: Listing, number: int) -> Page:
        """Answer a request as the API does."""
        for kind, which in self.history.pop(0) if self.history else ():
            self.change(kind, which)
        self.requests += 1
        records = [offer for offer in self.offers if (offer["status"] == "archived") == (listing.status == "archived")]
        page = records[(number - 1) * PER_PAGE : number * PER_PAGE]
        pages = -(-len(records) // PER_PAGE)
        pagination = {"page": number, "per_page": PER_PAGE, "total": len(records), "total_pages": pages}
        return accept({"offers": copy.deepcopy(page), "pagination": pagination}, "offers", number)

    def _touch(self, offer: Offer) -> None:
        offer["updated_at"] = datetime.now(timezone.utc).isoformat()
        self.moved.add(offer["id"])
        self._remember(offer)

    def _remember(self, offer: Offer) -> None:
        self.had.setdefault(offer["id"], []).append(dict(offer))


class Target(GenericSingerWriter[str, Message]):
    """A table keyed by id, and the last STATE."""

    def __init__(self) -> None:
        self.rows: dict[str, Offer] = {}
        self.emitted: dict[str, Offer] = {}
        self.state: dict[str, Any] = {}

    def serialize_message(self, message: Message) -> str:
        return str(message)

    def write_message(self, message: Message) -> None:
        if isinstance(message, RecordMessage):
            self.rows[message.record["id"]] = self.emitted[message.record["id"]] = dict(message.record)
        if isinstance(message, StateMessage):
            self.state = copy.deepcopy(dict(message.value))


def sync(account: SimulatedAccount, target: Target, **config: Any) -> None:
    """Run the tap's offers stream against the account, with the target's state."""
    tap = TapTrackly(
        config={"api_key": "trk", "concurrency": 1, **config},
        catalog=selecting("offers"),
        state=copy.deepcopy(target.state),
        message_writer=target,
    )
    stream = tap.streams["offers"]
    assert isinstance(stream, OffersStream)
    stream.fetch = account.fetch  # type: ignore[method-assign]
    target.emitted = {}
    account.requests = 0
    tap.sync_all()


def check(statuses: Sequence[str], history: Sequence[Sequence[Change]]) -> None:
    """Hold what a run promises against one history."""
    account, target = SimulatedAccount(), Target()
    for status in statuses:
        account.add(status)
    sync(account, target)
    before = target.state

    account.history = [*history]
    sync(account, target)
    most_pages = (len(account.had) + 2) // PER_PAGE + 2
    assert account.requests <= MAX_PASSES * 2 * most_pages
    for identity, offer in target.emitted.items():
        assert offer in account.had[identity], "no state that the account had"
    assert set(target.state["bookmarks"]["offers"]) <= {
        "last_full_send",
        "last_full_send_of",
        "replication_key",
        "replication_key_value",
    }

    account.history = []
    sync(account, target)
    truth = {offer["id"]: offer for offer in account.offers}
    for identity in account.moved:
        assert target.rows[identity] == truth[identity], f"lost, from {before} by {target.state}"

    sync(account, target, full_resend_hours=0)
    assert target.emitted == target.rows == truth


changes = st.tuples(
    st.sampled_from(
        ["create", "update", "archive", "archive quietly", "restore", "restore quietly", "update quietly", "reorder"]
    ),
    st.integers(0, MOST_OFFERS),
)


@settings(max_examples=HISTORIES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    statuses=st.lists(st.sampled_from(["active", "active", "archived"]), max_size=MOST_OFFERS),
    history=st.lists(st.lists(changes, max_size=3), max_size=24),
)
def test_no_history_loses_what_a_run_promises(statuses: list[str], history: list[list[Change]]) -> None:
    check(statuses, history)


QUIET: list[Change] = []
NAMED = {
    "an offer that was read is archived, which moves another over the page boundary": (
        ["active"] * 5,
        [QUIET, QUIET, [("archive", 0)]],
    ),
    "an offer is archived after its listing and before the archived one": (
        ["active", "archived", "active"],
        [QUIET, [("archive", 0)]],
    ),
    "an offer is restored after its listing was read, and is in none": (
        ["active", "archived", "active"],
        [QUIET, [("restore", 1)]],
    ),
    "one is archived, one created and the first restored, all between two pages": (
        ["active"] * 5,
        [QUIET, QUIET, [("archive quietly", 0), ("create", 0), ("restore quietly", 1)]],
    ),
    "pages change places without a change of any total": (["active"] * 6, [QUIET, QUIET, [("reorder", 3)]]),
    "an offer changes in each pass": (
        ["active"] * 3,
        [QUIET, QUIET, [("create", 0)], QUIET, QUIET, [("create", 0)], QUIET, QUIET, [("create", 0)]],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_histories_with_a_name(name: str) -> None:
    check(*NAMED[name])


def test_the_bookmark_is_held_while_the_account_never_holds_still() -> None:
    account, target = SimulatedAccount(), Target()
    for _ in range(5):
        account.add("active")
    sync(account, target)
    before = target.state
    account.history = [[("create", 0)]] * 99
    sync(account, target)
    assert target.state == before
    assert MAX_PASSES * 4 <= account.requests <= MAX_PASSES * 40
