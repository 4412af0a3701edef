"""Fetches pages concurrently, ahead of their use, and slows down after a rate limit."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from math import inf
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any, NamedTuple

from msgspec.structs import replace
from singer_sdk.pagination import PageNumberPaginator

from tap_trackly.pagination import ListingError, Page, PageResponse

# Pages per worker that are in flight or wait to be read: enough to keep workers busy while a page is
# processed, but not so many that memory grows with the account.
_AHEAD_PER_WORKER = 2


class Wanted(NamedTuple):
    """A page to request.

    Attributes:
        listing: The `status` filter; None for the default listing.
        number: The page number.
        size: The page size.
        is_announced: Whether the API has announced the page. Otherwise an error is the end of the listing.
    """

    listing: str | None
    number: int
    size: int
    is_announced: bool = True


_Fetch = Callable[[Wanted], Page]


class PageSource:
    """The pages of listings, fetched ahead. The threads are daemons, so that a failed run ends at once.

    Args:
        fetch: Requests a page; raises ListingError if the listing cannot be read.
        new_paginator: Returns a paginator for one listing.
        workers: The number of pages that are fetched concurrently.
        ahead: The number of pages to fetch at first, including the next one to read; by default the maximum.
    """

    def __init__(
        self, fetch: _Fetch, new_paginator: Callable[[], PageNumberPaginator], workers: int, ahead: float = inf
    ) -> None:
        self._fetch = fetch
        self._new_paginator = new_paginator
        self._pool = ThreadPool(workers)
        self._most_ahead = float(workers * _AHEAD_PER_WORKER)
        self._ahead = min(ahead, self._most_ahead)
        self._results: dict[Any, AsyncResult[Page]] = {}
        self._believed: set[tuple[str | None, str]] = set()

    def pages(self, listing: str | None, size: int, following: Sequence[str | None] = ()) -> Iterator[Page]:
        """Yield the pages of a listing, and fetch the first pages of the following listings meanwhile.

        Raises:
            ListingError: If the listing cannot be read.
        """
        paginator = self._new_paginator()
        number, last_number, stop, is_expected = paginator.current_value, 0, 0, True
        first_pages = [Wanted(each, number, size) for each in following]
        while not paginator.finished:
            rest = (Wanted(listing, each, size, each <= last_number) for each in range(number + 1, stop))
            wanted = Wanted(listing, number, size, number <= last_number or is_expected)
            page = self.page(wanted, chain(rest, first_pages))
            yield page
            paginator.advance(PageResponse(page))
            number, last_number = paginator.current_value, max(last_number, page.last_number)
            is_expected = page.is_full and not last_number
            # If the last page is full, the one after it is requested, too.
            stop = max(last_number, (page.total or 0) // page.per_page + 1) + 1

    def page(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:
        """Return a page, and fetch the upcoming ones ahead."""
        for each in (wanted, *islice(upcoming, int(self._ahead) - 1)):
            if each[:3] not in self._results:
                self._results[each[:3]] = self._pool.apply_async(self._fetch_twice, (each, self._results))
        self._ahead = min(self._ahead + 1 / 4, self._most_ahead)
        return self._results.pop(wanted[:3]).get()

    def discard(self) -> None:
        """Discard the pages that were fetched ahead. If there were any, fetch fewer ahead: more may become outdated."""
        if self._results:
            self._ahead = 1.0
        self._results = {}

    def close(self) -> None:
        """Stop the threads, without waiting for requests in flight."""
        self.discard()
        self._pool.terminate()

    def _fetch_twice(self, wanted: Wanted, results: Mapping[Any, Any]) -> Page:
        """Fetch a page, and once more if it looks like a transient error that was not seen in this listing before."""
        if results is not self._results:  # discarded before it was requested
            return Page(wanted.number, [], 1)
        page = self._fetch(wanted)
        doubt = _doubt(wanted, page)
        if doubt and (wanted.listing, doubt) not in self._believed:
            with suppress(ListingError):  # the records in hand are better than none
                again = self._fetch(wanted)
                if doubt == _doubt(wanted, again):
                    self._believed.add((wanted.listing, doubt))  # this is how the API responds
                page = replace(again, earlier=page.records, is_clean=page.is_clean and again.is_clean)
        return page


def _doubt(wanted: Wanted, page: Page) -> str:
    """Return why a page looks like a transient error; "" if it does not, or if it may be the end of the listing."""
    is_missing = wanted.is_announced and wanted.number > 1 and not page.records
    return page.doubt or ("the page is empty" if is_missing else "")


class Throttle:
    """Limits concurrent requests: fewer after a rate limit, more again while requests succeed.

    Args:
        limit: The maximum number of concurrent requests.
    """

    def __init__(self, limit: int) -> None:
        self._refusals = 0
        self._limit = self._most = float(limit)
        self._running = 0
        self._not_before = 0.0  # on the clock of time.monotonic
        self._changed = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may start, and occupy its slot."""
        with self._changed:
            while (pause := self._not_before - time.monotonic()) > 0 or self._running >= int(self._limit):
                self._changed.wait(pause if pause > 0 else None)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def slow_down(self, seconds: float) -> int:
        """After a rate limit, start no request for some seconds, and then half as many at a time.

        Returns:
            The number of rate limits since the last success; those of concurrent requests count once.
        """
        with self._changed:
            now = time.monotonic()
            if now >= self._not_before:  # else a request that started before the pause
                self._limit = max(1.0, self._limit / 2)
                self._refusals += 1
            self._not_before = max(self._not_before, now + seconds)
            return self._refusals

    def speed_up(self) -> None:
        """After a success, allow more requests at a time."""
        with self._changed:
            self._refusals = 0
            self._limit = min(self._most, self._limit + 1 / self._limit)
