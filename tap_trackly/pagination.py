"""Pages of a listing: parsing them and moving from one to the next."""

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
    """An answer is not the page that was requested; the message names the field."""


@dataclass(frozen=True)
class Page:
    """A page that is what was requested.

    Attributes:
        number: Counted from 1.
        records: As the API sent them, numbers with a fraction as `Decimal`.
        count: How many records the API sent.
        per_page: How many records a full page has.
        total: How many records the API says that the listing has.
        total_pages: How many pages the API says that the listing has.
        is_clean: Whether no text in it can hold a NUL character or a lone surrogate.
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
        """How many records the listing has up to the end of this page."""
        return (self.number - 1) * self.per_page + self.count

    @property
    def last_number(self) -> int:
        """The number of the last page, by the count of records."""
        return max(1, -(-self.total // self.per_page))

    @property
    def has_next(self) -> bool:
        """Whether another page must follow, by the counts; after a full page beyond a capped count, always."""
        return self.is_full and (self.number != self.last_number or self.number < self.total_pages)


class TracklyPaginator(PageNumberPaginator):
    """Moves through the pages of one listing.

    Args:
        parse: Returns the page that a response holds.
    """

    def __init__(self, parse: Callable[[requests.Response], Page]) -> None:
        super().__init__(start_value=1)
        self._parse = parse

    @override
    def get_next(self, response: requests.Response) -> int | None:
        """Return the number after that of the response, which need not be the page after the current one."""
        page = self._parse(response)
        return page.number + 1 if page.has_next else None


def parse_page(body: bytes, records_key: str, number: int, *, paginated: bool = True) -> Page:
    """Return the page that the body of an answer holds.

    Args:
        body: The JSON text.
        records_key: The field that holds the records.
        number: The page that was requested.
        paginated: Whether the answer must have `pagination`; one that need not holds the whole listing.

    Raises:
        PageError: If the answer is anything else than this page; names the field.
    """
    answer, is_strict = _parse_json(body)
    if not isinstance(answer, dict):
        kind = "an array" if isinstance(answer, list) else f"a {type(answer).__name__}"
        raise PageError(f"the answer is not a JSON object but {kind}")
    if answer.get("error"):
        raise PageError("the answer has an error")
    if records_key not in answer:
        raise PageError(f"the answer has no field '{records_key}'")
    records = answer[records_key]
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        raise PageError(f"field '{records_key}' is not an array of objects")
    count = len(records)
    pagination = answer.get("pagination")
    if pagination is None and not paginated:
        pagination = {"page": 1, "per_page": count + 1, "total": count, "total_pages": 1}
    if not isinstance(pagination, dict):
        raise PageError("the answer has no object 'pagination'")
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
        found = f"has {page.count} records on page {number}, which by 'pagination' has {page.per_page} of {page.total}"
        raise PageError(f"field '{records_key}' {found}")


def _parse_json(body: bytes) -> tuple[Any, bool]:
    """The JSON of a body, and whether it can hold neither NaN nor lone surrogates.

    Raises:
        PageError: If the body is not JSON.
    """
    try:
        try:
            return _decode(body), True
        except ValueError:  # fast, but it refuses NaN, Infinity and lone surrogates, which records.py can replace
            return json.loads(body, parse_float=Decimal), False
    except (ArithmeticError, RecursionError) as error:
        raise PageError(f"the answer is not JSON ({type(error).__name__})") from None
    except ValueError as error:
        raise PageError(f"the answer is not JSON ({error})") from None


def _count(pagination: Mapping[str, Any], name: str) -> int:
    try:
        return msgspec.convert(pagination.get(name), _Count, strict=False)  # a count may be text
    except msgspec.ValidationError:
        raise PageError(f"field 'pagination.{name}' is not an integer of 0 or more") from None
