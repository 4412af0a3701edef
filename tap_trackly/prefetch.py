"""Prefetches pages concurrently, and slows down after a rate limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from typing import Generic, TypeVar

WantedT = TypeVar("WantedT", bound=Hashable)
PageT = TypeVar("PageT")

# Pages per worker that are in flight or wait to be read: enough to keep workers busy while a page is
# processed, but not so many that memory grows with the account.
AHEAD_PER_WORKER = 2
# A changing listing is read page by page: `discard` resets the look-ahead to 1, and each page adds this much.
_MORE_AHEAD_PER_PAGE = 1 / 4


class Prefetch(Generic[WantedT, PageT]):
    """Fetches pages before they are requested with `get`.

    The threads are daemons, so that a failed process does not wait for responses.

    Args:
        fetch: Returns a page.
        workers: The number of pages that are fetched concurrently.
    """

    def __init__(self, fetch: Callable[[WantedT], PageT], workers: int) -> None:
        self._fetch = fetch
        self._ahead = self._most_ahead = float(workers * AHEAD_PER_WORKER)
        self._futures: dict[WantedT, Future[PageT]] = {}
        self._failures: list[Exception] = []  # the first since the last discard; later pages get it, too
        self._queue: SimpleQueue[tuple[WantedT, Future[PageT], list[Exception]] | None] = SimpleQueue()
        for _ in range(workers):
            threading.Thread(target=self._work, daemon=True).start()

    def get(self, wanted: WantedT, upcoming: Iterable[WantedT] = ()) -> PageT:
        """Return a page, and prefetch the upcoming pages.

        Raises:
            Exception: The error of fetching the page. No page is fetched then until `discard` is called.
        """
        self._submit([wanted, *islice(upcoming, int(self._ahead) - 1)])
        self._ahead = min(self._ahead + _MORE_AHEAD_PER_PAGE, self._most_ahead)
        return self._futures.pop(wanted).result()

    def peek(self, wanted: Sequence[WantedT]) -> list[PageT]:
        """Return pages, and keep them for `get`.

        Raises:
            Exception: The error of fetching one of the pages.
        """
        self._submit(wanted)
        return [self._futures[each].result() for each in wanted]

    def discard(self) -> None:
        """Discard prefetched pages. If there were any, prefetch fewer pages for a while."""
        if self._futures:
            self._ahead = 1.0
        self._futures.clear()
        self._failures.append(CancelledError())
        self._failures = []

    def close(self) -> None:
        """Stop the threads, without waiting for requests in flight."""
        self.discard()
        self._queue.put(None)

    def _submit(self, wanted: Iterable[WantedT]) -> None:
        for each in wanted:
            if each not in self._futures:
                self._futures[each] = Future()
                self._queue.put((each, self._futures[each], self._failures))

    def _work(self) -> None:
        for wanted, future, failures in iter(self._queue.get, None):
            if failures:  # other pages are not needed, and a revoked key must not be sent again
                future.set_exception(failures[0])
                continue
            try:
                future.set_result(self._fetch(wanted))
            except Exception as error:  # noqa: BLE001 - raised again by `get`
                failures.append(error)
                future.set_exception(error)
        self._queue.put(None)  # for the next thread


class Throttle:
    """Limits concurrent requests: fewer after a rate limit, more again while requests succeed.

    Args:
        limit: The maximum number of concurrent requests.

    Attributes:
        failures: The number of rate limits since the last successful request; those of concurrent requests
            count once.
    """

    def __init__(self, limit: int) -> None:
        self.failures = 0
        self._limit = self._most = float(limit)
        self._running = 0
        self._not_before = 0.0  # on the clock of time.monotonic
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, rate_limit: type[Exception]) -> Iterator[None]:
        """Wait until a request may start, and occupy its slot.

        Args:
            rate_limit: The error that means a rate limit. It lowers the number of concurrent requests; a
                request without an error raises it.
        """
        with self._changed:
            while (pause := self._not_before - time.monotonic()) > 0 or self._running >= int(self._limit):
                self._changed.wait(pause if pause > 0 else None)
            self._running += 1
            limit, failures = self._limit, self.failures
        try:
            yield
            with self._changed:
                self.failures = 0
                self._limit = min(self._most, self._limit + 1 / self._limit)
        except rate_limit:
            with self._changed:
                # Compared with the start of the request, so that concurrent rate limits count once.
                self._limit = min(self._limit, max(1.0, limit / 2))
                if self.failures == failures:
                    self.failures += 1
            raise
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Start no request for some seconds."""
        with self._changed:
            self._not_before = max(self._not_before, time.monotonic() + seconds)
