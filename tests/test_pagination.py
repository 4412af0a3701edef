"""How a listing is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tap_trackly.pagination import MAX_EXTRA_PAGES, MAX_PASSES, Listing, Page, PageError, Read, RecordError, accept

ALL = Listing()
ARCHIVED = Listing("archived")


class Server:
    """Answers as the API does, page by page, from lists of records.

    Attributes:
        asked: The listing and the number of each page that was asked for.
        before: Called with that count before each answer, to change the records.
    """

    def __init__(self, records: list[Any], archived: list[Any] | None = None, per_page: int = 2) -> None:
        self.records = {ALL: records, ARCHIVED: archived or []}
        self.per_page = per_page
        self.asked: list[tuple[Listing, int]] = []
        self.before: Callable[[int], None] = lambda _: None
        self.total_pages: int | None = None

    def fetch(self, listing: Listing, number: int) -> Page:
        self.asked.append((listing, number))
        self.before(len(self.asked))
        return accept(self.answer(listing, number), "offers", number)

    def answer(self, listing: Listing, number: int) -> dict[str, Any]:
        records = [{"id": item} if isinstance(item, str) else item for item in self.records[listing]]
        start = (number - 1) * self.per_page
        return {
            "offers": records[start : start + self.per_page],
            "pagination": {
                "page": number,
                "per_page": self.per_page,
                "total": len(records),
                "total_pages": -(-len(records) // self.per_page) if self.total_pages is None else self.total_pages,
            },
        }

    def read(self) -> tuple[Read, list[str]]:
        read = Read([ALL, ARCHIVED], self.fetch, ["id"])
        return read, [record["id"] for news in read for record, _ in news]


def names(count: int) -> list[str]:
    return [f"offer-{number}" for number in range(count)]


@pytest.mark.parametrize("count", range(8))
def test_each_record_comes_once_and_no_page_is_asked_for_that_is_not_needed(count: int) -> None:
    server = Server(names(count), archived=["old"])
    read, ids = server.read()
    assert ids == [*names(count), "old"]
    assert read.moves == []
    assert len(server.asked) == max(1, -(-count // 2)) + 1
    assert (read.records, read.expected, read.pages, read.passes) == (count + 1, count + 1, len(server.asked), 1)


@pytest.mark.parametrize("key", [None, ""])
def test_a_record_without_its_key_is_an_error_that_names_the_place(key: str | None) -> None:
    server = Server(["a", "b", "c", {"id": key}])
    with pytest.raises(RecordError, match=r"default listing, page 2, record 2: field 'id' is missing or empty"):
        server.read()


def test_a_key_of_several_parts_names_the_one_that_is_missing() -> None:
    server = Server([{"list_id": [], "phone_number": None}])
    read = Read([ALL], server.fetch, ["list_id", "phone_number"])
    with pytest.raises(RecordError, match="page 1, record 1: field 'phone_number' is missing or empty"):
        list(read)


def test_a_server_that_always_announces_one_more_page_is_not_read_for_ever() -> None:
    asked: list[int] = []

    def fetch(_: Listing, number: int) -> Page:
        asked.append(number)
        return Page(number, [{"id": f"{number}"}], 1, number + 1, number + 1)

    read = Read([ALL], fetch, ["id"])
    assert len(list(read)) == len(asked) == MAX_PASSES * (2 + MAX_EXTRA_PAGES)
    assert read.moves


def good_answer(**changes: Any) -> dict[str, Any]:
    pagination = {"page": 1, "per_page": 2, "total": 3, "total_pages": 2}
    return {"offers": [{"id": "a"}, {"id": "b"}], "pagination": {**pagination, **changes}}


def test_whole_numbers_may_come_as_text() -> None:
    page = accept(good_answer(page="1", per_page="2", total="3", total_pages="2"), "offers", 1)
    assert (page.number, page.per_page, page.total, page.total_pages) == (1, 2, 3, 2)


@pytest.mark.parametrize(
    "answer,message",
    [
        ([], "the answer is no JSON object but a list"),
        ("text", "the answer is no JSON object but a str"),
        (None, "the answer is no JSON object but a NoneType"),
        ({"pagination": {}}, "the answer has no field 'offers'"),
        ({"offers": None}, "field 'offers' is no list of objects"),
        ({"offers": {}}, "field 'offers' is no list of objects"),
        ({"offers": [1]}, "field 'offers' is no list of objects"),
        ({"offers": []}, "the answer has no object 'pagination'"),
        ({"offers": [], "pagination": []}, "the answer has no object 'pagination'"),
        (good_answer(page=None), "field 'pagination.page' is no whole number"),
        (good_answer(total=True), "field 'pagination.total' is no whole number"),
        (good_answer(total=-1), "field 'pagination.total' is no whole number"),
        (good_answer(total_pages="two"), "field 'pagination.total_pages' is no whole number"),
        (good_answer(per_page=0), "field 'pagination.per_page' is 0"),
        (good_answer(page=2), "field 'pagination.page' is 2, asked for was page 1"),
        (good_answer(per_page=1), "field 'offers' has 2 records on page 1, which by 'pagination' has 1 of 3"),
        (good_answer(per_page=3, total=4), "field 'offers' has 2 records on page 1, which by 'pagination' has 3 of 4"),
    ],
)
def test_an_answer_that_is_not_the_page_is_refused_by_name(answer: Any, message: str) -> None:
    with pytest.raises(PageError) as refusal:
        accept(answer, "offers", 1)
    assert str(refusal.value) == message


def test_too_low_a_number_of_pages_loses_nothing() -> None:
    server = Server(names(7))
    server.total_pages = 1
    read, ids = server.read()
    assert (ids, read.moves) == (names(7), [])


@pytest.mark.parametrize("count,pages", [(7, 4), (8, 5)])
def test_too_high_a_number_of_pages_asks_for_no_more_than_shows_the_end(count: int, pages: int) -> None:
    server = Server(names(count))
    server.total_pages = 1_000_000
    read, ids = server.read()
    assert (ids, read.moves) == (names(count), [])
    assert len([listing for listing, _ in server.asked if listing is ALL]) == pages
