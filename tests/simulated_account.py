"""A simulated account for tests of the verified read: no HTTP, no SDK."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Any

from tap_trackly.pagination import Page, PageResponse, Record, TracklyPaginator, parse_page
from tap_trackly.prefetch import PageSource, Wanted

_AHEAD_PER_WORKER = 2


def get_key(record: Record) -> int:
    """Return a hash of the key of a record."""
    return hash(record["id"])


@dataclass
class SimulatedAccount:
    """An account that may change before each response.

    Attributes:
        records: All records, in the order of the listings.
        max_size: The maximum `per_page`.
        count: Returns the announced `total` for the real one; None if it is missing.
        ties: If set, the order of records with an equal `time` differs from request to request.
        ignores_filter: Whether the `status` filter is ignored.
        faults: By the number of a request, what happens to its answer; see `_spoil`.
        before_answer: Called with the number of the request before each response; may change the account.
        now: The current time, one second later with each response.
        asked: All requests.
        created: The number of records that were ever created.
    """

    records: list[Record] = field(default_factory=list)
    max_size: int = 100
    count: Callable[[int], int | None] = lambda total: total
    ties: random.Random | None = None
    ignores_filter: bool = False
    faults: dict[int, str] = field(default_factory=dict)
    before_answer: Callable[[int], object] = lambda _: None
    now: datetime = datetime(2026, 3, 1, tzinfo=timezone.utc)
    asked: list[Wanted] = field(default_factory=list)
    created: int = 0

    @property
    def requests(self) -> int:
        """The number of requests so far."""
        return len(self.asked)

    def create(self, place: int = 0, status: str = "active", time: datetime | None = None) -> Record:
        """Create a record, by default before all others."""
        self.created += 1
        record: Record = {"id": f"r{self.created}", "status": status, "version": 0, "time": str(time or self.now)}
        self.records.insert(place, record)
        self.touch(record)
        return record

    def fill(self, count: int, status: str = "active") -> SimulatedAccount:
        """Create several records."""
        for _ in range(count):
            self.create(status=status)
        return self

    def sign_up(self, time: datetime, record: Record | None = None) -> None:
        """Put a new record, or one that signs up again, where its time belongs: the latest time first."""
        if record:
            self.records.remove(record)
        place = next((i for i, each in enumerate(self.records) if each["time"] <= str(time)), len(self.records))
        if record:
            record["time"] = str(time)
            self.records.insert(place, record)
            self.touch(record)
        else:
            self.create(place, time=time)

    def change(self, record: Record, **values: Any) -> None:
        """Change a record, but not its `updated_at`."""
        record.update(values, version=record["version"] + 1)

    def touch(self, record: Record, **values: Any) -> None:
        """Change a record and its `updated_at`."""
        self.change(record, **values, updated_at=self.now.isoformat())
        record["touched_version"] = record["version"]

    def listed(self, listing: str | None) -> list[Record]:
        """Return the records of a listing."""
        is_archived = listing == "archived" and not self.ignores_filter
        found = [each for each in self.records if (each["status"] == "archived") == is_archived]
        if self.ties is None:
            return found
        groups = [[*group] for _, group in groupby(found, lambda each: each["time"])]
        return [each for group in groups for each in self.ties.sample(group, len(group))]

    def answer(self, wanted: Wanted) -> Page:
        """Respond to a request as the API does."""
        self.asked.append(wanted)
        self.now += timedelta(seconds=1)
        self.before_answer(self.requests)
        fault = self.faults.get(self.requests, "")
        size = min(wanted.size, self.max_size)
        size = max(1, size // 2) if fault == "other size" else size
        listed = self.listed(wanted.listing)
        total = self.count(len(listed))
        pages = None if total is None else -(-total // size)
        start = (wanted.number - 1) * size
        if fault == "stale":  # what another server answered to another request
            start = self.requests * 7919 % max(1, len(listed))
        shown = listed[start : start + size]
        shown = {"empty": [], "cut": shown[: len(shown) // 2]}.get(fault, shown)
        hints = {"page": wanted.number, "per_page": size, "total": total, "total_pages": pages}
        body = json.dumps({"records": shown, "pagination": hints}).encode()
        return parse_page(body, "records", wanted.number, wanted.size)

    def fetch(self, wanted: Wanted) -> Page:
        """Respond to a request as the API does."""
        return self.answer(wanted)


class AnyOrder(PageSource):
    """A source of pages that requests as `PageSource` does, and gets the responses of its workers in random order."""

    def __init__(self, fetch: Callable[[Wanted], Page], workers: int, choice: random.Random) -> None:
        self._respond = fetch
        self._workers = workers
        self._choice = choice
        self._waiting: list[Wanted] = []
        self._pages: dict[Wanted, Page] = {}

    def pages(self, listing: str | None, size: int, following: Sequence[str | None] = ()) -> Iterator[Page]:
        """Yield the pages of a listing, and fetch the first pages of the following listings meanwhile."""
        paginator = TracklyPaginator(start_value=1)
        number, last_number = 1, 0
        while not paginator.finished:
            rest = [Wanted(listing, each, size) for each in range(number + 1, min(number + 40, last_number) + 1)]
            page = self.page(Wanted(listing, number, size), [*rest, *(Wanted(each, 1, size) for each in following)])
            yield page
            paginator.advance(PageResponse(page))
            number, last_number = paginator.current_value, max(last_number, page.last_number)

    def page(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:
        """Return a page; the upcoming ones may be fetched before it, with it or later."""
        for each in [wanted, *upcoming][: self._workers * _AHEAD_PER_WORKER]:
            if each not in self._waiting and each not in self._pages:
                self._waiting.append(each)
        while wanted not in self._pages:
            self._answer_one()
        while self._waiting and self._choice.random() < 0.5:
            self._answer_one()
        return self._pages.pop(wanted)

    def discard(self) -> None:
        """Discard all requests and pages."""
        self._waiting.clear()
        self._pages.clear()

    def _answer_one(self) -> None:
        chosen = self._choice.choice(self._waiting[: self._workers])
        self._waiting.remove(chosen)
        page = self._respond(chosen)
        self._pages[chosen] = self._respond(chosen) if page.doubt else page
