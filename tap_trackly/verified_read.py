"""Reads all records of a stream, and decides whether one can have been missed.

Pages are offsets into a listing, so records move from page to page when the listing changes while it is read.
Independent of Singer and HTTP: pages come from a `Source`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec
from typing_extensions import override

from tap_trackly.pagination import ListingError, Page, Record
from tap_trackly.prefetch import Wanted

MAX_PASSES = 3
# A listing may grow, and its count may be capped, but an endless listing must not be read forever.
_MAX_UNANNOUNCED_PAGES = 1000
# After as many returns to an earlier page as there are pages, plus some, the read continues unverified.
_SPARE_RETURNS = 20
# How many pages of recent records an ordered read remembers.
_REMEMBERED_PAGES = 32
# Smaller pages are not read with overlap: there are too few sizes to choose from.
_SMALLEST_OVERLAPPING_SIZE = 22
# How many pages are requested before it is known whether they exist: twice the greatest concurrency.
_LOOK_AHEAD = 64
_CHANGING = "the listing kept changing"
_DISORDERED = "the order of the listing differs from request to request"
_ENDLESS = "the listing does not end"
_NOT_ANNOUNCED = "the number of records is not announced"
_OTHER_SIZE = "the API does not return pages of the requested size"

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Source(Protocol):
    """Where pages come from. A listing is a value of the `status` filter, or None for the default listing.

    Each method raises ListingError if a listing cannot be read.
    """

    def pages(self, listing: str | None, size: int, following: Sequence[str | None] = ()) -> Iterator[Page]:
        """Return the pages of a listing that is followed by others; some may be fetched ahead."""

    def request(self, wanted: Sequence[Wanted]) -> Iterator[Page]:
        """Return pages that are requested anew."""

    def page(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:
        """Return a page, and fetch the upcoming ones ahead."""

    def discard(self) -> None:
        """Discard pages that were fetched ahead."""


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
        keys: The keys of its records.
        known: The same, with those of earlier passes if nothing moved.
        total: The announced number of records, by the latest page.
        edges: The keys on the first and the last page, by the request for that page.
        has_moved: Whether records moved between its pages.
        gap: Why records are missing; "" if none are.
    """

    def __init__(self) -> None:
        self.keys: set[int] = set()
        self.known = self.keys
        self.total: int | None = None
        self.edges: dict[Wanted, set[int]] = {}
        self.has_moved = False
        self.gap = ""


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
        self, listings: Sequence[str | None], source: Source, get_key: Callable[[Record], Any], size: int
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
        """Read the listings until a pass is verified, or another one cannot help, or three times."""
        can_help = True
        while self.reason and can_help and self._may_repeat:
            self.passes += 1
            can_help = yield from self._read_pass()
            # With pages of another size, records that have no fixed place in the order fall otherwise.
            self._size = max(1, self._size * 97 // 100)
            self._source.discard()

    @property
    def _may_repeat(self) -> bool:
        return self.passes < MAX_PASSES and not self.errors

    def _read_pass(self) -> Generator[Changes, None, bool]:
        """Read all listings once, and set `reason`.

        Returns:
            Whether another pass may find more.
        """
        has_moved = any(seen.has_moved for seen in self._passed.values())
        before, self._passed = {} if has_moved else self._passed, {}
        known = self.records
        for place, listing in enumerate(self._listings, start=1):
            seen = self._passed[listing] = _Seen()
            try:
                yield from self._read_listing(listing, self._listings[place:], seen)
            except ListingError as error:
                self.errors.append(error)
        reasons = [
            _judge(seen, before.get(listing), [other.keys for other in self._passed.values() if other is not seen])
            for listing, seen in self._passed.items()
        ]
        self.reason = next(filter(None, reasons), "")
        if not self.reason and not self.errors and not (yield from self._is_unchanged()):
            self.reason = _CHANGING
        is_same = all(
            each in before and (before[each].total, len(before[each].keys)) == (seen.total, len(seen.keys))
            for each, seen in self._passed.items()
        )
        return not is_same or self.records > known or any(seen.has_moved for seen in self._passed.values())

    def _read_listing(self, listing: str | None, following: Sequence[str | None], seen: _Seen) -> Iterator[Changes]:
        """Read a listing up to its end, also if records moved: what was received is delivered."""
        previous: Page | None = None
        latest = 0
        others = [other for other in self._passed.values() if other is not seen]
        for page in self._source.pages(listing, self._size, following):
            if previous is None:
                limit = page.last_number + _MAX_UNANNOUNCED_PAGES
            keys = [*map(self._key_of, page.records)]
            new = {*keys} - seen.keys
            latest = page.number if new else latest
            changes = self._changes(listing, page, keys)
            yield changes
            if previous and not new and page.number > previous.last_number:
                if page.records and seen.total is None:  # all pages may be the same one
                    seen.gap = _NOT_ANNOUNCED
                break  # the page after the last
            # A record that was read in another listing, in another state, was moved here.
            seen.has_moved |= any(self._key_of(each) in other.keys for other in others for each in changes.records)
            if page.total is not None:
                seen.has_moved |= seen.total not in {None, page.total}
                seen.total = page.total
            seen.has_moved |= bool(previous and page.records and previous.per_page != page.per_page)
            if listing and any(_is_other(listing, record) for record in page.records):
                seen.gap = f"the API ignored the filter status={listing}"
            seen.keys |= new
            first = next(iter(seen.edges.items()), None)
            seen.edges = dict([first] if first else [])
            seen.edges[Wanted(listing, page.number, self._size)] = {*keys}
            if page.number > min(limit, latest + _MAX_UNANNOUNCED_PAGES):
                seen.gap = _ENDLESS
                break
            previous = page

    def _is_unchanged(self) -> Generator[Changes, None, bool]:
        """Request the first and the last page of each listing again."""
        wanted = [each for seen in self._passed.values() for each in seen.edges]
        try:
            for each, page in zip(wanted, self._source.request(wanted), strict=True):
                keys = [*map(self._key_of, page.records)]
                yield self._changes(each.listing, page, keys)
                seen = self._passed[each.listing]
                seen.has_moved |= {*keys} != seen.edges[each] or page.total not in {None, seen.total}
        except ListingError as error:
            self.errors.append(error)
        return not any(seen.has_moved for seen in self._passed.values())

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
    start before the end of the one before. A page that contains a record that was read leaves no gap before it,
    whatever was inserted or removed meanwhile. If a page does not, the read goes back by one page. Only recent records
    are remembered; all others are counted by a hash of their key.

    Args:
        is_old: Whether a record need not be read; the read ends at a page of old records.
    """

    def __init__(self, *args: Any, is_old: Callable[[Record], bool] | None = None) -> None:
        super().__init__(*args)
        self._is_old = is_old
        self._has_overlap = self._size >= _SMALLEST_OVERLAPPING_SIZE
        self._plain_size = self._size
        self._counted = _DistinctCount()
        self._all_totals: set[int] = set()
        self._is_disordered = False

    @override
    def _read_pass(self) -> Generator[Changes, None, bool]:
        if self._has_overlap and self.passes == MAX_PASSES:
            # Records without a fixed place may be missing from overlapping pages, but not from those of one size.
            self._has_overlap, self._size, self._states, self.records = False, self._plain_size, {}, 0
        if not self._has_overlap:
            return (yield from super()._read_pass())
        before = self._counted
        self._counted, self._states, self.records, self._is_disordered = _DistinctCount(), {}, 0, False
        totals: set[int] = set()
        try:
            gap = yield from self._read_overlapping(totals)
        except ListingError as error:
            self.errors.append(error)
            return False
        if gap == _OTHER_SIZE:
            self._has_overlap, self._states, self.records = False, {}, 0
            return (yield from super()._read_pass())
        self.records, known = self._counted.total(), before.total()
        self._all_totals |= totals
        if len(self._all_totals) <= 1:  # as in `_judge`
            self._counted.merge(before)
        self.reason = gap or self._judge_count(totals, known)
        return gap != _ENDLESS

    def _read_overlapping(self, totals: set[int]) -> Generator[Changes, None, str]:
        """Read the listing, and then its front again; return why records may be missing."""
        first: dict[int, int] = {}  # the states of the records of the first page
        gap = ""
        for wanted, page, keys, is_continuous in self._overlapping_pages():
            yield self._counted_changes(page, keys, totals)
            if not _has_requested_size(page, wanted):
                return _OTHER_SIZE
            first = first or {key: self._states[key] for key in keys}
            gap = gap if is_continuous else _CHANGING
            if _is_end(page, wanted):
                break
            if self._is_old and page.records and all(map(self._is_old, page.records)):
                totals.clear()  # the other records need not be read
                totals.add(0)
                break
        else:
            return _ENDLESS
        self._source.discard()
        self._states |= first
        for _, page, keys, is_continuous in self._overlapping_pages(is_closing=True):
            is_known = not first.keys().isdisjoint(keys) or not (first or keys)
            yield self._counted_changes(page, keys, totals)
            gap = gap if is_continuous else _CHANGING
            if is_known:
                return gap
            if not first or not keys:
                break
        return gap or _CHANGING

    def _counted_changes(self, page: Page, keys: Sequence[int], totals: set[int]) -> Changes:
        self._counted.add(keys)
        if page.total is not None:
            totals.add(page.total)
        return self._changes(self._listings[0], page, keys)

    def _overlapping_pages(self, *, is_closing: bool = False) -> Iterator[tuple[Wanted, Page, list[int], bool]]:
        """Yield each page with its request, its keys, and whether it leaves no gap behind the one before."""
        (listing,) = self._listings
        windows, place, returns, latest, limit = [Wanted(listing, 1, self._size)], 0, 0, 0, _MAX_UNANNOUNCED_PAGES
        while place <= latest + _MAX_UNANNOUNCED_PAGES and windows[place].number <= limit:
            page = self._source.page(windows[place], windows[place + 1 :])
            keys = [*map(self._key_of, page.records)]
            known = [key for key in keys if key in self._states]
            is_continuous = bool(known) or not (place and keys)
            if not is_continuous and returns < len(windows) + _SPARE_RETURNS:
                returns, place = returns + 1, place - 1
                self._source.discard()
                continue
            if place and not is_closing and len(known) < len(keys):  # new records follow the last ones that were read
                self._is_disordered |= keys[: len(known)] != [*islice(reversed(self._states), len(known))][::-1]
            if not place:
                limit = page.last_number + _MAX_UNANNOUNCED_PAGES
            latest = max(latest, place) if len(known) < len(keys) else latest
            yield windows[place], page, keys, is_continuous
            self._forget()
            place += 1
            announced = 0 if is_closing else self._totals.get(listing, 0)
            while len(windows) <= place or (
                len(windows) < place + _LOOK_AHEAD and windows[-1].number * windows[-1].size < announced
            ):
                windows.append(_next_window(windows[-1], self._size))

    def _forget(self) -> None:
        """Forget all but recent records."""
        for key in [*islice(self._states, max(0, len(self._states) - _REMEMBERED_PAGES * self._size))]:
            del self._states[key]

    def _judge_count(self, totals: set[int], before: int) -> str:
        count = self._counted.total()
        if not totals and not before == count == self.records:
            return _NOT_ANNOUNCED
        if count < min(totals, default=0):
            return f"{count} records read, {min(totals)} announced"
        # Records without a fixed place can be missed, and others counted in their place.
        return _DISORDERED if self._is_disordered and totals != {count} else ""


def _next_window(window: Wanted, largest: int) -> Wanted:
    """Return the request for the page that starts a little before the end of another, and ends last."""
    start = window.number * window.size - max(1, largest // 20)
    pages = ((start // size + 1, size) for size in range(largest, largest * 6 // 10, -1))
    number, size = max(pages, key=lambda page: page[0] * page[1])
    return Wanted(window.listing, number, size)


def _has_requested_size(page: Page, wanted: Wanted) -> bool:
    is_cut = len(page.records) < wanted.size and page.end < (page.total or 0)
    return not is_cut and (page.per_page == wanted.size or not page.records)


def _is_end(page: Page, wanted: Wanted) -> bool:
    return len(page.records) < wanted.size and wanted.number * wanted.size >= (page.total or 0)


class _DistinctCount:
    """Counts different keys, in 8 bytes each."""

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(256)]

    def add(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._buckets[key & 255].append(key)

    def merge(self, other: _DistinctCount) -> None:
        for bucket, more in zip(self._buckets, other._buckets, strict=True):
            bucket.extend(more)

    def total(self) -> int:
        return sum(len({*bucket}) for bucket in self._buckets)


def _judge(seen: _Seen, before: _Seen | None, others: Sequence[set[int]]) -> str:
    """Return why a pass does not prove that all records of a listing were read; "" if it does."""
    # While nothing moves, records that one pass missed may be among those of another one.
    is_comparable = before is not None and before.total == seen.total
    seen.known = seen.keys | before.known.difference(*others) if before and is_comparable else seen.keys
    if seen.gap:
        return seen.gap
    if seen.total is not None and len(seen.known) < seen.total:
        return f"{len(seen.known)} records read, {seen.total} announced"
    if seen.has_moved:
        return _CHANGING
    is_repeated = before is not None and before.keys == seen.keys
    return "" if len(seen.known) == seen.total or is_repeated else _NOT_ANNOUNCED


def _is_other(status: str, record: Record) -> bool:
    return str(record.get("status") or status).lower() != status


def _digest(record: Record) -> int:
    """Return a digest of the state of a record, valid within this process."""
    try:
        return hash(_encode(record))
    except (OverflowError, UnicodeEncodeError):  # an integer of more than 64 bits, a lone surrogate
        return hash(repr(record))
