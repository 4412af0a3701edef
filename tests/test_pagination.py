"""Parsing of pages, and the paginator."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import requests

from tap_trackly.pagination import Page, PageError, TracklyPaginator, parse_page


def answer(*records: Any, **pagination: Any) -> dict[str, Any]:
    """Return the body of a response with offers, by default page 1 of 2."""
    return {
        "offers": list(records or [{"id": "a"}, {"id": "b"}]),
        "pagination": {"page": 1, "per_page": 2, "total": 3, "total_pages": 2, **pagination},
    }


def page_of(number: int, count: int, total: int, total_pages: int) -> Page:
    return Page(number, [{}] * count, count, 2, total, total_pages)


def parse(value: Any, number: int = 1, *, paginated: bool = True) -> Page:
    return parse_page(json.dumps(value).encode(), "offers", number, paginated=paginated)


def test_page() -> None:
    page = parse(answer())
    assert page == Page(1, [{"id": "a"}, {"id": "b"}], 2, 2, 3, 2, is_clean=True)


def test_counts_as_text() -> None:
    page = parse(answer(page="1", per_page="2", total="3", total_pages="2"))
    assert (page.number, page.per_page, page.total, page.total_pages) == (1, 2, 3, 2)


@pytest.mark.parametrize("error", [None, False, "", 0])
def test_empty_error_field(error: Any) -> None:
    assert parse({**answer(), "error": error}).count == 2


@pytest.mark.parametrize("total", [9223372036854775807, "9223372036854775807"])
def test_large_counts(total: Any) -> None:
    assert parse(answer(total=total)).total == int(total)


@pytest.mark.parametrize(
    "value,message",
    [
        ([], "Expected `object`, got `array`"),
        ("text", "Expected `object`, got `str`"),
        (None, "Expected `object`, got `null`"),
        ({**answer(), "error": "rate limit"}, "field 'error' is set"),
        ({"pagination": {}}, "no array of objects 'offers'"),
        ({"offers": None}, "no array of objects 'offers'"),
        ({"offers": {}}, "no array of objects 'offers'"),
        (answer({"id": "a"}, 1), "no array of objects 'offers'"),
        ({"offers": []}, "no object 'pagination'"),
        ({"offers": [], "pagination": []}, "no object 'pagination'"),
        (answer(page=None), "field 'pagination.page' is not an integer, but page 1 was requested"),
        (answer(page=1.0), "field 'pagination.page' is not an integer, but page 1 was requested"),
        (answer(page=True), "field 'pagination.page' is True, but page 1 was requested"),
        (answer(page="\n" * 99), "field 'pagination.page' is not an integer, but page 1 was requested"),
        (answer(per_page="2 "), "Expected `int`, got `str` in field `pagination.per_page`"),
        (answer(per_page="²"), "Expected `int`, got `str` in field `pagination.per_page`"),
        (answer(total=2.0), "Expected `int`, got `decimal` in field `pagination.total`"),
        (answer(total=True), "Expected `int`, got `bool` in field `pagination.total`"),
        (answer(total=-1), "Expected `int` >= 0 in field `pagination.total`"),
        (answer(total="-1"), "Expected `int` >= 0 in field `pagination.total`"),
        (answer(total=""), "Expected `int`, got `str` in field `pagination.total`"),
        (answer(total=2**63), f"Expected `int` <= {2**63 - 1} in field `pagination.total`"),
        (answer(total="9" * 19), f"Expected `int` <= {2**63 - 1} in field `pagination.total`"),
        (answer(total="9" * 5000), "Integer value out of range in field `pagination.total`"),
        (answer(per_page=2**63), f"Expected `int` <= {2**63 - 1} in field `pagination.per_page`"),
        (answer(total_pages=2**63), f"Expected `int` <= {2**63 - 1} in field `pagination.total_pages`"),
        (answer(total_pages=-1), "Expected `int` >= 0 in field `pagination.total_pages`"),
        (answer(total_pages="two"), "Expected `int`, got `str` in field `pagination.total_pages`"),
        ({"offers": [], "pagination": {"page": 1}}, "Expected `int`, got `null` in field `pagination.per_page`"),
        (answer(page=2), "field 'pagination.page' is 2, but page 1 was requested"),
        (answer(page=0), "field 'pagination.page' is 0, but page 1 was requested"),
        (answer(per_page=0), "Expected `int` >= 1 in field `pagination.per_page`"),
        (
            answer(per_page=1),
            "field 'offers' has 2 records on page 1, but 'per_page' is 1, 'total' is 3",
        ),
        (
            answer(per_page=3, total=4),
            "field 'offers' has 2 records on page 1, but 'per_page' is 3, 'total' is 4",
        ),
    ],
)
def test_invalid_page(value: Any, message: str) -> None:
    with pytest.raises(PageError) as error:
        parse(value)
    assert str(error.value) == f"the response is not the expected JSON object: {message}"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_last_page(count: int) -> None:
    records = [{"id": "a"}, {"id": "b"}][:count]
    page = parse({**answer(page=2, total=4), "offers": records}, 2)
    assert (page.count, page.is_full) == (count, count == 2)


@pytest.mark.parametrize(
    "body,reason",
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"<html>", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"offers": [', "Expecting value: line 1 column 13 (char 12)"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
        (b'{"offers": 1e99999999999999999999}', "InvalidOperation"),
    ],
)
def test_invalid_json(body: bytes, reason: str) -> None:
    with pytest.raises(PageError, match=r"^the response is not the expected JSON object: ") as error:
        parse_page(body, "offers", 1)
    assert reason in str(error.value)


def test_numbers_keep_every_digit() -> None:
    for number in ("1.10", "-0.0", "1E-20", "0." + "1234567890" * 100):
        page = parse_page(json.dumps(answer()).replace('"a"', number).encode(), "offers", 1)
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
    page = parse_page(json.dumps(answer()).replace('"a"', text).encode(), "offers", 1)
    found = page.records[0]["id"]
    assert (str(found) if isinstance(found, float) else found) == value
    assert page.is_clean is is_clean


def test_decimal_beside_lone_surrogate() -> None:
    body = json.dumps(answer()).replace('"a"', "1.10").replace('"b"', r'"\ud800"').encode()
    assert str(parse_page(body, "offers", 1).records[0]["id"]) == "1.10"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_response_without_pagination(count: int) -> None:
    page = parse({"offers": [{}] * count}, paginated=False)
    assert page == Page(1, [{}] * count, count, count + 1, count, 1, is_clean=True)
    assert (page.is_full, page.has_next, page.last_number) == (False, False, 1)


def test_missing_pagination() -> None:
    with pytest.raises(PageError, match="no object 'pagination'"):
        parse_page(b'{"offers": []}', "offers", 1)


def test_large_page_number() -> None:
    page = parse({**answer(page=1000, per_page=1000, total=1000_000), "offers": [{}] * 1000}, 1000)
    assert (page.number, page.is_full, page.last_number, page.has_next) == (1000, True, 1000, False)


def test_unexpected_pagination() -> None:
    assert parse(answer(), paginated=False).has_next


def test_page_2_without_pagination() -> None:
    with pytest.raises(PageError, match=r"field 'pagination\.page' is 1, but page 2 was requested"):
        parse({"offers": []}, 2, paginated=False)


@pytest.mark.parametrize(
    "page,last_number,has_next",
    [
        (page_of(1, 0, 0, 0), 1, False),
        (page_of(1, 2, 2, 1), 1, False),
        (page_of(1, 2, 3, 2), 2, True),
        (page_of(1, 2, 3, 0), 2, True),
        (page_of(2, 1, 3, 2), 2, False),
        (page_of(2, 2, 4, 2), 2, False),
        (page_of(2, 2, 4, 3), 2, True),
        (page_of(2, 1, 4, 3), 2, False),
        (page_of(2, 1, 3, 9), 2, False),
        (page_of(3, 2, 4, 2), 2, True),
        (page_of(3, 1, 4, 9), 2, False),
        (page_of(3, 0, 4, 9), 2, False),
        (page_of(1, 2, 0, 0), 1, False),
        (page_of(2, 2, 0, 0), 1, True),
        (page_of(1, 2, 0, 2), 1, True),
    ],
)
def test_next_page(page: Page, last_number: int, has_next: Any) -> None:
    assert (page.last_number, page.has_next) == (last_number, has_next)
    assert page.end == 2 * (page.number - 1) + page.count
    assert page.is_clean is False


def test_paginator() -> None:
    pages = {1: answer(), 2: answer({"id": "c"}, page=2)}
    paginator = TracklyPaginator(lambda response: parse(pages[response.status_code], response.status_code))
    assert paginator.current_value == 1
    response = requests.Response()
    response.status_code = 1
    paginator.advance(response)
    assert (paginator.current_value, paginator.finished) == (2, False)
    response.status_code = 2
    paginator.advance(response)
    assert paginator.finished


def test_paginator_follows_response() -> None:
    paginator = TracklyPaginator(lambda _: Page(7, [{}], 1, 1, 9, 9))
    paginator.advance(requests.Response())
    assert paginator.current_value == 8
