"""Reads all records of a stream, and decides whether records may be missing.

Pages are offsets into a listing, so records move from page to page when the listing changes while it is read.
Independent of Singer and HTTP: pages come from a `PageSource`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile
from typing import Any, NamedTuple

import msgspec
from typing_extensions import override

from tap_trackly.pagination import ListingError, Page, Record
from tap_trackly.prefetch import PageSource, Wanted

MAX_PASSES = 3
# A listing may grow, and its count may be capped, but an endless listing must not be read forever.
_MAX_UNANNOUNCED_PAGES = 1000
# An ordered read goes back at most as often as there are pages, plus this often. Then the pass ends.
_SPARE_RETURNS = 20
# How many pages of recent records an ordered read remembers.
_REMEMBERED_PAGES = 32
# With smaller pages, there are too few sizes to choose from for pages that overlap.
_SMALLEST_OVERLAPPING_SIZE = 22
# How many overlapping pages are planned ahead: twice the maximum of `concurrency`.
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
        keys: The keys of its records.
        records: Those of its records that were not yet read, or were read in another state.
    """

    listing: str | None
    page: Page
    keys: list[int]
    records: list[Record]


class _Seen(msgspec.Struct):
    """What one pass saw of a listing.

    Attributes:
        keys: The keys of its records, a set; those of overlapping pages are `_Keys`.
        known: The same, with those of earlier passes if nothing moved.
        total: The number of records to compare with, as announced; None if there is none.
        edges: The keys on the first and the last page, by the number of the page.
        has_moved: Whether records moved between its pages.
        is_repeated: Whether it saw the same records as the pass before.
        gap: Why records are missing; "" if none are.
    """

    keys: Any = set()
    known: Any = ()
    total: int | None = None
    edges: dict[int, set[int]] = {}
    has_moved: bool = False
    is_repeated: bool = False
    gap: str = ""

    def judge(self) -> str:
        """Return why this pass does not prove that all records were read; "" if it does."""
        count = len(self.known)
        if self.gap or count < (self.total or 0):
            return self.gap or f"{count} records read, {self.total} announced"
        if self.has_moved:
            return _CHANGING
        return "" if count == self.total or self.is_repeated else _NOT_ANNOUNCED


class VerifiedRead:
    """A read of listings that together contain all records, in any order.

    Iterating yields the new and changed records of each page; the last state that is yielded of a record is its
    latest. A pass over all listings is verified if nothing moved while it was read, and each listing gave as many
    different records as it announced, or, without a usable count, the same records in two passes.

    Args:
        listings: The listings.
        source: Returns their pages.
        get_key: Returns a hash of the key of a record.
        size: The page size.

    Attributes:
        passes: The number of passes, including the current one.
        pages: The number of pages read.
        records: The number of different records read.
        announced: The number of records in the listings that were begun, according to the API.
        reason: Why records may be missing; "" if none can be.
        errors: The errors of listings that could not be read.
    """

    def __init__(
        self, listings: Sequence[str | None], source: PageSource, get_key: Callable[[Record], int], size: int
    ) -> None:
        self.passes = self.pages = self.records = self.announced = 0
        self.reason = _CHANGING
        self.errors: list[ListingError] = []
        self._listings = listings
        self._source = source
        self._get_key = get_key
        self._size = size
        self._states: dict[int, int] = {}
        self._totals: dict[str | None, int] = {}
        self._passed: dict[str | None, _Seen] = {}

    def __iter__(self) -> Iterator[Changes]:
        """Read the listings until a pass is verified or another one cannot help, with at most `MAX_PASSES` passes."""
        can_help = True
        while self.reason and can_help and self.passes < MAX_PASSES and not self.errors:
            self.passes += 1
            before, self._passed = self._passed, {listing: _Seen() for listing in self._listings}
            for place, listing in enumerate(self._listings, start=1):
                yield from self._until_error(self._read_listing(listing, self._listings[place:]))
            self._judge(before)
            if not self.reason and not self.errors:
                yield from self._until_error(self._check_edges())
            has_moved = any(seen.has_moved for seen in self._passed.values())
            self.reason = self.reason or (_CHANGING if has_moved else "")
            is_repeated = all(seen.is_repeated for seen in self._passed.values())
            can_help = self.reason != _ENDLESS and (has_moved or not is_repeated)
            # With pages of another size, records without a fixed place in the order land on other pages.
            self._size = max(1, self._size * 97 // 100)
            self._source.discard()

    def _until_error(self, changes: Iterator[Changes]) -> Iterator[Changes]:
        try:
            yield from changes
        except ListingError as error:
            self.errors.append(error)

    def _judge(self, before: Mapping[str | None, _Seen]) -> None:
        """Compare a pass with the one before, and set `reason`."""
        now = self._passed
        is_quiet = all(seen.total == now[listing].total and not seen.has_moved for listing, seen in before.items())
        for listing, seen in now.items():
            seen.known = seen.keys
            if before:
                seen.is_repeated = not before[listing].has_moved and seen.keys == {*before[listing].keys}
            if before and is_quiet:
                # While nothing moves, records that one pass missed may be among those of another one.
                others = [other.keys for other in now.values() if other is not seen]
                seen.known = seen.keys | {*before[listing].known}.difference(*others)
        self.reason = next(filter(None, (seen.judge() for seen in now.values())), "")
        # Records of earlier passes may be missing in this one, for example on a server that lags behind.
        if before and not self.reason and not all(seen.is_repeated for seen in now.values()):
            known = set().union(*(seen.known for seen in now.values()))
            self.reason = _CHANGING if len(known) < self.records else ""

    def _read_listing(self, listing: str | None, following: Sequence[str | None]) -> Iterator[Changes]:
        """Read a listing up to its end, also if records moved: what was received is delivered."""
        seen = self._passed[listing]
        others = [other.keys for other in self._passed.values() if other is not seen]
        per_page = announced = latest = 0  # announced: the last page; latest: the latest page with a new record
        for page in self._source.pages(listing, self._size, following):
            changes = self._changes(listing, page)
            yield changes
            new = {*changes.keys} - seen.keys
            seen.has_moved |= bool(seen.edges and page.records) and page.per_page != per_page
            per_page = page.per_page
            if seen.edges and not new and page.number > announced:
                if page.records and seen.total is None:  # all pages may be the same one
                    seen.gap = _NOT_ANNOUNCED
                break  # the page after the last
            # A record that was read in another listing, in another state, was moved here.
            seen.has_moved |= any(self._get_key(each) in other for other in others for each in changes.records)
            if page.total is not None:
                seen.has_moved |= seen.total not in {None, page.total}
                seen.total = page.total
            if listing and any(_is_other(listing, record) for record in page.records):
                seen.gap = f"the API ignored the filter status={listing}"
            seen.keys |= new
            seen.edges = {1: seen.edges.get(1, {*changes.keys}), page.number: {*changes.keys}}
            announced = announced or page.last_number
            latest = page.number if new else latest
            if page.number > min(announced, latest) + _MAX_UNANNOUNCED_PAGES:
                seen.gap = _ENDLESS
                break

    def _check_edges(self) -> Iterator[Changes]:
        """Request the first and the last page of each listing again: they show whether records moved."""
        self._source.discard()
        edges = [Wanted(listing, each, self._size) for listing, seen in self._passed.items() for each in seen.edges]
        for place, wanted in enumerate(edges, start=1):
            seen, page = self._passed[wanted.listing], self._source.page(wanted, edges[place:])
            changes = self._changes(wanted.listing, page)
            yield changes
            seen.has_moved |= {*changes.keys} != seen.edges[wanted.number] or page.total not in {None, seen.total}

    def _changes(self, listing: str | None, page: Page, keys: list[int] | None = None) -> Changes:
        changes = Changes(listing, page, keys or [*map(self._get_key, page.records)], [])
        keys = [*map(self._get_key, page.earlier), *changes.keys]
        for key, record in zip(keys, [*page.earlier, *page.records], strict=True):
            before, state = self._states.get(key), _digest(record)
            self._states[key] = state
            self.records += before is None
            if before != state:
                changes.records.append(record)
        self.pages += 1
        if page.total is not None:
            self._totals[listing] = page.total
            self.announced = sum(self._totals.values())
        return changes


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

    def __init__(self, *args: Any, is_old: Callable[[Record], bool]) -> None:
        super().__init__(*args)
        self._is_old = is_old
        self._largest = self._size
        self._keys = _Keys()
        self._is_disordered = False

    @override
    def _read_listing(self, listing: str | None, following: Sequence[str | None]) -> Iterator[Changes]:
        if self.passes == 1 and self._size >= _SMALLEST_OVERLAPPING_SIZE:
            try:
                yield from self._read_overlapping(listing, self._passed[listing])
            except ListingError:
                if not self.pages:
                    raise
                self._passed[listing].has_moved = True  # pages of one size may be readable
            return
        if self.passes < MAX_PASSES:
            self._size = self._largest  # an API may refuse others
        self._states = dict.fromkeys(self._keys, 0) | self._states
        yield from super()._read_listing(listing, following)

    def _read_overlapping(self, listing: str | None, seen: _Seen) -> Iterator[Changes]:
        """Read a listing in overlapping pages, and then its first page again."""
        first, is_old = None, False
        for wanted, page, keys in self._overlapping_pages(listing, seen):
            changes = self._changes(listing, page, keys)
            yield changes
            self._keys.add(changes.keys)
            first = first or changes
            is_old = bool(page.records) and all(map(self._is_old, page.records))
            if page.records and (page.doubt or page.total is None or page.per_page != wanted.size):
                seen.has_moved = True  # the places of its records are not known
            has_next = page.is_full or page.number < page.last_number or len(self._keys) < (first.page.total or 0)
            if not has_next or is_old or seen.has_moved or not page.records:
                break
        self._source.discard()
        again = self._changes(listing, self._source.page(Wanted(listing, 1, self._size)))
        yield again
        self._keys.add(again.keys)
        self.records = len(self._keys)
        totals = [each.page.total or 0 for each in (first, again) if each]
        seen.keys, seen.total = self._keys, self.records if is_old else max(totals)
        seen.has_moved |= bool(first and first.keys and {*first.keys}.isdisjoint(again.keys))
        # The number of records does not show whether some without a fixed place were missed among the new ones.
        seen.has_moved |= is_old and self._is_disordered

    def _overlapping_pages(self, listing: str | None, seen: _Seen) -> Iterator[tuple[Wanted, Page, list[int]]]:
        """Yield requests with their pages and keys; each page contains a record of the one before."""
        windows, place, returns = [Wanted(listing, 1, self._size)], 0, 0
        announced = latest = 0  # the number of pages, and the place of the latest one with a new record
        while returns < announced + _SPARE_RETURNS and place < min(2 * announced, latest) + _MAX_UNANNOUNCED_PAGES:
            while len(windows) < place + _LOOK_AHEAD:
                windows.append(_next_window(windows[-1], self._size))
            ahead = takewhile(lambda each: (each.number - 1) * each.size < self.announced, windows[place + 1 :])
            page = self._source.page(windows[place], ahead)
            keys = [*map(self._get_key, page.records)]
            known = [key for key in keys if key in self._states]
            if place and keys and not known:
                returns, place = returns + 1, place - 1  # records were removed: the page before contains the next ones
                self._source.discard()
                continue
            if len(known) < len(keys):
                latest = place
                last = [*islice(reversed(self._states), len(known))]
                self._is_disordered |= place > 0 and keys[: len(known)] != last[::-1]
            yield windows[place], page, keys
            for key in [*self._states][self._size : -_REMEMBERED_PAGES * self._size]:
                del self._states[key]  # those of the first page are needed at the end
            announced = announced or page.last_number
            place += 1
        seen.has_moved = True


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


def _is_other(status: str, record: Record) -> bool:
    return str(record.get("status") or status).lower() != status


def _digest(record: Record) -> int:
    """Return a digest of the state of a record, valid within this process."""
    try:
        return hash(_encode(record))
    except (OverflowError, UnicodeEncodeError):  # an integer of more than 64 bits, a lone surrogate
        return hash(repr(record))
