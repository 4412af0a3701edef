"""Reads all listings of a stream and verifies that no record was missed.

Pages are offsets into a listing, so records shift from page to page when the listing changes while it is
read. Each page is checked for continuity with the page before it, and at the end the edges of each listing
are requested again. Knows neither Singer nor HTTP: pages come from a `Source`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from tap_trackly.pagination import Page, Record

MAX_PASSES = 3
# After this many requests per announced page, and some more for short listings, gaps are no longer repaired:
# the read goes on to the end, unverified.
REPAIRING_REQUESTS_PER_PAGE = 2
SPARE_REQUESTS = 40
# A listing may grow, and its count may be capped, but one without an end must not be read for ever.
MAX_UNANNOUNCED_PAGES = 1000
MAX_DEPTH = 100  # levels of nesting that any target can store

_encoder = msgspec.json.Encoder(decimal_format="number")


class RecordError(ValueError):
    """A record cannot be read; the message names listing, page and position."""


class _PassFailed(Exception):  # noqa: N818 - not an error: the listings are read again
    """Records may have been missed in this pass."""


class _EndlessListing(Exception):  # noqa: N818 - not an error: the read ends unverified
    """A listing has no end."""


@dataclass(frozen=True)
class Listing:
    """A list of records that the API can return.

    Attributes:
        status: The filter that it is read with; without one the API chooses which records it lists.
        has_stable_order: Whether the relative order of the records that stay in it never changes.
    """

    status: str | None = None
    has_stable_order: bool = False

    def __str__(self) -> str:
        return "default listing" if self.status is None else f"listing status={self.status}"


class Source(Protocol):
    """Where pages come from."""

    def pages(self, listing: Listing, start: int) -> Generator[Page, None, None]:
        """Return the pages of a listing from a number on; some may have been requested ahead."""

    def request(self, wanted: Sequence[tuple[Listing, int]]) -> Sequence[Page]:
        """Return pages that are requested from now on, in the order in which they are wanted."""

    def discard_prefetched(self) -> None:
        """Forget the pages that were requested ahead."""


class PageNews(NamedTuple):
    """What a page brought.

    Attributes:
        page: The page.
        new: Its records that this read had not seen.
        changed: Its records that this read had seen in another state.
    """

    page: Page
    new: list[Record]
    changed: list[Record]


class VerifiedRead:
    """A read of listings that together contain all records.

    Iterating over it yields what each page brought. A record that is seen to change is yielded again, so
    the last state that is yielded of a record is the latest that was seen.

    Args:
        listings: The listings, all of a stable order or all of an unknown one.
        source: Where their pages come from.
        get_key: Returns the key of a record, or raises ValueError with the reason if it has no valid one.
        remembered_pages: For a stable order, how many of the latest pages are remembered at least.

    Attributes:
        passes: How often the listings have been read, this time included.
        pages: How many pages have been read, without the closing check.
        records: How many different records have been read, for a stable order in this pass.
        is_verified: Whether no record can have been missed.
        duplicates: The keys that came more than once in this pass. Where the read is verified, the data
            itself contains them more than once.
    """

    def __init__(
        self,
        listings: Sequence[Listing],
        source: Source,
        get_key: Callable[[Record], Any],
        remembered_pages: int,
    ) -> None:
        self.passes = 0
        self.pages = 0
        self.records = 0
        self.is_verified = False
        self.duplicates: list[Any] = []
        self._source = source
        self._get_key = get_key
        self._remembered_pages = remembered_pages
        self._reads = [_ListingRead(listing) for listing in listings]
        self._is_stable = all(listing.has_stable_order for listing in listings)
        self._memory = _Memory()
        self._keys: set[int] = set()  # of this pass, for an unknown order
        self._trace: list[int] = []  # what each page of this pass held, for an unknown order
        self._needs_same_trace = False
        self._has_gap = False
        self._requests = 0

    @property
    def announced(self) -> int:
        """How many records the listings have, by the latest counts of the API."""
        return sum(read.announced for read in self._reads)

    def __iter__(self) -> Iterator[PageNews]:
        """Read the listings until a pass is verified or a limit is reached.

        Raises:
            RecordError: If a record has no valid key or is nested too deeply.
        """
        try:
            while self.passes < MAX_PASSES and not (self.is_verified or self._has_gap):
                yield from self._read_pass()
        except _EndlessListing:
            return

    def _read_pass(self) -> Iterator[PageNews]:
        earlier_trace = self._trace
        self.passes += 1
        self.duplicates, self._keys, self._trace = [], set(), []
        self._needs_same_trace = False
        if self._is_stable:
            self._memory, self.records = _Memory(), 0
        for read in self._reads:
            read.announced_pages = 0
        try:
            for read in self._reads:
                yield from self._read_listing(read, start=1)
            if not self._has_gap:
                yield from self._closing_check()
            is_same = not self._needs_same_trace or self._trace == earlier_trace
            self.is_verified = is_same and not self._has_gap
        except _PassFailed:
            self._source.discard_prefetched()

    def _read_listing(self, read: _ListingRead, start: int) -> Iterator[PageNews]:
        while start:
            start = yield from self._read_pages(read, start)
        if read.is_cut_short:
            self._start_over()

    def _read_pages(self, read: _ListingRead, start: int) -> Generator[PageNews, None, int]:
        """Read a listing from a page on.

        Returns:
            The page to go back to, because records may lie between two pages; 0 at the end of the listing.
        """
        with closing(self._source.pages(read.listing, start)) as pages:
            for page in pages:
                identities = self._identify(read, page)
                if page.number > 1 and page.count > 1 and read.has_first_page(identities):
                    raise _PassFailed  # what looks like duplicates is an API that ignores the page number
                if not self._is_continuous(read, page, identities):
                    read.announced = page.total
                    if self._may_go_back(read, page):
                        read.total = None
                        self._source.discard_prefetched()
                        return page.number - 1
                    self._start_over()
                if not self._is_stable:
                    self._trace_page(page, identities)
                read.add(page, identities)
                self.pages += 1
                yield self._news(page, identities)
        return 0

    def _is_continuous(self, read: _ListingRead, page: Page, identities: _Identities) -> bool:
        if page.number == 1 or page.total == read.total:
            return True
        return self._is_stable and any(key in self._memory for key, _ in identities)

    def _may_go_back(self, read: _ListingRead, page: Page) -> bool:
        return self._is_stable and self._may_repair and read.last_number - page.number < self._remembered_pages

    def _start_over(self) -> None:
        """Begin a new pass if there may be one; else the read goes on to the end, unverified."""
        if self.passes < MAX_PASSES and self._may_repair:
            raise _PassFailed
        self._has_gap = True

    @property
    def _may_repair(self) -> bool:
        return self._requests <= REPAIRING_REQUESTS_PER_PAGE * self._most_pages + SPARE_REQUESTS

    @property
    def _most_pages(self) -> int:
        return sum(read.most_pages for read in self._reads)

    def _trace_page(self, page: Page, identities: _Identities) -> None:
        """Note duplicates and records beyond the count: a second pass that finds the same shows that none moved."""
        self._trace.append(hash((page.number, page.total, *(key for key, _ in identities))))
        for (key, _), record in zip(identities, page.records, strict=True):
            if key in self._keys:
                self.duplicates.append(self._get_key(record))
            self._keys.add(key)
        if self.duplicates or page.end > page.total:
            self._needs_same_trace = True

    def _closing_check(self) -> Iterator[PageNews]:
        """Request the edges of each listing again; read on where a listing goes on after its last page."""
        unfinished = self._reads
        while unfinished:
            wanted = [(read, number) for read in self._reads for number in read.edges]
            pages = self._source.request([(read.listing, number) for read, number in wanted])
            unfinished = []
            has_changed = False
            for (read, number), page in zip(wanted, pages, strict=True):
                identities = self._identify(read, page)
                is_known = self._is_stable and not page.is_full and all(key in self._memory for key, _ in identities)
                if number > read.last_number and page.records and not is_known:
                    unfinished.append(read)
                    continue
                yield self._news(page, identities)
                if not self._is_stable and not read.agrees(page, identities):
                    read.announced, has_changed = page.total, True
            if has_changed:
                raise _PassFailed
            for read in unfinished:
                yield from self._read_listing(read, start=read.last_number + 1)

    def _identify(self, read: _ListingRead, page: Page) -> _Identities:
        """Return a number for the key of each record and one for its state.

        Raises:
            RecordError: If a record has no valid key or is nested too deeply.
        """
        self._count_request(read, page)
        identities = []
        for position, record in enumerate(page.records, start=1):
            try:
                identities.append((hash(self._get_key(record)), _digest(record)))
            except ValueError as error:
                raise RecordError(f"{read.listing}, page {page.number}, record {position}: {error}") from None
        return identities

    def _count_request(self, read: _ListingRead, page: Page) -> None:
        self._requests += 1
        read.announced_pages = read.announced_pages or page.last_number
        read.most_pages = max(read.most_pages, read.announced_pages, page.number)
        if page.number > read.announced_pages + MAX_UNANNOUNCED_PAGES:
            raise _EndlessListing

    def _news(self, page: Page, identities: _Identities) -> PageNews:
        news = PageNews(page, [], [])
        for (key, digest), record in zip(identities, page.records, strict=True):
            before = self._memory.replace(key, digest)
            if before is None:
                news.new.append(record)
            elif before != digest:
                news.changed.append(record)
        if self._is_stable:
            self._memory.forget_old(self._remembered_pages * page.per_page)
        self.records += len(news.new)
        return news


_Identities = list[tuple[int, int]]


class _ListingRead:
    """What is known of a listing in this pass: its count, and the keys on its first and last page."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.total: int | None = None  # of the latest page; None where a gap was found
        self.announced = 0
        self.announced_pages = 0  # by the first answer
        self.most_pages = 1  # that were announced or read
        self.last_number = 1
        self.is_cut_short = False
        self._first: set[int] = set()
        self._last: set[int] = set()
        self._last_is_full = False

    def add(self, page: Page, identities: _Identities) -> None:
        """Add the next page."""
        keys = {key for key, _ in identities}
        if page.number == 1:
            self._first = keys
        self.total = self.announced = page.total
        self.last_number, self._last, self._last_is_full = page.number, keys, page.is_full
        self.is_cut_short = page.end < page.total

    @property
    def edges(self) -> list[int]:
        """The numbers of the first page and of the last, or of the page after a full one, which must be empty."""
        return sorted({1, self.last_number + self._last_is_full})

    def has_first_page(self, identities: _Identities) -> bool:
        """Whether these are the records of the first page."""
        return {key for key, _ in identities} == self._first

    def agrees(self, page: Page, identities: _Identities) -> bool:
        """Whether a page that was requested again has the records that it had."""
        was = {1: self._first, self.last_number: self._last}.get(page.number, set())
        return page.total == self.total and {key for key, _ in identities} == was


class _Memory:
    """The latest state of each record, or of the most recent records."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._first: dict[int, int] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._recent or key in self._older or key in self._first

    def replace(self, key: int, digest: int) -> int | None:
        """Remember the state of a record and return the one before."""
        before = self._recent.get(key)
        if before is None:
            before = self._older.get(key, self._first.get(key))
        self._recent[key] = digest
        return before

    def forget_old(self, limit: int) -> None:
        """Forget all but the first records and the most recent, at least this many of each."""
        if len(self._recent) > limit:
            self._first = self._first or self._recent
            self._older, self._recent = self._recent, {}


def _digest(record: Record) -> int:
    """Return a number that tells one state of a record from another within this process.

    Raises:
        ValueError: If the record is nested too deeply.
    """
    try:
        text = _encoder.encode(record)
    except UnicodeEncodeError:  # a lone surrogate
        text = repr(record).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _is_deeper(record, MAX_DEPTH):
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return hash(text)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)
