"""Reads all records of a stream, and decides whether records may be missing.

Pages are offsets into a listing, so records move from page to page when the listing changes while it is read.
Independent of Singer and HTTP: pages come from a `PageSource`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec
from typing_extensions import override

from tap_trackly.pagination import ListingError, Page, Record
from tap_trackly.prefetch import PageSource, Wanted

MAX_PASSES = 3
# A listing may grow, and its count may be capped, but an endless listing must not be read forever.
_MAX_UNANNOUNCED_PAGES = 1000
# An ordered read goes back at most as often as there are pages, plus this often. Then it continues unverified.
_SPARE_RETURNS = 20
# How many pages of recent records an ordered read remembers.
_REMEMBERED_PAGES = 32
# With smaller pages, there are too few sizes to choose from for pages that overlap.
_SMALLEST_OVERLAPPING_SIZE = 22
# How many of the announced pages are planned ahead: twice the maximum of `concurrency`.
_LOOK_AHEAD = 64
_CHANGING = "the listing kept changing"
_ENDLESS = "the listing does not end"
_NOT_ANNOUNCED = "the number of records is not announced"

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Changes(NamedTuple):
    """The new and changed records of a page.

    Attributes:
        listing: The listing.
        page: The page.
        records: Those of its records that were not yet read, or were read in another state.
    """

    listing: str | None
    page: Page
    records: list[Record]

    def place(self, record: Record) -> int:
        """Return the position of one of the records on the page, from 1."""
        records = [*self.page.records, *self.page.earlier]
        return next(place for place, each in enumerate(records, start=1) if each is record)


class _Seen:
    """What one pass saw of a listing.

    Attributes:
        keys: The keys of its records; empty for a pass in overlapping pages, whose keys are in `known`.
        known: The same, with those of earlier passes if nothing moved.
        total: The announced number of records, by the latest page.
        edges: The keys on the first and the last page, by the number of the page.
        has_moved: Whether records moved between its pages.
        gap: Why records are missing; "" if none are.
    """

    def __init__(self) -> None:
        self.keys: set[int] = set()
        self.known: set[int] | _Keys = self.keys
        self.total: int | None = None
        self.edges: dict[int, set[int]] = {}
        self.has_moved = False
        self.gap = ""

    def judge(self, before: _Seen | None, others: Sequence[set[int]]) -> str:
        """Return why this pass does not prove that all records were read; "" if it does.

        Args:
            before: What the pass before saw, if nothing moved in it.
            others: The keys of the other listings.
        """
        # While nothing moves, records that one pass missed may be among those of another one.
        if before and before.total == self.total:
            self.known = self.keys | {*before.known}.difference(*others)
        if self.gap:
            return self.gap
        count = len(self.known)
        if count < (self.total or 0):
            return f"{count} records read, {self.total} announced"
        if self.has_moved:
            return _CHANGING
        is_repeated = before is not None and before.keys == self.keys
        return "" if count == self.total or is_repeated else _NOT_ANNOUNCED


class VerifiedRead:
    """A read of listings that together contain all records, in any order.

    Iterating yields the new and changed records of each page; the last state that is yielded of a record is its
    latest. A pass over all listings is verified if nothing moved while it was read, and each listing gave as many
    different records as it announced, or, without a usable count, the same records in two passes.

    Args:
        listings: The listings.
        source: Returns their pages.
        get_key: Returns the key of a record.
        size: The page size.

    Attributes:
        passes: The number of passes, including the current one.
        pages: The number of pages read.
        records: The number of different records read.
        reason: Why records may be missing; "" if none can be.
        errors: The errors of listings that could not be read.
    """

    def __init__(
        self, listings: Sequence[str | None], source: PageSource, get_key: Callable[[Record], Any], size: int
    ) -> None:
        self.passes = self.pages = self.records = 0
        self.reason = _CHANGING
        self.errors: list[ListingError] = []
        self._listings = listings
        self._source = source
        self._get_key = get_key
        self._size = size
        self._states: dict[int, int] = {}
        self._totals: dict[str | None, int] = {}
        self._passed: dict[str | None, _Seen] = {}

    @property
    def announced(self) -> int:
        """The number of records in the listings that were begun, according to the API."""
        return sum(self._totals.values())

    def __iter__(self) -> Iterator[Changes]:
        """Read the listings until a pass is verified or another one cannot help, with at most `MAX_PASSES` passes."""
        can_help = True
        while self.reason and can_help and self.passes < MAX_PASSES and not self.errors:
            self.passes += 1
            can_help = yield from self._read_pass()
            # With pages of another size, records without a fixed place in the order land on other pages.
            self._size = max(1, self._size * 97 // 100)
            self._source.discard()

    def _read_pass(self) -> Generator[Changes, None, bool]:
        """Read all listings once, and set `reason`.

        Returns:
            Whether another pass may find more.
        """
        previous, before = self._passed, {} if self._has_moved else self._passed
        self._passed = {listing: _Seen() for listing in self._listings}
        known = self.records
        for place, listing in enumerate(self._listings, start=1):
            try:
                yield from self._read_listing(listing, self._listings[place:])
            except ListingError as error:
                self.errors.append(error)
        reasons = [
            seen.judge(before.get(listing), [other.keys for other in self._passed.values() if other is not seen])
            for listing, seen in self._passed.items()
        ]
        self.reason = next(filter(None, reasons), "") or self._compare(previous)
        if not self.reason and not self.errors:
            yield from self._check_edges()
            self.reason = _CHANGING if self._has_moved else ""
        can_help = self.reason == _CHANGING or self._has_moved or self.records > known or self.passes == 1
        return can_help and self.reason != _ENDLESS

    def _compare(self, previous: Mapping[str | None, _Seen]) -> str:
        """Return why records of earlier passes may be missing in this one, for example on a server that lags behind."""
        before, now = ([seen.keys for seen in each.values()] for each in (previous, self._passed))
        if self.passes == 1 or before == now:
            return ""
        known = {*chain.from_iterable(seen.known for seen in self._passed.values())}
        return _CHANGING if len(known) < self.records else ""

    @property
    def _has_moved(self) -> bool:
        return any(seen.has_moved for seen in self._passed.values())

    def _read_listing(self, listing: str | None, following: Sequence[str | None]) -> Iterator[Changes]:
        """Read a listing up to its end, also if records moved: what was received is delivered."""
        seen = self._passed[listing]
        others = [other.keys for other in self._passed.values() if other is not seen]
        first = previous = None
        latest = 0  # the number of the last page with a new record
        for page in self._source.pages(listing, self._size, following):
            first = first or page
            keys = [*map(self._key_of, page.records)]
            new = {*keys} - seen.keys
            changes = self._changes(listing, page, keys)
            yield changes
            if previous and not new and page.number > previous.last_number:
                if page.records and seen.total is None:  # all pages may be the same one
                    seen.gap = _NOT_ANNOUNCED
                break  # the page after the last
            # A record that was read in another listing, in another state, was moved here.
            seen.has_moved |= any(self._key_of(each) in other for other in others for each in changes.records)
            seen.has_moved |= bool(previous and page.records and previous.per_page != page.per_page)
            if page.total is not None:
                seen.has_moved |= seen.total not in {None, page.total}
                seen.total = page.total
            if listing and any(_is_other(listing, record) for record in page.records):
                seen.gap = f"the API ignored the filter status={listing}"
            seen.keys |= new
            seen.edges = {1: seen.edges.get(1, {*keys}), page.number: {*keys}}
            latest = page.number if new else latest
            if page.number > min(first.last_number, latest) + _MAX_UNANNOUNCED_PAGES:
                seen.gap = _ENDLESS
                break
            previous = page

    def _check_edges(self) -> Iterator[Changes]:
        """Request the first and the last page of each listing again: they show whether records moved."""
        self._source.discard()
        edges = [
            (seen, Wanted(listing, each, self._size)) for listing, seen in self._passed.items() for each in seen.edges
        ]
        wanted = [each for _, each in edges]
        try:
            for place, (seen, each) in enumerate(edges, start=1):
                page = self._source.page(each, wanted[place:])
                keys = [*map(self._key_of, page.records)]
                yield self._changes(each.listing, page, keys)
                seen.has_moved |= {*keys} != seen.edges[each.number] or page.total not in {None, seen.total}
        except ListingError as error:
            self.errors.append(error)

    def _changes(self, listing: str | None, page: Page, keys: Sequence[int]) -> Changes:
        changes, records = [], page.records
        if page.earlier:
            keys, records = [*map(self._key_of, page.earlier), *keys], [*page.earlier, *records]
        for key, record in zip(keys, records, strict=True):
            before, state = self._states.get(key), _digest(record)
            self._states[key] = state
            self.records += before is None
            if before != state:
                changes.append(record)
        self.pages += 1
        if page.total is not None:
            self._totals[listing] = page.total
        return Changes(listing, page, changes)

    def _key_of(self, record: Record) -> int:
        return hash(self._get_key(record))


class OrderedRead(VerifiedRead):
    """A read of one listing whose records keep their order, and in which new ones come first.

    Its pages overlap: (page n, size s) contains the places (n - 1) * s to n * s, so with varied sizes each page can
    start before the end of the one before. If a page contains a record that was read before, no record between them
    was missed, whatever was inserted or removed meanwhile. Otherwise the read goes back by one page. Only recent
    records are remembered; all others are counted by a hash of their key.

    If this does not prove that all records were read, the other passes read the listing like one in any order: pages
    of one size may contain records without a fixed place that overlapping pages miss.

    Args:
        is_old: Whether a record need not be read; the read ends at a page of old records.
    """

    def __init__(self, *args: Any, is_old: Callable[[Record], bool] | None = None) -> None:
        super().__init__(*args)
        self._is_old = is_old
        self._largest = self._size
        self._keys = _Keys()
        self._is_disordered = False

    @override
    def _read_listing(self, listing: str | None, following: Sequence[str | None]) -> Iterator[Changes]:
        if self.passes > 1 or self._size < _SMALLEST_OVERLAPPING_SIZE:
            if self.passes < MAX_PASSES:
                self._size = self._largest  # an API may refuse others
            self._states = dict.fromkeys(self._keys, 0) | self._states
            yield from super()._read_listing(listing, following)
            return
        try:
            yield from self._read_overlapping(listing, self._passed[listing])
        except ListingError as error:
            if not self.pages:
                raise
            self._passed[listing].gap = str(error)  # pages of one size may be readable

    def _read_overlapping(self, listing: str | None, seen: _Seen) -> Iterator[Changes]:
        """Read a listing in overlapping pages, and then its first page again."""
        first: dict[int, int] = {}  # the states of the records of the first page
        total: int | None = None
        for wanted, page, keys in self._overlapping_pages(listing, seen):
            yield self._changes(listing, page, keys)
            first = first or {key: self._states[key] for key in keys}
            total = page.total if total is None else total
            if not _is_as_requested(page, wanted):
                seen.gap = "the API does not return pages of the requested size"
                break
            # If there are more records than announced, the count is capped, and the page may be cut.
            if not page.has_next and (not page.records or len(self._keys) <= (page.total or 0)):
                break
            if self._is_old and page.records and all(map(self._is_old, page.records)):
                total = 0  # the other records need not be read
                break
        self._source.discard()
        self._states |= first
        page = self._source.page(Wanted(listing, 1, self._size))
        keys = [*map(self._key_of, page.records)]
        yield self._changes(listing, page, keys)
        if first.keys().isdisjoint(keys) and (first or keys):
            seen.gap = seen.gap or _CHANGING
        self._keys.add(keys)
        self.records = len(self._keys)
        self._judge_count(seen, {each for each in (total, page.total) if each is not None})

    def _judge_count(self, seen: _Seen, totals: set[int]) -> None:
        """Set what `_Seen.judge` needs.

        Args:
            seen: What the pass saw.
            totals: The announced numbers of records, by the first and the last response.
        """
        least = min(totals, default=0)
        # Records without a fixed place can be missed, and others counted in their place.
        if self._is_disordered and self.records >= least and totals != {self.records}:
            seen.gap = seen.gap or "the order of the listing differs from request to request"
        seen.known, seen.total = self._keys, max(self.records, least)
        seen.has_moved = bool(seen.gap) or (self.records < least and len(totals) > 1)

    def _overlapping_pages(self, listing: str | None, seen: _Seen) -> Iterator[tuple[Wanted, Page, list[int]]]:
        """Yield each page with its request and its keys."""
        windows, place, returns = [Wanted(listing, 1, self._size)], 0, 0
        announced = latest = 0  # the numbers of the last page, and of the last one with a new record
        while windows[place].number <= min(announced, latest) + _MAX_UNANNOUNCED_PAGES:
            page = self._source.page(windows[place], windows[place + 1 :])
            keys = [*map(self._key_of, page.records)]
            known = [key for key in keys if key in self._states]
            if place and keys and not known:  # records were removed, so the page before contains the next ones
                if returns < len(windows) + _SPARE_RETURNS:
                    returns, place = returns + 1, place - 1
                    self._source.discard()
                    continue
                seen.gap = _CHANGING
            if len(known) < len(keys):
                latest = windows[place].number
                if place:  # new records follow the last ones that were read
                    last = [*islice(reversed(self._states), len(known))]
                    self._is_disordered |= keys[: len(known)] != last[::-1]
            announced = announced or page.last_number
            self._keys.add(keys)
            yield windows[place], page, keys
            for key in [*islice(self._states, max(0, len(self._states) - _REMEMBERED_PAGES * self._size))]:
                del self._states[key]
            place += 1
            while len(windows) <= place or (
                len(windows) < place + _LOOK_AHEAD and windows[-1].number * windows[-1].size < self.announced
            ):
                windows.append(_next_window(windows[-1], self._size))
        seen.gap = _ENDLESS


class _Keys:
    """Different keys, in 8 bytes each."""

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(64)]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._buckets)

    def __len__(self) -> int:
        return sum(len({*bucket}) for bucket in self._buckets)

    def add(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._buckets[key & 63].append(key)


def _next_window(window: Wanted, largest: int) -> Wanted:
    """Return the request for the page that starts a little before the end of another, and reaches furthest."""
    start = window.number * window.size - max(1, largest // 20)
    pages = ((start // size + 1, size) for size in range(largest, largest * 6 // 10, -1))
    number, size = max(pages, key=lambda page: page[0] * page[1])
    return Wanted(window.listing, number, size)


def _is_as_requested(page: Page, wanted: Wanted) -> bool:
    is_cut = page.number == 1 and len(page.records) < min(wanted.size, page.total or 0)
    is_other = bool(page.records) and (page.per_page != wanted.size or page.total is None)
    return not is_cut and not is_other


def _is_other(status: str, record: Record) -> bool:
    return str(record.get("status") or status).lower() != status


def _digest(record: Record) -> int:
    """Return a digest of the state of a record, valid within this process."""
    try:
        return hash(_encode(record))
    except (OverflowError, UnicodeEncodeError):  # an integer of more than 64 bits, a lone surrogate
        return hash(repr(record))
