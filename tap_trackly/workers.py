"""Pages side by side: several are requested at once and handed on in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

from tap_trackly.pagination import Fetch, FetchMany, Listing, Page

# Pages that are fetched or wait to be handed on, for each worker: enough that none idles while a
# page is written, and few enough that memory does not grow with the account.
PAGES_AHEAD = 2


def side_by_side(count: int) -> FetchMany:
    """Return a way to fetch pages with a number of workers."""

    def fetch_many(fetch: Fetch, wanted: Iterable[tuple[Listing, int]]) -> Generator[Page, None, None]:
        workers = _Workers(count)
        pages: deque[Future[Page]] = deque()
        try:
            for listing, number in wanted:
                pages.append(workers.submit(fetch, listing, number))
                if len(pages) >= PAGES_AHEAD * count:
                    yield pages.popleft().result()
            while pages:
                yield pages.popleft().result()
        finally:
            workers.dismiss()

    return fetch_many


class _Workers:
    """Threads that do calls in the order in which they were given.

    The executor of the standard library would keep the process alive until the last answer came, even
    when nobody wants it any more; these end with the process.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._dismissed = False
        self._failure: Exception | None = None

    def submit(self, function: Callable[..., Page], *arguments: Any) -> Future[Page]:
        future: Future[Page] = Future()
        self._calls.put((future, function, arguments))
        if len(self._threads) < self._count:
            self._threads.append(Thread(target=self._work, daemon=True))
            self._threads[-1].start()
        return future

    def dismiss(self) -> None:
        """Let each worker end after the call that it is doing; what waits is not done."""
        self._dismissed = True
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while call := self._calls.get():
            future, function, arguments = call
            if self._dismissed:
                future.set_exception(self._failure or CancelledError())
                continue
            try:
                future.set_result(function(*arguments))
            except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
                # Later pages are of no use now, and a revoked key is not to be sent again.
                self._failure = self._failure or error
                self._dismissed = True
                future.set_exception(error)
