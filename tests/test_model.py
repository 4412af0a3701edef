"""Syncs of an account that changes, in many random histories.

The property: after a run, the target has every record that existed throughout the run, in the version in which it
last changed its `updated_at` before the run, or a later one; or the run is incomplete, and the state is unchanged.
After a full resend, the target also has the changes that did not update `updated_at`.

The property does not hold in these cases, which the histories avoid:

- Contacts with several requests in flight: if one contact is inserted and one removed during a request, every
  `total` stays the same and a record may be missed. Here such contacts are only inserted or only removed.
- Offers of all statuses: offers are never deleted, so all were read if at the end each listing has as many as were
  read. The listings are counted with one request each, and an offer that moves to another listing between these
  requests may be counted twice. Here a run with changes during the closing check is not checked.
- Offers of some statuses: if one offer leaves the listing on a page that was already read and another enters it on a
  later page, every `total` stays the same and a record is missed, unless the first page changes. Here new offers come
  first, like contacts.
- A capped count does not show removals. Then offers are read twice, but contacts are not. Here contacts with a
  capped count are never removed, and one request is in flight.
- Two equal faults: a listing that is truncated twice at the same record, or one with duplicates or a capped count
  that changes at the same pages in two passes.

More histories: `HISTORIES=20000 .venv/bin/python -m pytest tests/test_model.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_trackly.incremental import (
    CLOCK_TOLERANCE,
    LAST_FULL_SEND,
    Thresholds,
    resend_reason,
    should_emit,
    thresholds,
)
from tap_trackly.pagination import Record
from tap_trackly.records import parse_time
from tap_trackly.verified_read import Listing, VerifiedRead
from tests.simulated_account import ARCHIVED, CONTACTS, DEFAULT, AnyOrder, SimulatedAccount, SimulatedSource, get_key

HISTORIES = int(os.environ.get("HISTORIES", "100"))
PER_PAGE = 2
MOST_RECORDS = 11
REMEMBERED_PAGES = 2

Change = tuple[str, int]
Changes = Sequence[Change]

UPDATES = ["update", "update quietly"]
OFFER_CHANGES = [
    *UPDATES,
    "create",
    "create anywhere",
    "archive",
    "archive quietly",
    "restore",
    "restore quietly",
    "swap",
    "reorder",
]
CONTACT_CHANGES = [*UPDATES, "create", "delete", "swap contacts"]


@dataclass
class History:
    """An account and its changes.

    Attributes:
        statuses: The statuses of the initial records.
        between: The changes before each sync but the first.
        during: For each sync, the changes before a response, by the number of the request.
        per_page: The number of records on a page; None for an endpoint without pagination.
        cap: The maximum of `total`.
        in_both: The index of the initial record that is in both listings.
        cut: The number of a request whose response is truncated, and its number of records.
    """

    statuses: Sequence[str]
    between: Sequence[Changes]
    during: Sequence[Mapping[int, Changes]]
    per_page: int | None = PER_PAGE
    cap: int | None = None
    in_both: int | None = None
    cut: tuple[int, int] | None = None


@dataclass
class Target:
    """A table and the last state."""

    rows: dict[str, Record] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Simulation:
    """Syncs of an account that changes to a target."""

    account: SimulatedAccount
    listings: Sequence[Listing]
    workers: int = 1
    seed: int = 0
    target: Target = field(default_factory=Target)
    left: set[str] = field(default_factory=set)
    changed_while_closing: bool = False

    def change(self, kind: str, which: int) -> None:
        """Change one record or the order of all records."""
        account = self.account
        kind, _, how = kind.partition(" ")
        change = account.change if how == "quietly" else account.touch
        if kind == "create":
            account.create(which % (len(account.records) + 1) if how == "anywhere" else 0)
        elif not account.records:
            return
        elif kind == "reorder":
            cut = which % len(account.records)
            account.records[:] = account.records[cut:][::-1] + account.records[:cut]
        elif kind == "swap":
            self.change("delete" if how == "contacts" else "archive", which)
            account.create()
        else:
            record = account.records[which % len(account.records)]
            if kind == "update":
                change(record)
            elif kind == "restore":
                change(record, status="active")
            else:
                self.left.add(record["id"])
                if kind == "archive":
                    change(record, status="archived")
                else:
                    account.records.remove(record)

    def sync(self, during: Mapping[int, Changes], hours: float) -> VerifiedRead:
        """Sync as `TracklyStream` does, while the account changes."""
        account, state = self.account, dict(self.target.state)
        source = SimulatedSource(
            self.listings,
            AnyOrder(account.answer, self.workers, random.Random(self.seed)),  # noqa: S311
        )
        first = account.requests

        def before_answer(number: int) -> None:
            changes = during.get(number - first, ())
            self.changed_while_closing |= bool(changes) and source.is_closing
            for kind, which in changes:
                self.change(kind, which)

        account.before_answer = before_answer
        due, now = Thresholds(), account.now
        if CONTACTS not in self.listings:
            bookmark = state.get("replication_key_value")
            reason = resend_reason(state, now, hours, "")
            due = thresholds(state, bookmark and parse_time(bookmark), None, reason, now)
        read = VerifiedRead(self.listings, source, get_key, REMEMBERED_PAGES)
        emitted: list[Record] = []
        for _, new, changed in read:
            emitted += [record for record in new if should_emit(record["updated_at"], due.seen_first)]
            emitted += [record for record in changed if should_emit(record["updated_at"], due.seen_changed)]
        self.target.rows.update({record["id"]: record for record in emitted})
        if read.is_verified:
            if emitted:
                latest = max(record["updated_at"] for record in emitted)
                state["replication_key_value"] = min(latest, (now - CLOCK_TOLERANCE).isoformat())
            if due.is_full or LAST_FULL_SEND not in state:
                state[LAST_FULL_SEND] = now.isoformat()
            self.target.state = state
        return read

    def check_sync(self, during: Mapping[int, Changes] | None = None, hours: float = 24) -> VerifiedRead:
        """Sync, and check the property for this run."""
        is_full = hours == 0 or not self.target.state or CONTACTS in self.listings
        wanted = {
            record["id"]: record["version" if is_full else "touched_version"]
            for listing in self.listings
            for record in self.account.listed(listing)
        }
        self.left, self.changed_while_closing = set(), False
        before = self.target.state
        read = self.sync(during or {}, hours)
        if not read.is_verified:
            assert self.target.state == before
            return read
        if ARCHIVED in self.listings:
            if self.changed_while_closing:
                return read
            self.left = set()
        present = {record["id"] for record in self.account.records} - self.left
        for key in wanted.keys() & present:
            row = self.target.rows.get(key)
            assert row is not None, f"{key} is missing"
            assert row["version"] >= wanted[key], f"{key} is stale"
        return read

    def check(self, history: History) -> None:
        """Check the property for all runs of a history."""
        account = self.account
        account.per_page, account.cap = history.per_page, history.cap
        account.cut_short = dict([history.cut] if history.cut else [])
        for place, status in enumerate(history.statuses):
            account.create(status=status)
            if place == history.in_both:
                account.in_both.add(account.records[0]["id"])
        for between, during in zip([(), *history.between], history.during, strict=False):
            account.now += timedelta(hours=1)
            for kind, which in between:
                self.change(kind, which)
            self.check_sync(during)
        account.cut_short = {}
        account.now += timedelta(hours=1)
        assert self.check_sync().is_verified
        assert self.check_sync(hours=0).is_verified
        for listing in self.listings:
            for record in self.account.listed(listing):
                assert self.target.rows[record["id"]] == record


def histories(kinds: Sequence[str], statuses: Sequence[str] = ("active",), **more: Any) -> st.SearchStrategy[History]:
    """Return histories with these kinds of changes during the syncs."""
    changes = st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, MOST_RECORDS)), min_size=1, max_size=3)
    return st.builds(
        History,
        statuses=st.lists(st.sampled_from(statuses), max_size=MOST_RECORDS),
        between=st.lists(changes, min_size=2, max_size=2),
        during=st.lists(st.dictionaries(st.integers(1, 20), changes, max_size=4), min_size=1, max_size=3),
        **more,
    )


checked = settings(
    max_examples=HISTORIES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
BOTH_STATUSES = ["active", "active", "archived"]
CAPS = st.sampled_from([None, 4])
CUTS = st.none() | st.tuples(st.integers(1, 20), st.integers(0, 3))


@checked
@given(history=histories(OFFER_CHANGES, BOTH_STATUSES))
def test_offers(history: History) -> None:
    Simulation(SimulatedAccount(), [DEFAULT, ARCHIVED]).check(history)


@checked
@given(history=histories(OFFER_CHANGES, BOTH_STATUSES), seed=st.integers(0, 99))
def test_offers_with_responses_in_any_order(history: History, seed: int) -> None:
    Simulation(SimulatedAccount(), [DEFAULT, ARCHIVED], workers=8, seed=seed).check(history)


@checked
@given(
    history=histories(OFFER_CHANGES, BOTH_STATUSES, cap=CAPS, in_both=st.none() | st.integers(0, 5)),
    workers=st.sampled_from([1, 8]),
)
def test_offers_with_duplicates_or_a_capped_count(history: History, workers: int) -> None:
    Simulation(SimulatedAccount(), [DEFAULT, ARCHIVED], workers=workers).check(history)


@checked
@given(history=histories(OFFER_CHANGES, BOTH_STATUSES, per_page=st.sampled_from([3, None]), cut=CUTS))
def test_offers_with_truncated_response(history: History) -> None:
    Simulation(SimulatedAccount(), [DEFAULT, ARCHIVED]).check(history)


@checked
@given(history=histories([*UPDATES, "create", "archive", "archive quietly", "swap"], cut=CUTS))
def test_offers_of_one_listing(history: History) -> None:
    Simulation(SimulatedAccount(), [DEFAULT]).check(history)


@checked
@given(history=histories(CONTACT_CHANGES, cut=CUTS))
def test_contacts(history: History) -> None:
    Simulation(SimulatedAccount(), [CONTACTS]).check(history)


@checked
@given(history=histories([*UPDATES, "create"], cap=st.just(4)))
def test_signups_with_a_capped_count(history: History) -> None:
    Simulation(SimulatedAccount(), [CONTACTS]).check(history)


@checked
@given(history=histories([*UPDATES, "create"]), seed=st.integers(0, 99))
def test_signups_with_responses_in_any_order(history: History, seed: int) -> None:
    Simulation(SimulatedAccount(), [CONTACTS], workers=8, seed=seed).check(history)


@checked
@given(history=histories([*UPDATES, "delete"]), seed=st.integers(0, 99))
def test_removals_with_responses_in_any_order(history: History, seed: int) -> None:
    Simulation(SimulatedAccount(), [CONTACTS], workers=8, seed=seed).check(history)
