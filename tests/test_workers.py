"""Pages side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tap_trackly.pagination import Listing, Page
from tap_trackly.workers import PAGES_AHEAD, side_by_side

WORKERS = [1, 2, 8, 32]


def page(number: int) -> Page:
    return Page(number, [], 1, 0, 0)


def wanted(count: int, taken: list[int] | None = None) -> Iterator[tuple[Listing, int]]:
    for number in range(1, count + 1):
        if taken is not None:
            taken.append(number)
        yield Listing(), number


def wait_for_no_threads_but(before: set[threading.Thread]) -> None:
    limit = time.monotonic() + 5
    while set(threading.enumerate()) - before:
        assert time.monotonic() < limit, "threads stayed"
        time.sleep(0.01)


@pytest.mark.parametrize("count", WORKERS)
def test_pages_come_in_order_whatever_their_answers_take(count: int) -> None:
    def fetch(_: Listing, number: int) -> Page:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return page(number)

    before = set(threading.enumerate())
    assert [page.number for page in side_by_side(count)(fetch, wanted(50))] == list(range(1, 51))
    wait_for_no_threads_but(before)


@pytest.mark.parametrize("count", WORKERS)
def test_a_bounded_number_of_pages_is_fetched_ahead(count: int) -> None:
    taken: list[int] = []
    pages = side_by_side(count)(lambda _, number: page(number), wanted(1000, taken))
    for handed_on in range(1, 100):
        next(pages)
        assert len(taken) - handed_on < PAGES_AHEAD * count
    pages.close()


@pytest.mark.parametrize("count", WORKERS)
def test_an_error_ends_the_work(count: int) -> None:
    fetched: list[int] = []

    def fetch(_: Listing, number: int) -> Page:
        fetched.append(number)
        if number == 3:
            raise ValueError("page 3")
        time.sleep(0.01)
        return page(number)

    before = set(threading.enumerate())
    pages = side_by_side(count)(fetch, wanted(1000))
    assert [next(pages).number, next(pages).number] == [1, 2]
    with pytest.raises(ValueError, match="page 3"):
        next(pages)
    wait_for_no_threads_but(before)
    assert len(fetched) <= 3 + 2 * count


@pytest.mark.parametrize("count", WORKERS)
def test_an_early_end_leaves_no_thread(count: int) -> None:
    fetched: list[int] = []

    def fetch(_: Listing, number: int) -> Page:
        fetched.append(number)
        time.sleep(0.01)
        return page(number)

    before = set(threading.enumerate())
    pages = side_by_side(count)(fetch, wanted(1000))
    next(pages)
    pages.close()
    wait_for_no_threads_but(before)
    assert len(fetched) <= PAGES_AHEAD * count + count
