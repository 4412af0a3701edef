"""Fetches pages concurrently, ahead of their use, and slows down after a rate limit."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import chain, islice
from queue import SimpleQueue
from typing import NamedTuple

from singer_sdk.pagination import PageNumberPaginator

from tap_trackly.pagination import ListingError, Page, PageResponse

# Pages per worker that are in flight or wait to be read: enough to keep workers busy while a page is
# processed, but not so many that memory grows with the account.
_AHEAD_PER_WORKER = 2
# While a listing changes, pages that were fetched ahead are outdated: `discard` resets the number of pages to fetch
# to 1, the next one to read, and each page adds this much.
_MORE_AHEAD_PER_PAGE = 1 / 4
# The count may be capped, so these are requested again after the announced pages, too.
_SERVER_ERRORS = ("HTTP 2", "HTTP 5")


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


class PageSource:
    """The pages of listings, fetched ahead. The threads are daemons, so that a failed run ends at once.

    Args:
        fetch: Requests a page; raises ListingError if the listing cannot be read.
        new_paginator: Returns a paginator for one listing.
        workers: The number of pages that are fetched concurrently.
        ahead: The number of pages to fetch at first, including the next one to read; by default the maximum.
    """

    def __init__(
        self,
        fetch: Callable[[Wanted], PageResponse],
        new_paginator: Callable[[], PageNumberPaginator],
        workers: int,
        ahead: float = float("inf"),
    ) -> None:
        self._fetch = fetch
        self._new_paginator = new_paginator
        self._workers = workers
        self._most_ahead = float(workers * _AHEAD_PER_WORKER)
        self._ahead = min(ahead, self._most_ahead)
        self._futures: dict[tuple[str | None, int, int], Future[PageResponse]] = {}
        self._queue: SimpleQueue[tuple[Wanted, Future[PageResponse]] | None] = SimpleQueue()
        self._believed: set[tuple[str | None, str]] = set()
        self._failure: Exception | None = None
        for _ in range(workers):
            threading.Thread(target=self._work, daemon=True).start()

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
            response = self._get(wanted, chain(rest, first_pages))
            yield response.page
            paginator.advance(response)
            number, last_number = paginator.current_value, max(last_number, response.page.last_number)
            is_expected = response.page.is_full and not last_number
            # If the last page is full, the one after it is requested, too.
            stop = max(last_number, (response.page.total or 0) // response.page.per_page + 1) + 1

    def page(self, wanted: Wanted, upcoming: Iterable[Wanted] = ()) -> Page:
        """Return a page, and fetch the upcoming ones ahead."""
        return self._get(wanted, upcoming).page

    def discard(self) -> None:
        """Discard the pages that were fetched ahead. If there were any, fetch fewer ahead for a while."""
        if self._futures:
            self._ahead = 1.0
        for future in self._futures.values():
            future.cancel()
        self._futures.clear()

    def close(self) -> None:
        """Stop the threads, without waiting for requests in flight."""
        self.discard()
        for _ in range(self._workers):
            self._queue.put(None)

    def _get(self, wanted: Wanted, upcoming: Iterable[Wanted]) -> PageResponse:
        for each in (wanted, *islice(upcoming, int(self._ahead) - 1)):
            if each[:3] not in self._futures:
                future = self._futures[each[:3]] = Future()
                self._queue.put((each, future))
        self._ahead = min(self._ahead + _MORE_AHEAD_PER_PAGE, self._most_ahead)
        return self._futures.pop(wanted[:3]).result()

    def _work(self) -> None:
        for wanted, future in iter(self._queue.get, None):
            if not future.set_running_or_notify_cancel():
                continue
            if self._failure:  # for example, a revoked key must not be sent again
                future.set_exception(self._failure)
                continue
            try:
                future.set_result(self._fetch_twice(wanted))
            except Exception as error:  # noqa: BLE001 - raised again by `result`
                self._failure = self._failure or (None if isinstance(error, ListingError) else error)
                future.set_exception(error)

    def _fetch_twice(self, wanted: Wanted) -> PageResponse:
        """Fetch a page, and once more if it looks like a transient error that was not seen in this listing before."""
        response = self._fetch(wanted)
        doubt = _doubt(wanted, response.page)
        if doubt and (wanted.listing, doubt) not in self._believed:
            earlier = response.page.records
            with suppress(ListingError):  # the records in hand are better than none
                response = self._fetch(wanted)
            if doubt == _doubt(wanted, response.page):
                self._believed.add((wanted.listing, doubt))  # this is how the API responds
            response.page.earlier = earlier
        return response


def _doubt(wanted: Wanted, page: Page) -> str:
    """Return why a page looks like a transient error; "" if it does not, or if it may be the end of the listing."""
    if wanted.is_announced and wanted.number > 1 and not page.records:
        return page.doubt or "the page is empty"
    return page.doubt if wanted.is_announced or page.doubt.startswith(_SERVER_ERRORS) else ""


class Throttle:
    """Limits concurrent requests: fewer after a rate limit, more again while requests succeed.

    Args:
        limit: The maximum number of concurrent requests.

    Attributes:
        refusals: The number of rate limits since the last success; those of concurrent requests count once.
    """

    def __init__(self, limit: int) -> None:
        self.refusals = 0
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

    def slow_down(self, seconds: float) -> None:
        """After a rate limit, start no request for some seconds, and then half as many at a time."""
        with self._changed:
            now = time.monotonic()
            if now >= self._not_before:  # else a request that started before the pause
                self._limit = max(1.0, self._limit / 2)
                self.refusals += 1
            self._not_before = max(self._not_before, now + seconds)

    def speed_up(self) -> None:
        """After a success, allow more requests at a time."""
        with self._changed:
            self.refusals = 0
            self._limit = min(self._most, self._limit + 1 / self._limit)
