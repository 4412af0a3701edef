"""Prefetched pages, and the throttle of requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tap_trackly.pagination import ListingError, Page, TracklyPaginator
from tap_trackly.prefetch import PageSource, Throttle, Wanted

WORKERS = [1, 2, 8, 32]
AHEAD_PER_WORKER = 2
SIZE = 2


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def response(number: int, last_number: int = 0, doubt: str = "") -> Page:
    """Return a full page; the last one lacks a record."""
    is_last = number == last_number
    total = last_number * SIZE - 1 if last_number else None
    return Page(number, [{}] * (SIZE - is_last), SIZE, total, last_number, is_full=not is_last, doubt=doubt)


def source_of(fetch: Callable[[Wanted], Page], workers: int = 1, ahead: float = float("inf")) -> closing[PageSource]:
    return closing(PageSource(fetch, lambda: TracklyPaginator(start_value=1), workers, ahead))


def want(*numbers: int) -> list[Wanted]:
    return [Wanted(None, number, SIZE) for number in numbers]


def noting(taken: list[int], numbers: range) -> Iterator[Wanted]:
    """Yield requests, and record those that were taken."""
    for number in numbers:
        taken.append(number)
        yield Wanted(None, number, SIZE)


@pytest.mark.parametrize("workers", WORKERS)
def test_order_of_pages(workers: int) -> None:
    def fetch(wanted: Wanted) -> Page:
        time.sleep(0.01 if wanted.number % 3 == 0 else 0)
        return response(wanted.number, 50)

    with source_of(fetch, workers) as source:
        assert [page.number for page in source.pages(None, SIZE)] == [*range(1, 51)]


@pytest.mark.parametrize("workers", WORKERS)
def test_concurrency(workers: int) -> None:
    running, most, lock = 0, 0, threading.Lock()
    all_run = threading.Barrier(workers, timeout=60)

    def fetch(wanted: Wanted) -> Page:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if 1 < wanted.number <= workers + 1:
            all_run.wait()
        with lock:
            running -= 1
        return response(wanted.number, 100)

    with source_of(fetch, workers) as source:
        assert len([*source.pages(None, SIZE)]) == 100
    assert most == workers


@pytest.mark.parametrize("workers", WORKERS)
def test_look_ahead_is_limited(workers: int) -> None:
    fetched: list[int] = []

    def fetch(wanted: Wanted) -> Page:
        fetched.append(wanted.number)
        return response(wanted.number, 100)

    with source_of(fetch, workers) as source:
        for page in source.pages(None, SIZE):
            assert max(fetched) < page.number + AHEAD_PER_WORKER * workers
    assert sorted(fetched) == [*range(1, 101)]


def test_only_one_page_after_the_announced_ones_is_fetched_ahead() -> None:
    fetched: list[Wanted] = []

    def fetch(wanted: Wanted) -> Page:
        fetched.append(wanted)
        return Page(
            wanted.number, [{} for _ in range(SIZE) if wanted.number < 5], SIZE, 6, 3, is_full=wanted.number < 5
        )

    with source_of(fetch, 8) as source:
        for page in source.pages(None, SIZE):
            assert max(each.number for each in fetched) <= max(4, page.number)
    assert sorted(each.number for each in fetched if each.is_announced) == [1, 2, 3]
    assert [each.number for each in fetched if not each.is_announced] == [4, 5]


def test_page_after_a_full_last_one_is_fetched_ahead() -> None:
    fetched: list[Wanted] = []

    def fetch(wanted: Wanted) -> Page:
        fetched.append(wanted)
        return Page(wanted.number, [{}] * SIZE, SIZE, 4 * SIZE, 4, is_full=True)

    with source_of(fetch, 8) as source:
        pages = source.pages(None, SIZE)
        next(pages)
        next(pages)
        ends = time.monotonic() + 60
        while len(fetched) < 5 and time.monotonic() < ends:
            time.sleep(0.001)
        assert sorted((each.number, each.is_announced) for each in fetched) == [
            *((number, True) for number in range(1, 5)),
            (5, False),
        ]


def test_page_after_a_full_one_is_announced_without_a_count() -> None:
    fetched: list[Wanted] = []

    def fetch(wanted: Wanted) -> Page:
        fetched.append(wanted)
        return Page(wanted.number, [{} for _ in range(wanted.number < 4)], SIZE, is_full=wanted.number < 3)

    with source_of(fetch) as source:
        assert len([*source.pages(None, SIZE)]) == 4
    assert [each.is_announced for each in fetched] == [True, True, True, False]


def test_first_pages_of_following_listings_are_fetched_ahead() -> None:
    fetched: list[tuple[str | None, int]] = []
    all_begun = threading.Event()

    def fetch(wanted: Wanted) -> Page:
        fetched.append((wanted.listing, wanted.number))
        if len(fetched) == 3:
            all_begun.set()
        return response(1, 1)

    with source_of(fetch, 2) as source:
        assert len([*source.pages(None, SIZE, ["paused", "archived"])]) == 1
        assert all_begun.wait(60)
        assert len([*source.pages("paused", SIZE, ["archived"])]) == 1
    assert sorted(fetched, key=str) == [("archived", 1), ("paused", 1), (None, 1)]


def test_request_fetches_anew() -> None:
    fetched: Counter[int] = Counter()

    def fetch(wanted: Wanted) -> Page:
        fetched[wanted.number] += 1
        return response(wanted.number, fetched[wanted.number])

    with source_of(fetch) as source:
        source.page(want(1)[0], want(2))
        source.page(want(3)[0])  # so that page 2 has been fetched
        source.discard()
        assert [source.page(want(each)[0]).last_number for each in (1, 2)] == [2, 2]


@pytest.mark.parametrize("ahead,taken", [(1, 0), (2, 1), (2.5, 1), (99, 15)])
def test_first_look_ahead(ahead: float, taken: int) -> None:
    found: list[int] = []
    with source_of(lambda wanted: response(wanted.number), 8, ahead) as source:
        source.page(want(1)[0], noting(found, range(2, 100)))
    assert len(found) == taken


@pytest.mark.parametrize("workers", WORKERS)
def test_error_is_raised_in_order(workers: int) -> None:
    fetched: list[int] = []

    def fetch(wanted: Wanted) -> Page:
        fetched.append(wanted.number)
        if wanted.number == 3:
            while not {1, 2} <= set(fetched):  # pages are begun in order, but no faster than threads are switched
                time.sleep(0.001)
            raise ListingError("page 3")
        return response(wanted.number)

    with source_of(fetch, workers) as source:
        rest = want(*range(1, 1001))
        assert [source.page(rest[place], rest[place + 1 :]).number for place in (0, 1)] == [1, 2]
        with pytest.raises(ListingError, match=r"^page 3$"):
            source.page(rest[2], rest[3:])
        assert len(fetched) < 3 + AHEAD_PER_WORKER * workers
        source.discard()
        assert source.page(rest[3]).number == 4


def test_error_of_discarded_page() -> None:
    failed = threading.Event()

    def fetch(wanted: Wanted) -> Page:
        if wanted.number == 2:
            failed.set()
            raise ListingError("page 2")
        return response(wanted.number)

    with source_of(fetch, 2) as source:
        source.page(want(1)[0], want(2))
        assert failed.wait(60)
        source.discard()
        assert source.page(want(3)[0]).number == 3


def test_close_does_not_wait() -> None:
    begun, end = threading.Event(), threading.Event()
    fetched: list[int] = []

    def fetch(wanted: Wanted) -> Page:
        fetched.append(wanted.number)
        if wanted.number == 2:
            begun.set()
            assert end.wait(60)
        return response(wanted.number)

    with source_of(fetch) as source:
        source.page(want(1)[0], want(*range(2, 100)))
        assert begun.wait(60)
    end.set()  # close has returned before the fetch ends
    assert fetched == [1, 2]


def test_discarded_pages_are_fetched_again() -> None:
    fetched: Counter[int] = Counter()

    def fetch(wanted: Wanted) -> Page:
        fetched[wanted.number] += 1
        return response(wanted.number, fetched[wanted.number])

    with source_of(fetch) as source:
        source.page(want(1)[0], want(2, 3))
        assert source.page(want(3)[0]).last_number == 1  # so that page 2 has been fetched
        source.discard()
        assert source.page(want(2)[0]).last_number == 2


def test_discard_reduces_look_ahead() -> None:
    with source_of(lambda wanted: response(wanted.number), 4) as source:

        def look_ahead() -> int:
            taken: list[int] = []
            source.page(want(0)[0], noting(taken, range(1, 1001)))
            return len(taken)

        assert look_ahead() == 4 * AHEAD_PER_WORKER - 1
        source.discard()
        assert [look_ahead() for _ in range(9)] == [0] * 4 + [1] * 4 + [2]
        source.discard()
        assert look_ahead() == 0
        assert max(look_ahead() for _ in range(100)) == look_ahead() == 4 * AHEAD_PER_WORKER - 1


def test_discard_of_nothing_keeps_look_ahead() -> None:
    taken: list[int] = []
    with source_of(lambda wanted: response(wanted.number), 4) as source:
        source.page(want(1)[0])
        source.discard()
        source.page(want(2)[0], noting(taken, range(3, 100)))
    assert len(taken) == 4 * AHEAD_PER_WORKER - 1


class Doubtful:
    """Responds to each request with the next doubt."""

    def __init__(self, *doubts: str) -> None:
        self.doubts = list(doubts)
        self.asked: list[Wanted] = []

    def __call__(self, wanted: Wanted) -> Page:
        self.asked.append(wanted)
        return response(wanted.number, doubt=self.doubts.pop(0) if self.doubts else "")


def test_doubtful_page_is_requested_once_more() -> None:
    fetch = Doubtful("cut")
    with source_of(fetch) as source:
        assert source.page(want(1)[0]).doubt == ""
        assert source.page(want(2)[0]).doubt == ""
    assert fetch.asked == want(1, 1, 2)


def test_records_of_a_doubtful_response_are_kept() -> None:
    pages = [Page(2, [{"id": "a"}], SIZE, doubt="cut", is_clean=True), Page(2, [{"id": "b"}], SIZE, is_clean=False)]
    with source_of(lambda _: pages.pop(0)) as source:
        page = source.page(want(2)[0])
    assert (page.records, page.earlier, page.doubt, page.is_clean) == ([{"id": "b"}], [{"id": "a"}], "", False)


def test_same_doubt_is_believed() -> None:
    fetch = Doubtful(*["cut"] * 4)
    with source_of(fetch) as source:
        for number in (1, 2):
            assert source.page(want(number)[0]).doubt == "cut"
        other = Wanted("archived", 1, SIZE)
        source.page(other)
    assert fetch.asked == [*want(1, 1, 2), other, other]


def test_other_doubt_is_not_yet_believed() -> None:
    fetch = Doubtful("cut", "empty", "cut", "cut", "empty", "empty")
    with source_of(fetch) as source:
        found = [source.page(each).doubt for each in want(1, 2, 3)]
    assert found == ["empty", "cut", "empty"]
    assert fetch.asked == want(1, 1, 2, 2, 3, 3)


class FailedError(Exception):
    pass


def assert_limit(throttle: Throttle, limit: int) -> None:
    """Check that the maximum number of concurrent requests is the limit."""
    entered = threading.Event()

    def another() -> None:
        with throttle.slot():
            entered.set()

    thread = threading.Thread(target=another)
    with ExitStack() as stack:
        for _ in range(limit):
            stack.enter_context(throttle.slot())
        thread.start()
        assert not entered.wait(0.02)
    thread.join(60)
    assert entered.is_set()


def wait_for_end_of_pause(throttle: Throttle) -> None:
    with throttle.slot():
        pass


@pytest.mark.parametrize("limit", WORKERS)
def test_throttle_limit(limit: int) -> None:
    assert_limit(Throttle(limit), limit)


def test_rate_limit_halves_limit() -> None:
    throttle = Throttle(8)
    for refusals, limit in enumerate([4, 2, 1, 1, 1], start=1):
        assert throttle.slow_down(0.001) == refusals
        wait_for_end_of_pause(throttle)
        assert_limit(throttle, limit)


def test_concurrent_rate_limits_count_once() -> None:
    throttle = Throttle(8)
    for _ in range(8):
        assert throttle.slow_down(3600) == 1  # longer than the test takes


def test_successes_raise_limit() -> None:
    throttle = Throttle(4)
    assert [throttle.slow_down(0) for _ in range(2)] == [1, 2]
    throttle.speed_up()
    assert_limit(throttle, 2)
    throttle.speed_up()
    assert_limit(throttle, 2)  # each success allows less than one more
    for _ in range(100):
        throttle.speed_up()
    assert_limit(throttle, 4)


def test_failed_request_frees_slot() -> None:
    throttle = Throttle(1)
    with pytest.raises(FailedError), throttle.slot():
        raise FailedError
    assert_limit(throttle, 1)


def test_longest_pause_counts() -> None:
    throttle = Throttle(1)
    ends = time.monotonic() + 0.3
    throttle.slow_down(0.3)
    throttle.slow_down(0)
    with throttle.slot():
        assert time.monotonic() >= ends
