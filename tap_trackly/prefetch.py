"""Requests pages ahead, concurrently, and slows down when the API limits the rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from itertools import chain, islice
from queue import SimpleQueue
from typing import Generic, TypeVar

WantedT = TypeVar("WantedT", bound=Hashable)
PageT = TypeVar("PageT")

# Requests that run or whose pages wait to be read, for each worker: enough that no worker idles while a
# page is processed, and few enough that memory does not grow with the account.
AHEAD_PER_WORKER = 2
# Where pages were fetched in vain they will be again: a listing that changes is read almost page by page.
_LESS_AHEAD = 1 / 4
_MORE_AHEAD_PER_PAGE = 1 / 8


class Prefetch(Generic[WantedT, PageT]):
    """Fetches what is wanted next before it is asked for.

    The threads are daemons, so a process that fails does not wait for answers that nobody needs.

    Args:
        fetch: Returns a page.
        workers: How many pages are fetched at once.
    """

    def __init__(self, fetch: Callable[[WantedT], PageT], workers: int) -> None:
        self._fetch = fetch
        self._workers = workers
        self._ahead = float(workers * AHEAD_PER_WORKER)
        self._futures: dict[WantedT, Future[PageT]] = {}
        self._failures: list[Exception] = []  # why what was submitted since the last discard is not fetched any more
        self._queue: SimpleQueue[tuple[WantedT, Future[PageT], list[Exception]] | None] = SimpleQueue()
        for _ in range(workers):
            threading.Thread(target=self._work, daemon=True).start()

    def get(self, wanted: WantedT, upcoming: Iterable[WantedT] = ()) -> PageT:
        """Return a page, and let the pages that are wanted after it be fetched meanwhile.

        Raises:
            Exception: What fetching the page raised. No page is fetched then until the next discard.
        """
        for each in chain([wanted], islice(upcoming, int(self._ahead) - 1)):
            self._submit(each)
        self._ahead = min(self._ahead + _MORE_AHEAD_PER_PAGE, self._workers * AHEAD_PER_WORKER)
        return self._futures.pop(wanted).result()

    def peek(self, wanted: Sequence[WantedT]) -> list[PageT]:
        """Return pages, also to the next who gets them.

        Raises:
            Exception: What fetching one of the pages raised.
        """
        for each in wanted:
            self._submit(each)
        return [self._futures[each].result() for each in wanted]

    def discard(self) -> None:
        """Forget what was fetched ahead, and if there was any, fetch less ahead for a while."""
        if self._futures:
            self._ahead = max(1.0, self._ahead * _LESS_AHEAD)
        self._futures.clear()
        self._failures.append(CancelledError())
        self._failures = []

    def close(self) -> None:
        """Let the threads end; what is being fetched is not waited for."""
        self.discard()
        for _ in range(self._workers):
            self._queue.put(None)

    def _submit(self, wanted: WantedT) -> None:
        if wanted not in self._futures:
            self._futures[wanted] = Future()
            self._queue.put((wanted, self._futures[wanted], self._failures))

    def _work(self) -> None:
        for wanted, future, failures in iter(self._queue.get, None):
            if failures:  # nothing more is of use, and a revoked key is not to be sent again
                future.set_exception(failures[0])
                continue
            try:
                future.set_result(self._fetch(wanted))
            except Exception as error:  # noqa: BLE001 - raised again by `get`
                failures.append(error)
                future.set_exception(error)


class Throttle:
    """Limits how many requests run at once: fewer after a rate limit, more again while requests succeed.

    Args:
        limit: The most requests that run at once.

    Attributes:
        failures: How often requests met the rate limit since one last succeeded; requests that ran at the
            same time count once.
    """

    def __init__(self, limit: int) -> None:
        self.failures = 0
        self._most = limit
        self._limit = float(limit)
        self._running = 0
        self._not_before = 0.0  # on the clock of time.monotonic
        self._slowed_at = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, rate_limit: type[Exception]) -> Iterator[None]:
        """Hold the place of a request; wait until it may run.

        Args:
            rate_limit: What is raised inside if the request met the rate limit. Fewer requests run at once
                then; if nothing is raised, more.
        """
        with self._changed:
            while (pause := self._not_before - time.monotonic()) > 0 or self._running >= int(self._limit):
                self._changed.wait(pause if pause > 0 else None)
            self._running += 1
        started = time.monotonic()
        try:
            yield
            with self._changed:
                self.failures = 0
                self._limit = min(float(self._most), self._limit + 1 / self._limit)
        except rate_limit:
            with self._changed:
                if started >= self._slowed_at:
                    self._slowed_at = time.monotonic()
                    self._limit = max(1.0, self._limit / 2)
                    self.failures += 1
            raise
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Let no request start for some time."""
        with self._changed:
            self._not_before = max(self._not_before, time.monotonic() + seconds)
