"""Parsing of pages, and the paginator."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tap_trackly.pagination import Page, PageError, PageResponse, TracklyPaginator, parse_page

AB = [{"id": "a"}, {"id": "b"}]


def answer(*records: Any, **pagination: Any) -> dict[str, Any]:
    """Return the body of a response with offers, by default page 1 of 2."""
    hints = {"page": 1, "per_page": 2, "total": 3, "total_pages": 2, **pagination}
    return {"offers": list(records or AB), "pagination": {key: hint for key, hint in hints.items() if hint != "none"}}


def parse(value: Any, number: int = 1, *, paginated: bool = True) -> Page:
    return parse_page(json.dumps(value).encode(), "offers", number, 2, paginated=paginated)


def test_page() -> None:
    page = parse(answer())
    assert page == Page(1, AB, per_page=2, total=3, last_number=2, is_full=True, is_clean=True)


@pytest.mark.parametrize(
    "value,message",
    [
        ([], "the response is not a JSON object: Expected `object`, got `array`"),
        ("text", "the response is not a JSON object: Expected `object`, got `str`"),
        (None, "the response is not a JSON object: Expected `object`, got `null`"),
        ({"offers": [], "error": "rate limit"}, "field 'error' is set"),
        ({"offers": None, "error": {"code": 1}}, "field 'error' is set"),
        ({"pagination": {}}, "'offers' is not an array of objects"),
        ({"offers": {}}, "'offers' is not an array of objects"),
        ({"offers": "ab"}, "'offers' is not an array of objects"),
        ({"offers": [1, None]}, "'offers' is not an array of objects"),
        ({"offers": 0}, "'offers' is not an array of objects"),
    ],
)
def test_response_that_is_no_page(value: Any, message: str) -> None:
    with pytest.raises(PageError) as error:
        parse(value)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "body,reason",
    [
        (b"", "the response is not a JSON object: Expecting value: line 1 column 1 (char 0)"),
        (b" <html>", "the response is HTML, not JSON. Check the setting api_url"),
        (b'{"offers": [', "the response is not a JSON object: Expecting value: line 1 column 13 (char 12)"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
def test_response_that_is_not_json(body: bytes, reason: str) -> None:
    with pytest.raises(PageError) as error:
        parse_page(body, "offers", 1, 2)
    assert reason in str(error.value)


def has_next(page: Page) -> bool:
    """Return whether another page follows."""
    paginator = TracklyPaginator(start_value=1)
    paginator.advance(PageResponse(page))
    return not paginator.finished


@pytest.mark.parametrize("error", [None, False, "", 0])
def test_empty_error_field(error: Any) -> None:
    assert parse({**answer(), "error": error}).doubt == ""


@pytest.mark.parametrize("items", [[], None])
@pytest.mark.parametrize("hints", [{}, {"pagination": None}, {"pagination": {"page": 0, "per_page": 0}}])
def test_empty_page_needs_no_pagination(items: Any, hints: dict[str, Any]) -> None:
    page = parse({"offers": items, **hints})
    assert (page.records, page.total, page.doubt, has_next(page)) == ([], 0, "", False)
    assert parse({"offers": items, **hints}, 2).total is None


def test_page_without_pagination() -> None:
    page = parse({"offers": AB})
    assert page == Page(1, AB, per_page=2, is_full=True, is_clean=True)
    assert has_next(page)
    assert parse({"offers": AB, "pagination": [1]}) == page


@pytest.mark.parametrize("number", [3, "3", "3.0", 3.0, "3e0", " 3"])
def test_count_in_any_form(number: Any) -> None:
    assert parse(answer(total=number)).total == 3


def test_large_count() -> None:
    assert parse(answer(total=2**63 - 1)).total == 2**63 - 1


@pytest.mark.parametrize(
    "number", ["none", None, -1, "-1", "", "x", [], {}, True, 1.5, 10**19, "9" * 5000, "1e400", "NaN", "Infinity"]
)
def test_unusable_count(number: Any) -> None:
    page = parse(answer(total=number, per_page=number, total_pages=number))
    assert (page.total, page.per_page, page.last_number, page.is_full) == (None, 2, 0, True)
    assert page.doubt == ""


def test_missing_per_page_is_the_requested_one() -> None:
    page = parse(answer(per_page="none"))
    assert (page.per_page, page.last_number) == (2, 2)
    page = parse({**answer(per_page=0, total="none", total_pages="none"), "offers": AB[:1]})
    assert (page.per_page, has_next(page)) == (2, True)


def test_missing_total_pages_follows_from_total() -> None:
    assert parse(answer(total=5, total_pages="none")).last_number == 3
    assert parse(answer(total=5, total_pages=2)).last_number == 3
    assert parse(answer(total="none", total_pages=2)).last_number == 2


def test_page_of_many_records_is_plain() -> None:
    page = parse_page(json.dumps({"offers": [{"id": "a"}] * 1000}).encode(), "offers", 1, 1000)
    assert (len(page.records), page.doubt) == (1000, "")


@pytest.mark.parametrize(
    "value,doubt",
    [
        ({**answer(), "error": "rate limit"}, "field 'error' is set"),
        (answer(AB[0], 1), "some items are not objects"),
        (answer(page=2), "'pagination.page' is not the requested page"),
        (answer(page=0), "'pagination.page' is not the requested page"),
        (answer(page="none"), ""),
        (answer(page="1"), ""),
        (answer(page=1.0), ""),
        (answer(per_page=1), "not as many records as announced"),
        (answer(per_page=3, total=4), "not as many records as announced"),
        (answer(per_page=3, total=3), "not as many records as announced"),
        (answer(per_page=3, total=2), ""),
        (answer(per_page=3, total="none"), ""),
        ({"offers": [], "pagination": {"page": 9, "per_page": 2, "total": 3}}, "not as many records as announced"),
    ],
)
def test_doubt(value: Any, doubt: str) -> None:
    page = parse(value)
    assert page.doubt == doubt
    assert page.records == [item for item in value["offers"] if isinstance(item, dict)]


@pytest.mark.parametrize("count,doubt", [(0, "not as many records as announced"), (1, ""), (2, "")])
def test_doubt_about_last_page(count: int, doubt: str) -> None:
    assert parse({**answer(page=2), "offers": AB[:count]}, 2).doubt == doubt


def test_page_after_the_last_is_plain() -> None:
    page = parse({**answer(page=2), "offers": []}, 3)
    assert (page.doubt, has_next(page)) == ("", False)


def test_numbers_keep_every_digit() -> None:
    for number in ("1.10", "-0.0", "1E-20", "0." + "1234567890" * 100):
        page = parse_page(json.dumps(answer()).replace('"a"', number).encode(), "offers", 1, 2)
        assert str(page.records[0]["id"]) == number


@pytest.mark.parametrize(
    "text,value,is_clean",
    [
        ('"é"', "é", True),
        (r'"\u0001"', "\x01", True),
        (r'"\u0000"', "\x00", False),
        (r'"\ud800"', "\ud800", False),
        ("NaN", "nan", False),
        ("-Infinity", "-inf", False),
        ("1.10", Decimal("1.10"), True),
        ("9.99e307", Decimal("9.99e307"), True),
        ("1e308", Decimal("1e308"), False),
        ("1" * 309 + ".5", Decimal("1" * 309 + ".5"), False),
        ("-1e-307", Decimal("-1e-307"), True),
        ("1e-308", Decimal("1e-308"), False),
        ("0E+500", Decimal("0E+500"), False),
    ],
)
def test_is_clean(text: str, value: Any, is_clean: Any) -> None:
    page = parse_page(json.dumps(answer()).replace('"a"', text).encode(), "offers", 1, 2)
    found = page.records[0]["id"]
    assert (str(found) if isinstance(found, float) else found) == value
    assert page.is_clean is is_clean


def test_decimal_beside_lone_surrogate() -> None:
    body = json.dumps(answer()).replace('"a"', "1.10").replace('"b"', r'"\ud800"').encode()
    assert str(parse_page(body, "offers", 1, 2).records[0]["id"]) == "1.10"


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    body = json.dumps(answer({"id": "?"}, AB[1])).encode().replace(b"?", b"caf\xe9")
    page = parse_page(body, "offers", 1, 2)
    assert (page.records, page.is_clean, page.doubt) == ([{"id": "caf\ufffd"}, AB[1]], False, "")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_endpoint_without_pages(count: int) -> None:
    page = parse({"offers": [{}] * count}, paginated=False)
    assert (len(page.records), page.total, page.doubt, has_next(page)) == (count, count, "", False)


def test_unexpected_pages() -> None:
    assert has_next(parse(answer(), paginated=False))


@pytest.mark.parametrize(
    "count,hints,expected",
    [
        (2, {"total": 3}, True),
        (2, {"total": 2, "total_pages": 1}, True),  # the count may be capped
        (2, {"total": None, "total_pages": None}, True),
        (1, {"total": None, "total_pages": None}, True),
        (1, {"total": None, "total_pages": None, "per_page": None}, True),
        (1, {"total": 3}, True),
        (1, {"total": 1, "total_pages": 1}, False),
        (2, {"total": 1, "total_pages": 1, "per_page": 1}, True),
        (0, {"total": 3}, True),
        (0, {"total": 0, "total_pages": 0}, False),
        (0, {"total": 0, "total_pages": 0, "per_page": None}, False),
    ],
)
def test_end_of_listing(count: int, hints: dict[str, Any], expected: Any) -> None:
    assert has_next(parse({**answer(**hints), "offers": AB[:count]})) is expected


def test_full_page_with_items_that_are_not_objects() -> None:
    assert has_next(parse(answer(AB[0], 1, total=None, total_pages=None)))


def test_paginator() -> None:
    paginator = TracklyPaginator(start_value=1)
    paginator.advance(PageResponse(Page(1, AB, 2, 3, 2, is_full=True)))
    assert (paginator.current_value, paginator.finished) == (2, False)
    paginator.advance(PageResponse(Page(2, AB[:1], 2, 3, 2)))
    assert paginator.finished


def test_pages_smaller_than_announced_are_read_on() -> None:
    paginator = TracklyPaginator(start_value=1)
    paginator.advance(PageResponse(Page(1, AB[:1], 2, 2, 1)))  # a maximum of 1, but 2 are echoed
    assert (paginator.current_value, paginator.finished) == (2, False)
    paginator.advance(PageResponse(Page(2, AB[1:], 2, 2, 1)))
    assert (paginator.current_value, paginator.finished) == (3, False), "as large as the first page"
    paginator.advance(PageResponse(Page(3, [], 2, 2, 1)))
    assert paginator.finished


def test_page_that_is_not_full_is_the_last_one_only_if_the_count_fits() -> None:
    for total, is_last in ((3, True), (2, False), (None, False)):
        paginator = TracklyPaginator(start_value=1)
        paginator.advance(PageResponse(Page(1, AB, 2, total, is_full=True)))
        paginator.advance(PageResponse(Page(2, AB[:1], 2, total)))
        assert paginator.finished is is_last


def test_announced_pages_after_an_empty_one() -> None:
    paginator = TracklyPaginator(start_value=1)
    paginator.advance(PageResponse(Page(1, AB, 2, 6, 3, is_full=True)))
    paginator.advance(PageResponse(Page(2, [], 1)))
    assert (paginator.current_value, paginator.finished) == (3, False)


def test_empty_page_after_fewer_records_than_announced() -> None:
    paginator = TracklyPaginator(start_value=1)
    paginator.advance(PageResponse(Page(1, AB[:1], 2, 2, 1)))
    paginator.advance(PageResponse(Page(2, [], 2, 2, 1)))
    assert paginator.finished
