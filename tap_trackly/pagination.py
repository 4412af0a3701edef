"""Pages of a listing: parsing, and the paginator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import requests
from singer_sdk.pagination import PageNumberPaginator
from typing_extensions import override

Record = dict[str, Any]

# The maximum is larger than any count of records, and small enough to calculate with.
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class PageError(ValueError):
    """A response is not the requested page; the message names the field."""


@dataclass(frozen=True)
class Page:
    """A page, checked to be the requested one.

    Attributes:
        number: The page number, from 1.
        records: The records as the API sent them, numbers with a fraction as `Decimal`.
        count: The number of records that the API sent.
        per_page: The number of records on a full page.
        total: The number of records in the listing, according to the API.
        total_pages: The number of pages of the listing, according to the API.
        is_clean: Whether it cannot contain NUL characters or lone surrogates.
    """

    number: int
    records: list[Record]
    count: int
    per_page: int
    total: int
    total_pages: int
    is_clean: bool = False

    @property
    def is_full(self) -> bool:
        """Whether the page has as many records as a page can have."""
        return self.count >= self.per_page

    @property
    def end(self) -> int:
        """The number of records up to the end of this page."""
        return (self.number - 1) * self.per_page + self.count

    @property
    def last_number(self) -> int:
        """The number of the last page, by the count of records."""
        return max(1, -(-self.total // self.per_page))

    @property
    def has_next(self) -> bool:
        """Whether there is another page, by the counts; after a full page beyond a capped count, always."""
        return self.is_full and (self.number != self.last_number or self.number < self.total_pages)


class TracklyPaginator(PageNumberPaginator):
    """Moves through the pages of one listing.

    Args:
        parse: Returns the page in a response.
    """

    def __init__(self, parse: Callable[[requests.Response], Page]) -> None:
        super().__init__(start_value=1)
        self._parse = parse

    @override
    def get_next(self, response: requests.Response) -> int | None:
        """Return the page number after that of the response, which may differ from the current page."""
        page = self._parse(response)
        return page.number + 1 if page.has_next else None


def parse_page(body: bytes, records_key: str, number: int, *, paginated: bool = True) -> Page:
    """Return the page in the body of a response.

    Args:
        body: The JSON text.
        records_key: The field that contains the records.
        number: The page that was requested.
        paginated: Whether `pagination` is required. Without it, the response is the whole listing.

    Raises:
        PageError: If the response is not the requested page; the message names the field.
    """
    answer, is_strict = _parse_json(body)
    if not isinstance(answer, dict):
        raise PageError("the response is not a JSON object")
    if answer.get("error"):
        raise PageError("the response has an error")
    if records_key not in answer:
        raise PageError(f"the response has no field '{records_key}'")
    records = answer[records_key]
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        raise PageError(f"field '{records_key}' is not an array of objects")
    count = len(records)
    pagination = answer.get("pagination")
    if pagination is None and not paginated:
        pagination = {"page": 1, "per_page": count + 1, "total": count, "total_pages": 1}
    if not isinstance(pagination, dict):
        raise PageError("the response has no object 'pagination'")
    echo, per_page, total, pages = (_count(pagination, name) for name in ("page", "per_page", "total", "total_pages"))
    page = Page(echo, records, count, per_page, total, pages, is_strict and b"\\u0000" not in body)
    _check(page, records_key, number)
    return page


def _check(page: Page, records_key: str, number: int) -> None:
    if page.number != number:
        raise PageError(f"field 'pagination.page' is {page.number}, but page {number} was requested")
    if page.per_page < 1:
        raise PageError("field 'pagination.per_page' is 0")
    if page.count > page.per_page or (page.number < page.last_number and not page.is_full):
        found = f"has {page.count} records on page {number}, but 'per_page' is {page.per_page}, 'total' is {page.total}"
        raise PageError(f"field '{records_key}' {found}")


def _parse_json(body: bytes) -> tuple[Any, bool]:
    """Return the parsed JSON, and whether it cannot contain NaN, Infinity or lone surrogates.

    Raises:
        PageError: If the body is not JSON.
    """
    try:
        try:
            return _decode(body), True
        except ValueError:  # msgspec rejects NaN, Infinity and lone surrogates, which records.py replaces
            return json.loads(body, parse_float=Decimal), False
    except (ArithmeticError, RecursionError) as error:
        raise PageError(f"the response is not JSON ({type(error).__name__})") from None
    except ValueError as error:
        raise PageError(f"the response is not JSON ({error})") from None


def _count(pagination: Mapping[str, Any], name: str) -> int:
    try:
        return msgspec.convert(pagination.get(name), _Count, strict=False)  # a count may be a string
    except msgspec.ValidationError:
        raise PageError(f"field 'pagination.{name}' is not a non-negative integer") from None
