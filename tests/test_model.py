"""Syncs of an account that changes, in many random histories.

The property: after a run, the target has every record that existed throughout the run, in the version in which it
was last touched before the run, or a later one; or the run is incomplete, and the bookmark is unchanged. After a full
resend, the target also has the changes that did not update `updated_at`. A run that reads only new contacts has those
that signed up after the bookmark.

The property does not hold in these cases, which the histories avoid or meet rarely:

- Contacts with equal signup dates, whose order differs from request to request: overlapping pages may miss one, and
  the number of records read may equal `total` all the same, for example because another one was removed meanwhile.
  A read of new contacts compares no numbers; it notices the order if new records do not follow the last ones that
  were read, but by chance they may. With pages of 22 to 30, which repeat few records, 14 of 3,317 histories with
  removals broke the property, and none of 3,824 without. Here such contacts are not removed.
- Offers of some statuses: if one offer leaves the listing on a page that was already read and another enters it on a
  later page, every `total` stays the same and a record is missed, unless the first or last page changes. Here new
  offers come first.
- A count that is too low: with it, an empty page after the announced ones looks like the end, and the number of
  records read may be the announced one. Here accounts with such a count get no faulty responses.
- An ignored filter of an account without any offer in the default listing: both listings are empty.
- The same fault in every pass, such as a row that the API never lists and does not count.

More histories: `HISTORIES=20000 .venv/bin/python -m pytest tests/test_model.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_trackly.incremental import CLOCK_TOLERANCE, due
from tap_trackly.pagination import Record
from tap_trackly.verified_read import OrderedRead, VerifiedRead
from tests.simulated_account import AnyOrder, SimulatedAccount, get_key

HISTORIES = int(os.environ.get("HISTORIES", "75"))
OFFERS = (None, "archived")
DAY = timedelta(days=1)

Change = tuple[str, int]
Changes = Sequence[Change]

UPDATES = ["update", "update quietly"]
MOVES = ["create", "archive", "archive quietly", "restore", "restore quietly", "swap", "reorder"]
OFFER_CHANGES = [*UPDATES, *MOVES, "create anywhere"]
CONTACT_CHANGES = ["update quietly", "sign up", "sign up again", "remove", "import", "import of the day"]


@dataclass
class History:
    """An account and its changes.

    Attributes:
        statuses: The statuses of the initial records.
        during: For each run, the changes before a response, by the number of the request.
        faults: For each run, what happens to a response, by the number of the request.
        between: The changes before each run but the first.
        count: How `total` differs from the real one.
        hours: The precision of the times of records: the longer, the more ties.
    """

    statuses: Sequence[str]
    during: Sequence[Mapping[int, Changes]]
    faults: Sequence[Mapping[int, str]]
    between: Sequence[Changes]
    count: str = "exact"
    hours: int = 0


@dataclass
class Simulation:
    """Syncs of an account to a target."""

    account: SimulatedAccount
    listings: Sequence[str | None]
    size: int
    workers: int
    seed: int
    rows: dict[str, Record] = field(default_factory=dict)
    bookmark: str | None = None
    left: set[str] = field(default_factory=set)

    @property
    def has_contacts(self) -> bool:
        return self.size >= 20

    def time(self, hours: int, *, ago: timedelta = timedelta(0)) -> datetime:
        """Return the time of a record that is created now, or was some time ago."""
        time = self.account.now - ago
        return time - timedelta(hours=time.hour % hours, minutes=time.minute, seconds=time.second) if hours else time

    def change(self, kind: str, which: int, hours: int) -> None:
        """Change one record or the order of all records."""
        account = self.account
        records = account.records
        record = records[which % len(records)] if records else None
        kind, _, how = kind.partition(" ")
        edit = account.change if how == "quietly" else account.touch
        if kind == "create":
            account.create(which % (len(records) + 1) if how == "anywhere" else 0, time=self.time(hours))
        elif kind == "import":
            ago = timedelta(minutes=which * 10) if how else which * timedelta(hours=1)
            account.sign_up(self.time(hours, ago=ago))
        elif kind == "sign":
            account.sign_up(self.time(hours), record if how == "up again" else None)
        elif record is None:
            return
        elif kind == "update":
            edit(record)
        elif kind == "reorder":
            cut = which % len(records)
            records[:] = records[cut:][::-1] + records[:cut]
        elif kind == "restore":
            edit(record, status="active")
        else:
            self.left.add(record["id"])
            if kind == "remove":
                records.remove(record)
            else:
                edit(record, status="archived")
            if kind == "swap":
                account.create(time=self.time(hours))

    def read(self, threshold: str | None) -> VerifiedRead:
        source = AnyOrder(self.account.answer, self.workers, random.Random(self.seed))  # noqa: S311
        if not self.has_contacts:
            return VerifiedRead(self.listings, source, get_key, self.size)
        limit = threshold and str(datetime.fromisoformat(threshold) - DAY)
        return OrderedRead(
            self.listings, source, get_key, self.size, is_old=lambda record: bool(limit) and record["time"] < limit
        )

    def sync(self, history: History, during: Mapping[int, Changes], *, is_full: bool) -> VerifiedRead:
        """Sync as `TracklyStream` does, while the account changes, and check the property."""
        account, now = self.account, self.account.now
        first = account.requests
        replication_key = "time" if self.has_contacts else "updated_at"
        threshold = None if is_full else self.bookmark
        listed = [record for listing in self.listings for record in account.listed(listing)]
        wanted = {record["id"]: record["version" if threshold is None else "touched_version"] for record in listed}
        if self.has_contacts and threshold:
            wanted = {each["id"]: each["touched_version"] for each in listed if each["time"] >= threshold}
        self.left = set()

        def before_answer(number: int) -> None:
            for kind, which in during.get(number - first, ()):
                self.change(kind, which, history.hours)

        account.before_answer = before_answer
        read = self.read(threshold)
        emitted = [each.copy() for page in read for each in due(page.records, replication_key, threshold)]
        self.rows.update({record["id"]: record for record in emitted})
        if read.reason or read.errors:
            return read
        if emitted:
            latest = max(record[replication_key] for record in emitted)
            limit = str(now - CLOCK_TOLERANCE) if self.has_contacts else (now - CLOCK_TOLERANCE).isoformat()
            self.bookmark = max(min(latest, limit), self.bookmark or "")
        present = {record["id"] for record in account.records}
        if "archived" not in self.listings:
            present -= self.left
        for key in wanted.keys() & present:
            assert key in self.rows, f"{key} is missing"
            assert self.rows[key]["version"] >= wanted[key], f"{key} is stale"
        return read

    def check(self, history: History) -> VerifiedRead:
        """Check the property for all runs of a history; return the last read, of an account that no longer changes."""
        account = self.account
        account.count = COUNTS[history.count]
        account.ties = random.Random(self.seed) if history.hours else None  # noqa: S311
        account.now -= 3 * DAY
        for status in history.statuses:
            account.now += 3 * DAY / len(history.statuses)
            account.create(status=status, time=self.time(history.hours))
        for place, (during, faults, between) in enumerate(
            zip(history.during, history.faults, [(), *history.between], strict=False)
        ):
            account.now += timedelta(hours=2)
            for kind, which in between:
                self.change(kind, which, history.hours)
            account.faults = {account.requests + number: fault for number, fault in faults.items()}
            self.sync(history, during, is_full=place == 0)
        account.faults = {}
        self.sync(history, {}, is_full=False)
        return self.sync(history, {}, is_full=True)


COUNTS = {
    "exact": lambda total: total,
    "capped": lambda total: min(total, 40),
    "too low": lambda total: max(0, total - 3),
    "too high": lambda total: total + 3,
    "missing": lambda _: None,
}


BOTH = ("active", "active", "archived")
FAULTS = ("stale", "empty", "cut", "other size")
REQUESTS = 40


def random_history(choice: random.Random, kinds: Sequence[str], most: int, **more: Any) -> History:
    """Return a history with these kinds of changes and faults during the runs."""
    statuses, counts, faults, hours = (
        more.get(name, default)
        for name, default in (("statuses", ("active",)), ("counts", ("exact",)), ("faults", ()), ("hours", (0,)))
    )
    runs = range(3)

    def some_changes(number: int) -> Changes:
        return [(choice.choice(kinds), choice.randrange(most)) for _ in range(number)]

    busy = choice.choice([0.03, 0.1, 0.3])
    during = [
        {each: some_changes(choice.randint(1, 3)) for each in range(1, REQUESTS) if choice.random() < busy}
        for _ in runs
    ]
    return History(
        statuses=choice.choices(statuses, k=choice.randint(most // 2, most)),
        during=during,
        faults=[{choice.randint(1, 12): choice.choice(faults)} if faults else {} for _ in runs],
        between=[some_changes(choice.randint(0, most // 2)) for _ in runs],
        count=choice.choice(counts),
        hours=choice.choice(hours),
    )


checked = settings(
    max_examples=HISTORIES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SEEDS = given(seed=st.integers(0, 2**32))


def offers(seed: int, kinds: Sequence[str], listings: Sequence[str | None] = OFFERS, **more: Any) -> VerifiedRead:
    """Check a history of offers, and return the last read."""
    choice = random.Random(seed)  # noqa: S311
    history = random_history(choice, kinds, 14, **{"statuses": BOTH, **more})
    account = SimulatedAccount(**{name: more[name] for name in ("max_size", "ignores_filter") if name in more})
    return Simulation(account, listings, choice.choice([2, 3, 4]), choice.choice([1, 8]), seed).check(history)


def contacts(seed: int, kinds: Sequence[str] = CONTACT_CHANGES, **more: Any) -> VerifiedRead:
    """Check a history of contacts, and return the last read."""
    choice = random.Random(seed)  # noqa: S311
    history = random_history(choice, kinds, 130, **more)
    account = SimulatedAccount(max_size=more.get("max_size", 100))
    return Simulation(account, (None,), choice.randint(22, 30), choice.choice([1, 8]), seed).check(history)


@checked
@SEEDS
def test_offers(seed: int) -> None:
    assert offers(seed, OFFER_CHANGES).reason == ""


@checked
@SEEDS
def test_offers_with_faults(seed: int) -> None:
    assert offers(seed, OFFER_CHANGES, faults=FAULTS).reason == ""


@checked
@SEEDS
def test_offers_with_ties(seed: int) -> None:
    offers(seed, OFFER_CHANGES, hours=[24])


@checked
@SEEDS
def test_offers_with_too_high_a_count(seed: int) -> None:
    assert offers(seed, OFFER_CHANGES, counts=["too high"]).reason.endswith(" announced")


@checked
@SEEDS
def test_offers_without_a_usable_count(seed: int) -> None:
    assert offers(seed, OFFER_CHANGES, counts=["missing", "too low", "capped"]).reason == ""


@checked
@SEEDS
def test_offers_with_ignored_filter(seed: int) -> None:
    read = offers(seed, UPDATES, ignores_filter=True, statuses=("active",))
    assert read.reason == "the API ignored the filter status=archived"


@checked
@SEEDS
def test_offers_of_one_listing(seed: int) -> None:
    assert offers(seed, [*UPDATES, "create", "archive", "swap"], [None], faults=FAULTS).reason == ""


@checked
@SEEDS
def test_offers_of_a_capped_size(seed: int) -> None:
    assert offers(seed, OFFER_CHANGES, max_size=3).reason == ""


@checked
@SEEDS
def test_contacts(seed: int) -> None:
    assert contacts(seed).reason == ""


@checked
@SEEDS
def test_contacts_with_faults(seed: int) -> None:
    assert contacts(seed, faults=FAULTS).reason == ""


@checked
@SEEDS
def test_contacts_with_ties(seed: int) -> None:
    contacts(seed, [kind for kind in CONTACT_CHANGES if kind != "remove"], hours=[24, 6])


@checked
@SEEDS
def test_contacts_with_too_high_a_count(seed: int) -> None:
    assert contacts(seed, counts=["too high"]).reason.endswith(" announced")


@checked
@SEEDS
def test_contacts_without_a_usable_count(seed: int) -> None:
    assert contacts(seed, counts=["missing", "too low", "capped"]).reason == ""


@checked
@SEEDS
def test_contacts_of_a_capped_size(seed: int) -> None:
    assert contacts(seed, ["sign up", "update quietly"], max_size=20).reason == ""
