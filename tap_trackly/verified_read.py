"""Reads all listings of a stream and verifies that no record was missed.

Pages are offsets into a listing, so records shift from page to page when the listing changes while it is
read. Each page is checked for continuity with the page before it, and at the end the edges of each listing
are requested again. Independent of Singer and HTTP: pages come from a `Source`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from tap_trackly.pagination import Page, Record

MAX_PASSES = 3
# After as many returns to an earlier page as there are pages, plus some for short listings, gaps are no
# longer repaired, and the read continues unverified.
SPARE_RETURNS = 20
# A listing may grow, and its count may be capped, but an endless listing must not be read forever.
MAX_UNANNOUNCED_PAGES = 1000
MAX_DEPTH = 100  # levels of nesting that every target can store

_encode = msgspec.json.Encoder(decimal_format="number").encode


class RecordError(ValueError):
    """A record cannot be read; the message names listing, page and position."""


class _PassFailed(Exception):  # noqa: N818 - not an error: another pass may follow
    """Records may have been missed in this pass."""


@dataclass(frozen=True)
class Listing:
    """A list of records that the API can return.

    Attributes:
        status: The `status` filter; without it, the API chooses the records.
        has_stable_order: Whether the relative order of the records that stay in it never changes.
    """

    status: str | None = None
    has_stable_order: bool = False

    def __str__(self) -> str:
        return "default listing" if self.status is None else f"listing status={self.status}"


class Source(Protocol):
    """Where pages come from."""

    def pages(self, listing: Listing, start: int) -> Iterator[Page]:
        """Return the pages of a listing, starting at a page number; some may be prefetched."""

    def request(self, wanted: Sequence[tuple[Listing, int]]) -> Sequence[Page]:
        """Request pages anew and return them, in the given order."""

    def discard_prefetched(self) -> None:
        """Discard prefetched pages."""


class PageChanges(NamedTuple):
    """The new and changed records of a page.

    Attributes:
        page: The page.
        new: The records that were read for the first time.
        changed: The records that were read before in another state.
    """

    page: Page
    new: list[Record]
    changed: list[Record]


class VerifiedRead:
    """A read of listings that together contain all records.

    Iterating yields the new and changed records of each page. A record that changes during the read is yielded
    again, so the last one yielded is its latest state.

    Args:
        listings: The listings. All have a stable order, or none has.
        source: Returns their pages.
        get_key: Returns the key of a record, or raises ValueError with the reason if it has no valid one.
        remembered_pages: For a stable order, the minimum number of recent pages to remember.

    Attributes:
        passes: The number of passes, including the current one.
        pages: The number of pages read, without the closing check.
        records: The number of different records read; for a stable order, in this pass.
        is_verified: Whether no record can have been missed.
        duplicates: The keys that were read more than once in this pass. In a verified read, the account itself
            has duplicates.
    """

    def __init__(
        self, listings: Sequence[Listing], source: Source, get_key: Callable[[Record], Any], remembered_pages: int
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
        # The latest state of each record, by key: of recent records, older ones and the first. For a stable
        # order, others are forgotten; for an unknown order, all are recent.
        self._memory: tuple[dict[int, int], ...] = ({}, {}, {})
        self._keys: set[int] = set()  # of this pass, for an unknown order
        self._trace: list[int] = []  # a hash of each page of this pass, for an unknown order
        self._has_gap = False
        self._returns = 0  # to an earlier page, in all passes

    @property
    def announced(self) -> int:
        """The number of records in the listings, by the latest counts of the API."""
        return sum(read.announced for read in self._reads)

    def __iter__(self) -> Iterator[PageChanges]:
        """Read the listings until a pass is verified or a limit is reached.

        Raises:
            RecordError: If a record has no valid key or is nested too deeply.
        """
        while self.passes < MAX_PASSES and not (self.is_verified or self._has_gap):
            yield from self._read_pass()

    def _read_pass(self) -> Iterator[PageChanges]:
        earlier_trace = self._trace
        self.passes += 1
        self.duplicates, self._keys, self._trace = [], set(), []
        if self._is_stable:
            self._memory, self.records = ({}, {}, {}), 0
        self._reads = [_ListingRead(read.listing, read.announced) for read in self._reads]
        unfinished = [(read, 1) for read in self._reads]
        try:
            while unfinished:
                for read, start in unfinished:
                    yield from self._read_listing(read, start)
                unfinished = [] if self._has_gap else (yield from self._closing_check())
            # If a second pass finds the same, no record has moved.
            must_repeat = self.duplicates or any(read.last.end > read.last.total for read in self._reads)
            self.is_verified = not self._has_gap and (not must_repeat or self._trace == earlier_trace)
        except _PassFailed:
            self._source.discard_prefetched()

    def _read_listing(self, read: _ListingRead, start: int) -> Iterator[PageChanges]:
        """Read a listing from a page on; if records may be missing between two pages, go back or start over."""
        pages = self._source.pages(read.listing, start)
        while page := next(pages, None):
            identities = self._identify(read, page)
            keys = {key for key, _ in identities}
            self._check_progress(read, page, keys)
            if not self._is_continuous(read, page, keys):
                if self._may_go_back(read, page):
                    self._returns += 1
                    self._source.discard_prefetched()
                    pages = self._source.pages(read.listing, page.number - 1)
                    continue
                self._start_over()
            first = keys if page.number == 1 else read.edges[1]
            last = {page.number + 1: set()} if page.is_full else {page.number: keys}
            read.last, read.edges = page, {1: first, **last}
            if not self._is_stable:
                self._trace_page(page, identities)
            self.pages += 1
            yield self._changes(page, identities)
        if read.last.end < read.last.total:
            self._start_over()

    def _check_progress(self, read: _ListingRead, page: Page, keys: set[int]) -> None:
        """Fail a pass that would not end, or that reads the first page again: the API ignores the page number."""
        if page.number > read.announced_pages + MAX_UNANNOUNCED_PAGES:
            self._has_gap = True
            raise _PassFailed
        if page.number > 1 and page.count > 1 and keys == read.edges[1]:
            raise _PassFailed

    def _is_continuous(self, read: _ListingRead, page: Page, keys: set[int]) -> bool:
        if page.number == 1 or (page.number == read.last.number + 1 and page.total == read.last.total):
            return True
        return self._is_stable and any(key in known for known in self._memory for key in keys)

    def _may_go_back(self, read: _ListingRead, page: Page) -> bool:
        return self._is_stable and self._may_repair and read.last.number - page.number < self._remembered_pages

    def _start_over(self) -> None:
        """Start a new pass if allowed; otherwise continue unverified."""
        if self.passes < MAX_PASSES and self._may_repair:
            raise _PassFailed
        self._has_gap = True

    @property
    def _may_repair(self) -> bool:
        return self._returns < sum(read.announced_pages for read in self._reads) + SPARE_RETURNS

    def _trace_page(self, page: Page, identities: _Identities) -> None:
        self._trace.append(hash((page.number, page.total, *(key for key, _ in identities))))
        for (key, _), record in zip(identities, page.records, strict=True):
            if key in self._keys:
                self.duplicates.append(self._get_key(record))
            self._keys.add(key)

    def _closing_check(self) -> Generator[PageChanges, None, list[tuple[_ListingRead, int]]]:
        """Request the edges of each listing again.

        Returns:
            The listings that have more pages, and the number of the next page.
        """
        wanted = [(read, number) for read in self._reads for number in read.edges]
        pages = self._source.request([(read.listing, number) for read, number in wanted])
        unfinished = []
        has_changed = False
        for (read, number), page in zip(wanted, pages, strict=True):
            identities = self._identify(read, page)
            if number > read.last.number and page.records:
                unfinished.append((read, number))
                continue
            yield self._changes(page, identities)
            has_changed |= page.total != read.last.total or {key for key, _ in identities} != read.edges[number]
        if has_changed and not self._is_stable:
            raise _PassFailed
        return unfinished

    def _identify(self, read: _ListingRead, page: Page) -> _Identities:
        """Return a hash of the key and a digest of the state of each record.

        Raises:
            RecordError: If a record has no valid key or is nested too deeply.
        """
        read.announced = page.total
        read.announced_pages = read.announced_pages or page.last_number
        identities = []
        for position, record in enumerate(page.records, start=1):
            try:
                identities.append((hash(self._get_key(record)), _digest(record)))
            except ValueError as error:
                raise RecordError(f"{read.listing}, page {page.number}, record {position}: {error}") from None
        return identities

    def _changes(self, page: Page, identities: _Identities) -> PageChanges:
        changes = PageChanges(page, [], [])
        recent, older, first = self._memory
        for (key, digest), record in zip(identities, page.records, strict=True):
            before = recent.get(key, older.get(key, first.get(key)))
            recent[key] = digest
            if before is None:
                changes.new.append(record)
            elif before != digest:
                changes.changed.append(record)
        if self._is_stable and len(recent) > self._remembered_pages * page.per_page:
            self._memory = ({}, recent, first or recent)
        self.records += len(changes.new)
        return changes


_Identities = list[tuple[int, int]]


@dataclass(eq=False)
class _ListingRead:
    """A listing in this pass.

    Attributes:
        listing: The listing.
        announced: The number of its records, by the latest response.
        announced_pages: The number of its pages, by the first response.
        last: The last page that was read.
        edges: The keys on the first and last page, by page number; for a full last page, the next one without keys.
    """

    listing: Listing
    announced: int = 0
    announced_pages: int = 0
    last: Page = field(init=False)
    edges: dict[int, set[int]] = field(init=False)


def _digest(record: Record) -> int:
    """Return a digest of the state of a record, valid within this process.

    Raises:
        ValueError: If the record is nested too deeply.
    """
    try:
        text = _encode(record)
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
