"""A simulated account for tests of the verified read: no HTTP, no SDK."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import msgspec

from tap_trackly.pagination import Page, PageError, Record, parse_page
from tap_trackly.prefetch import AHEAD_PER_WORKER
from tap_trackly.verified_read import Listing

DEFAULT = Listing()
ARCHIVED = Listing("archived")
CONTACTS = Listing(has_stable_order=True)

Wanted = tuple[Listing, int]


def get_key(record: Record) -> str:
    """Return the key of a record, as `records.key_getter` does."""
    if not record.get("id"):
        raise ValueError("field 'id' is missing or empty")
    return str(record["id"])


@dataclass
class SimulatedAccount:
    """An account that may change before each response.

    Attributes:
        records: All records, in the order of the listings.
        per_page: The number of records on a page; None for an endpoint without pagination.
        cap: The maximum of `total`.
        cut_short: By the number of a request, the number of records after which its response is truncated.
        in_both: The keys of records that are in both listings.
        before_answer: Called with the number of the request before each response; may change the account.
        now: The current time, one second later with each response.
        asked: The listing and page number of each request.
        created: The number of records that were ever created.
    """

    records: list[Record] = field(default_factory=list)
    per_page: int | None = 2
    cap: int | None = None
    cut_short: dict[int, int] = field(default_factory=dict)
    in_both: set[str] = field(default_factory=set)
    before_answer: Callable[[int], object] = lambda _: None
    now: datetime = datetime(2026, 3, 1, tzinfo=timezone.utc)
    asked: list[Wanted] = field(default_factory=list)
    created: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        """The number of requests so far."""
        return len(self.asked)

    def create(self, position: int = 0, status: str = "active") -> Record:
        """Create a record, by default before all others."""
        self.created += 1
        record: Record = {"id": f"record-{self.created}", "status": status, "version": 0}
        self.records.insert(position, record)
        self.touch(record)
        return record

    def fill(self, count: int, status: str = "active") -> SimulatedAccount:
        """Create several records."""
        for _ in range(count):
            self.create(status=status)
        return self

    def change(self, record: Record, **values: Any) -> None:
        """Change a record, but not its `updated_at`."""
        record.update(values, version=record["version"] + 1)

    def touch(self, record: Record, **values: Any) -> None:
        """Change a record and its `updated_at`."""
        self.change(record, **values, updated_at=self.now.isoformat())
        record["touched_version"] = record["version"]

    def listed(self, listing: Listing) -> list[Record]:
        """Return the records of a listing."""
        is_archived = listing.status == "archived"
        return [
            each for each in self.records if (each["status"] == "archived") == is_archived or self._is_doubled(each)
        ]

    def answer(self, wanted: Wanted) -> Page:
        """Respond to a request as the API does, and retry if the page is invalid."""
        listing, number = wanted
        with self._lock:
            self.asked.append(wanted)
            self.now += timedelta(seconds=1)
            self.before_answer(self.requests)
            records = self.listed(listing)
            total = len(records) if self.cap is None else min(len(records), self.cap)
            answer: dict[str, Any] = {}
            if self.per_page is not None:
                pages = -(-total // self.per_page)
                answer["pagination"] = {"page": number, "per_page": self.per_page, "total": total, "total_pages": pages}
                records = records[(number - 1) * self.per_page : number * self.per_page]
            answer["records"] = records[: self.cut_short.get(self.requests)]
            body = msgspec.json.encode(answer)
        try:
            return parse_page(body, "records", number, paginated=self.per_page is not None)
        except PageError:
            return self.answer(wanted)

    def _is_doubled(self, record: Record) -> bool:
        return record["id"] in self.in_both


class Fetcher(Protocol):
    """Fetches pages: `Prefetch`, `AnyOrder` or `OneByOne`."""

    def get(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:
        """Return a page; the upcoming ones may be fetched ahead."""

    def discard(self) -> None:
        """Discard the pages that were fetched ahead."""


class OneByOne:
    """Fetches one page at a time, without prefetching."""

    def __init__(self, fetch: Callable[[Wanted], Page]) -> None:
        self._fetch = fetch

    def get(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:  # noqa: ARG002
        """Return a page."""
        return self._fetch(wanted)

    def discard(self) -> None:
        """Do nothing."""


class AnyOrder:
    """Has as many requests in flight as there are workers, which get their responses in random order.

    With one worker, responses are in the order of the requests.
    """

    def __init__(self, fetch: Callable[[Wanted], Page], workers: int, choice: random.Random) -> None:
        self._fetch = fetch
        self._workers = workers
        self._choice = choice
        self._waiting: list[Wanted] = []
        self._answers: dict[Wanted, Page] = {}

    def get(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:
        """Return a page; the upcoming ones may be fetched before it, with it or later."""
        for each in [wanted, *upcoming][: self._workers * AHEAD_PER_WORKER]:
            if each not in self._waiting and each not in self._answers:
                self._waiting.append(each)
        while wanted not in self._answers:
            self._answer_one()
        while self._waiting and self._choice.random() < 0.5:
            self._answer_one()
        return self._answers.pop(wanted)

    def discard(self) -> None:
        """Discard all requests and pages."""
        self._waiting.clear()
        self._answers.clear()

    def _answer_one(self) -> None:
        in_flight = self._waiting[: self._workers]
        chosen = self._choice.choice(in_flight)
        self._waiting.remove(chosen)
        self._answers[chosen] = self._fetch(chosen)


@dataclass
class SimulatedSource:
    """The pages of an account, requested as `TracklyStream` does."""

    listings: Sequence[Listing]
    fetcher: Fetcher
    is_closing: bool = False

    def pages(self, listing: Listing, start: int) -> Generator[Page, None, None]:
        """Yield the pages of a listing, starting at a page number."""
        first_pages = [(other, 1) for other in self.listings[self.listings.index(listing) + 1 :]]
        number, last_number = start, start
        while True:
            rest = [(listing, upcoming) for upcoming in range(number + 1, last_number + 1)]
            page = self.fetcher.get((listing, number), [*rest, *first_pages])
            yield page
            if not page.has_next:
                return
            number, last_number = page.number + 1, page.last_number

    def request(self, wanted: Sequence[Wanted]) -> Sequence[Page]:
        """Request pages anew, and return them."""
        self.fetcher.discard()
        self.is_closing = True
        pages = [self.fetcher.get(each, wanted[place:]) for place, each in enumerate(wanted)]
        self.is_closing = False
        return pages

    def discard_prefetched(self) -> None:
        """Discard the pages that were fetched ahead."""
        self.fetcher.discard()
