"""How listings are read: page by page, and the proof that no record was missed.

Knows no Singer and no HTTP library: pages come from a function that the caller passes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

MAX_PASSES = 3
# Pages beyond those that the first page's count of records wants. A count may be too low, but a server
# that always announces one more page must not be read for ever.
MAX_EXTRA_PAGES = 100

Record = Mapping[str, Any]

_ENCODER = msgspec.json.Encoder(decimal_format="number")
# Between the parts of a key; no part of one holds it.
_SEPARATOR = "\x1f"


class PageError(ValueError):
    """An answer is not the page that was asked for; the message names the field."""


class RecordError(ValueError):
    """A record cannot be told from others; the message names page and position."""


@dataclass(frozen=True)
class Listing:
    """One list of records that the API can give.

    Attributes:
        status: The filter that it is read with; without one the API chooses what to list.
    """

    status: str | None = None

    def __str__(self) -> str:
        return "default listing" if self.status is None else f"listing status={self.status}"


@dataclass(frozen=True)
class Page:
    """A page that is what it was asked to be.

    Attributes:
        number: Counted from 1.
        records: As the API sent them.
        per_page: How many records a full page has.
        total: How many records the listing has.
        total_pages: How many pages the API says that the listing has.
    """

    number: int
    records: Sequence[Record]
    per_page: int
    total: int
    total_pages: int

    @property
    def is_full(self) -> bool:
        """Whether the page has as many records as a page can have."""
        return len(self.records) >= self.per_page

    @property
    def announces_more(self) -> bool:
        """Whether its records or its pagination leave room for another page."""
        return self.is_full and (self.number < self.total_pages or self.number * self.per_page < self.total)


Fetch = Callable[[Listing, int], Page]
"""Returns one page of a listing."""
FetchMany = Callable[[Fetch, Iterable[tuple[Listing, int]]], Generator[Page, None, None]]
"""Calls fetch for each listing and page number and returns the pages in the same order."""


def fetch_one_by_one(fetch: Fetch, wanted: Iterable[tuple[Listing, int]]) -> Generator[Page, None, None]:
    """Fetch pages one after another."""
    return (fetch(listing, number) for listing, number in wanted)


def accept(answer: Any, records_key: str, number: int, *, paginated: bool = True) -> Page:
    """Return the page that an answer holds, if it is the one that was asked for.

    Args:
        answer: The parsed JSON.
        records_key: The field that holds the records.
        number: The page that was asked for.
        paginated: Whether the answer must say which page it is; one that need not is all there is.

    Raises:
        PageError: If the answer is anything else; names the field.
    """
    if not isinstance(answer, dict):
        raise PageError(f"the answer is no JSON object but {_kind(answer)}")
    if records_key not in answer:
        raise PageError(f"the answer has no field '{records_key}'")
    records = answer[records_key]
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        raise PageError(f"field '{records_key}' is no list of objects")
    pagination = answer.get("pagination")
    if pagination is None and not paginated:
        count = len(records)
        pagination = {"page": 1, "per_page": max(count, 1), "total": count, "total_pages": 1}
    if not isinstance(pagination, dict):
        raise PageError("the answer has no object 'pagination'")
    page = Page(
        number=_whole(pagination, "page"),
        records=records,
        per_page=_whole(pagination, "per_page"),
        total=_whole(pagination, "total"),
        total_pages=_whole(pagination, "total_pages"),
    )
    if page.number != number:
        raise PageError(f"field 'pagination.page' is {page.number}, asked for was page {number}")
    if page.per_page < 1:
        raise PageError(f"field 'pagination.per_page' is {page.per_page}")
    is_last = page.number * page.per_page >= page.total
    if len(records) > page.per_page or not (is_last or page.is_full):
        raise PageError(
            f"field '{records_key}' has {len(records)} records on page {number}, which by 'pagination' "
            f"has {page.per_page} of {page.total}"
        )
    return page


class Read:
    """A read of all records of some listings, which together are everything that is wanted.

    Iterating over it yields, page by page, each record, and a record again when it changed while the
    listings were read, so that the last word on each record is its latest state.

    Attributes:
        passes: How often the listings have been read, the present time included.
        pages: How many pages have been read.
        expected: How many records the listings announced when the latest pass over them began.
        moves: How the listings moved during the latest pass. Empty at the end if each held still
            while it was read, so that no record can have been missed.
    """

    def __init__(
        self,
        listings: Sequence[Listing],
        fetch: Fetch,
        key: Sequence[str],
        fetch_many: FetchMany = fetch_one_by_one,
    ) -> None:
        self.passes = 0
        self.pages = 0
        self.expected = 0
        self.moves: list[str] = []
        self._listings = listings
        self._fetch = fetch
        self._fetch_many = fetch_many
        self._key = key
        self._digests: dict[str, int] = {}

    @property
    def records(self) -> int:
        """How many different records have been read."""
        return len(self._digests)

    def __iter__(self) -> Iterator[list[tuple[Record, bool]]]:
        """Read the listings until they hold still, three times at most.

        Yields:
            For each page its records that are new or have changed, each with whether this read has
            yielded it before in another form.

        Raises:
            RecordError: If a record lacks a part of its key.
        """
        for _ in range(MAX_PASSES):
            self.passes += 1
            yield from self._read_all()
            if not self.moves:
                return

    def _read_all(self) -> Iterator[list[tuple[Record, bool]]]:
        self.moves = []
        seen: set[str] = set()
        with closing(self._fetch_many(self._fetch, [(listing, 1) for listing in self._listings])) as pages:
            firsts = list(zip(self._listings, pages, strict=True))
        self.expected = sum(first.total for _, first in firsts)
        wanted = ((listing, number) for listing, first in firsts for number in _numbers_after(first))
        with closing(self._fetch_many(self._fetch, wanted)) as rest:
            for listing, first in firsts:
                yield from self._read_listing(listing, first, rest, seen)

    def _read_listing(
        self, listing: Listing, first: Page, rest: Iterator[Page], seen: set[str]
    ) -> Iterator[list[tuple[Record, bool]]]:
        known_before = len(seen)
        rows = 0
        for page in self._pages(listing, first, rest):
            self.pages += 1
            rows += len(page.records)
            if page.total != first.total:
                self._note(f"{listing}: announced {first.total} records, later {page.total}")
            identities = [
                self._identity(record, listing, page.number, position)
                for position, record in enumerate(page.records, start=1)
            ]
            seen.update(identities)
            yield list(self._news(identities, page.records))
        distinct = len(seen) - known_before
        if distinct != rows:
            self._note(f"{listing}: {rows - distinct} records came twice")
        if rows != first.total:
            self._note(f"{listing}: announced {first.total} records, had {rows}")

    def _pages(self, listing: Listing, first: Page, rest: Iterator[Page]) -> Iterator[Page]:
        planned = len(_numbers_after(first))
        page = first
        yield page
        for page in islice(rest, planned):
            yield page
        for _ in range(MAX_EXTRA_PAGES):
            if not page.announces_more:
                return
            page = self._fetch(listing, page.number + 1)
            yield page

    def _news(self, identities: Sequence[str], records: Sequence[Record]) -> Iterator[tuple[Record, bool]]:
        for identity, record in zip(identities, records, strict=True):
            digest = _digest(record)
            before = self._digests.get(identity)
            if digest != before:
                self._digests[identity] = digest
                yield record, before is not None

    def _identity(self, record: Record, listing: Listing, number: int, position: int) -> str:
        parts = [record.get(name) for name in self._key]
        if None in parts or "" in parts:
            missing = next(name for name in self._key if record.get(name) in (None, ""))
            raise RecordError(f"{listing}, page {number}, record {position}: field '{missing}' is missing or empty")
        return _SEPARATOR.join(map(str, parts))

    def _note(self, move: str) -> None:
        if move not in self.moves:
            self.moves.append(move)


def _digest(record: Record) -> int:
    """A number that tells one state of a record from another, within this process."""
    try:
        return hash(_ENCODER.encode(record))
    except UnicodeEncodeError:  # half of a surrogate pair
        return hash(repr(record))


def _numbers_after(first: Page) -> range:
    """The pages that must come after the first one, by its count of records."""
    return range(2, -(-first.total // first.per_page) + 1)


def _whole(pagination: Mapping[str, Any], name: str) -> int:
    value = pagination.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PageError(f"field 'pagination.{name}' is no whole number")
    return value


def _kind(answer: Any) -> str:
    return "a list" if isinstance(answer, list) else f"a {type(answer).__name__}"
