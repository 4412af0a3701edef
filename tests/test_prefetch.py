"""Prefetched pages, and the throttle of requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from tap_trackly.prefetch import AHEAD_PER_WORKER, Prefetch, Throttle

WORKERS = [1, 2, 8, 32]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def noting(taken: list[int], numbers: range) -> Iterator[int]:
    """Yield numbers, and record those that were taken."""
    for number in numbers:
        taken.append(number)
        yield number


@pytest.mark.parametrize("workers", WORKERS)
def test_order_of_pages(workers: int) -> None:
    def fetch(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number

    with closing(Prefetch(fetch, workers)) as prefetch:
        assert [prefetch.get(number, range(number + 1, 51)) for number in range(1, 51)] == list(range(1, 51))


@pytest.mark.parametrize("workers", WORKERS)
def test_concurrency(workers: int) -> None:
    running, most, lock = 0, 0, threading.Lock()
    all_run = threading.Barrier(workers, timeout=60)

    def fetch(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if number <= workers:
            all_run.wait()
        with lock:
            running -= 1
        return number

    with closing(Prefetch(fetch, workers)) as prefetch:
        for number in range(1, 101):
            prefetch.get(number, range(number + 1, 101))
    assert most == workers


@pytest.mark.parametrize("workers", WORKERS)
def test_look_ahead_is_limited(workers: int) -> None:
    fetched: list[int] = []
    with closing(Prefetch(fetched.append, workers)) as prefetch:
        for number in range(1, 101):
            prefetch.get(number, range(number + 1, 1001))
            assert max(fetched) < number + AHEAD_PER_WORKER * workers
    assert len(fetched) == len(set(fetched))


def test_no_look_ahead() -> None:
    fetched: list[int] = []
    with closing(Prefetch(fetched.append, 8)) as prefetch:
        prefetch.get(1)
        prefetch.get(2)
    assert fetched == [1, 2]


@pytest.mark.parametrize("workers", WORKERS)
def test_error_is_raised_in_order(workers: int) -> None:
    fetched: list[int] = []

    def fetch(number: int) -> int:
        fetched.append(number)
        if number == 3:
            while not {1, 2} <= set(fetched):  # pages are begun in order, but no faster than threads are switched
                time.sleep(0.001)
            raise ValueError("page 3")
        return number

    with closing(Prefetch(fetch, workers)) as prefetch:
        assert [prefetch.get(number, range(number + 1, 1001)) for number in (1, 2)] == [1, 2]
        with pytest.raises(ValueError, match=r"^page 3$"):
            prefetch.get(3, range(4, 1001))
        assert len(fetched) < 3 + AHEAD_PER_WORKER * workers
        prefetch.discard()
        assert prefetch.get(4) == 4


def test_error_of_discarded_page() -> None:
    failed = threading.Event()

    def fetch(number: int) -> int:
        if number == 2:
            failed.set()
            raise ValueError("page 2")
        return number

    with closing(Prefetch(fetch, 2)) as prefetch:
        prefetch.get(1, [2])
        assert failed.wait(60)
        prefetch.discard()
        assert prefetch.get(3) == 3


def test_close_does_not_wait() -> None:
    begun, end = threading.Event(), threading.Event()
    fetched: list[int] = []

    def fetch(number: int) -> None:
        fetched.append(number)
        if number == 2:
            begun.set()
            assert end.wait(60)

    with closing(Prefetch(fetch, 1)) as prefetch:
        prefetch.get(1, range(2, 100))
        assert begun.wait(60)
    end.set()  # close has returned before the fetch ends
    assert fetched == [1, 2]


def test_discarded_pages_are_fetched_again() -> None:
    fetched: Counter[int] = Counter()

    def fetch(number: int) -> int:
        fetched[number] += 1
        return fetched[number]

    with closing(Prefetch(fetch, 1)) as prefetch:
        prefetch.get(1, [2, 3])
        assert prefetch.get(3) == 1  # so that page 2 has been fetched
        prefetch.discard()
        assert prefetch.get(2) == 2


def test_discard_reduces_look_ahead() -> None:
    fetched: list[int] = []
    with closing(Prefetch(fetched.append, 4)) as prefetch:

        def look_ahead() -> int:
            taken: list[int] = []
            prefetch.get(0, noting(taken, range(1, 1001)))
            return len(taken)

        assert look_ahead() == 4 * AHEAD_PER_WORKER - 1
        prefetch.discard()
        assert [look_ahead() for _ in range(9)] == [0] * 4 + [1] * 4 + [2]
        prefetch.discard()
        assert look_ahead() == 0
        assert max(look_ahead() for _ in range(100)) == look_ahead() == 4 * AHEAD_PER_WORKER - 1


class RateLimitError(Exception):
    pass


@contextmanager
def failing(throttle: Throttle) -> Iterator[None]:
    """A request that fails for another reason than the rate limit, which changes no limit."""
    with suppress(ValueError), throttle.slot(RateLimitError):
        yield
        raise ValueError


def succeed(throttle: Throttle) -> None:
    with throttle.slot(RateLimitError):
        pass


def assert_limit(throttle: Throttle, limit: int) -> None:
    """Check that the maximum number of concurrent requests is the limit."""
    entered = threading.Event()

    def another() -> None:
        with failing(throttle):
            entered.set()

    thread = threading.Thread(target=another)
    with ExitStack() as stack:
        for _ in range(limit):
            stack.enter_context(failing(throttle))
        thread.start()
        assert not entered.wait(0.02)
    thread.join(60)
    assert entered.is_set()


def rate_limited(throttle: Throttle, wave: int = 1) -> None:
    """Let some concurrent requests exceed the rate limit."""
    with suppress(RateLimitError), ExitStack() as stack:
        for _ in range(wave):
            stack.enter_context(throttle.slot(RateLimitError))
        raise RateLimitError


@pytest.mark.parametrize("limit", WORKERS)
def test_throttle_limit(limit: int) -> None:
    assert_limit(Throttle(limit), limit)


def test_rate_limit_halves_limit() -> None:
    throttle = Throttle(8)
    for failures, limit in enumerate([4, 2, 1, 1, 1], start=1):
        rate_limited(throttle)
        assert_limit(throttle, limit)
        assert throttle.failures == failures


def test_concurrent_rate_limits_count_once() -> None:
    throttle = Throttle(8)
    rate_limited(throttle, wave=8)
    assert throttle.failures == 1
    assert_limit(throttle, 4)


def test_success_between_concurrent_rate_limits() -> None:
    throttle = Throttle(8)
    with suppress(RateLimitError), throttle.slot(RateLimitError):
        rate_limited(throttle)
        succeed(throttle)
        assert throttle.failures == 0
        raise RateLimitError
    assert throttle.failures == 1
    assert_limit(throttle, 4)


def test_rate_limit_concurrent_with_a_success() -> None:
    throttle = Throttle(8)
    for _ in range(2):
        rate_limited(throttle)
    with suppress(RateLimitError), throttle.slot(RateLimitError):
        succeed(throttle)
        raise RateLimitError
    assert throttle.failures == 0
    assert_limit(throttle, 1)


def test_successes_raise_limit() -> None:
    throttle = Throttle(4)
    for _ in range(3):
        rate_limited(throttle)
    succeed(throttle)
    assert throttle.failures == 0
    assert_limit(throttle, 2)
    for _ in range(100):
        succeed(throttle)
    assert_limit(throttle, 4)


def test_failed_request_frees_slot() -> None:
    throttle = Throttle(1)
    with pytest.raises(ValueError, match=r"^failed$"), throttle.slot(RateLimitError):
        raise ValueError("failed")
    assert_limit(throttle, 1)


def test_longest_pause_counts() -> None:
    throttle = Throttle(1)
    ends = time.monotonic() + 0.3
    throttle.pause(0.3)
    throttle.pause(0)
    with throttle.slot(RateLimitError):
        assert time.monotonic() >= ends
