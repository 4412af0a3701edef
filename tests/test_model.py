"""Syncs of an account that changes, checked over many histories.

What holds: a record that was there all along, and changed with its `updated_at` at any time before the run began,
is in the target after the run; or the run says that it is incomplete, and the state is where it was. A full resend
sends records that changed without their `updated_at`, too.

What cannot hold, and is left out here:

- With several requests in flight, and contacts: one insertion and one removal within the time of a request leave
  every total as it was, so a record may be missed. Here contacts are read so while they are only inserted or only
  removed.
- Offers, where the tap reads all statuses: nothing is deleted, so the records read are all there are if each
  listing has at the end as many as were read. They are counted by one request for each listing, and a record that
  changes its listing between these may be counted twice. Here no record may do that in a run that is held to it.
- Offers, where the tap reads some statuses: if one leaves the listing behind the page that is being read, and
  another enters ahead of it, every total stays as it was, and a record is missed unless the first page shows it.
  Here new offers come first, as they do for contacts.
- A count that is capped: it shows no removal. Offers are read twice then; contacts are not, and are here read so
  only while none is removed, with one request in flight.
- The same in two answers: a listing that is cut short twice at the same record, or that changes twice at the same
  pages in both passes where it has duplicate records or a capped count.

The number of histories can be raised: `HISTORIES=20000 .venv/bin/python -m pytest tests/test_model.py`.
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
    """What happens to an account.

    Attributes:
        statuses: Of the records at the beginning.
        between: The changes before each sync after the first.
        during: For each sync, the changes before some of the answers.
        per_page: How many records a page has; None for an endpoint that answers with all of them.
        cap: The largest count that is announced.
        in_both: The record that both listings have, by its place at the beginning.
        cut: The number of a request whose answer is cut short, and to how many records.
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
    """A table, and the state that a run stored last."""

    rows: dict[str, Record] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Simulation:
    """A target that is synced with an account while the account changes."""

    account: SimulatedAccount
    listings: Sequence[Listing]
    workers: int = 1
    seed: int = 0
    target: Target = field(default_factory=Target)
    left: set[str] = field(default_factory=set)
    changed_while_closing: bool = False

    def change(self, kind: str, which: int) -> None:
        """Apply one change to one record or to the order of all."""
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
        """Sync, and hold what a run promises."""
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
        """Hold what runs promise over a whole history."""
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
    """Return histories with some kinds of changes during reads."""
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
