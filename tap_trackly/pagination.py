"""Pages of a listing: parsing, and the paginator."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import MAX_PREC, Clamped, Context, Decimal, Overflow, Subnormal
from typing import Annotated, Any

import msgspec
import requests
from singer_sdk.pagination import PageNumberPaginator
from typing_extensions import override

Record = dict[str, Any]

MAX_EXPONENT = 307  # the largest exponent of numbers that no target reads as Infinity

# 64-bit integers: more than any count.
_MAX_COUNT = 2**63 - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MAX_COUNT)]

# Keeps every digit, and raises ArithmeticError for numbers beyond the range that every target can store.
_decimals = Context(prec=MAX_PREC, Emin=-MAX_EXPONENT, Emax=MAX_EXPONENT, traps=[Clamped, Overflow, Subnormal])
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=_decimals.create_decimal).decode


class PageError(ValueError):
    """A response is not the requested page; the message names the field."""


@dataclass(frozen=True)
class Page:
    """A page, checked to be the requested one.

    Attributes:
        number: The page number, from 1.
        records: The records as the API sent them, numbers with a fraction or an exponent as `Decimal`.
        count: The number of records that the API sent.
        per_page: The number of records on a full page.
        total: The number of records in the listing, according to the API.
        total_pages: The number of pages of the listing, according to the API.
        is_clean: Whether no character and no decimal number in it needs to be replaced.
    """

    number: int
    records: list[Any]  # not list[Record], for which msgspec would copy each record
    count: int
    per_page: Annotated[int, msgspec.Meta(ge=1, le=_MAX_COUNT)]
    total: _Count
    total_pages: _Count
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
        """Whether there is another page, by the counts; also after a full page past the announced end."""
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
    try:
        answer, is_clean = _parse_json(body)
        return _read_page(answer, records_key, number, paginated=paginated, is_clean=is_clean)
    except (ArithmeticError, RecursionError, ValueError) as error:
        reason = str(error).replace(" - at `$.", " in field `pagination.")
        raise PageError(f"the response is not the expected JSON object: {reason}") from None


def _parse_json(body: bytes) -> tuple[dict[str, Any], bool]:
    """Return the JSON object, and whether no character and no decimal number in it needs to be replaced."""
    try:
        return _decode(body), b"\\u0000" not in body
    except (ArithmeticError, ValueError):  # such as NaN or a lone surrogate, which records.py replaces
        return msgspec.convert(json.loads(body, parse_float=Decimal), dict[str, Any]), False


def _read_page(answer: dict[str, Any], records_key: str, number: int, *, paginated: bool, is_clean: bool) -> Page:
    if answer.get("error"):
        raise ValueError("field 'error' is set")
    records = answer.get(records_key)
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        raise ValueError(f"no array of objects '{records_key}'")
    count = len(records)
    pagination = answer.get("pagination")
    if pagination is None and not paginated:
        pagination = {"page": 1, "per_page": count + 1, "total": count, "total_pages": 1}
    if not isinstance(pagination, dict):
        raise ValueError("no object 'pagination'")  # noqa: TRY004
    echo = pagination.get("page")
    if str(echo) != str(number):
        found = echo if isinstance(echo, int) else "not an integer"
        raise ValueError(f"field 'pagination.page' is {found}, but page {number} was requested")
    counts = {name: pagination.get(name) for name in ("per_page", "total", "total_pages")}
    fields = {"number": number, "records": records, "count": count, "is_clean": is_clean, **counts}
    page = msgspec.convert(fields, Page, strict=False)  # a count may be a string
    if count > page.per_page or (number < page.last_number and not page.is_full):
        found = f"{count} records on page {number}, but 'per_page' is {page.per_page}, 'total' is {page.total}"
        raise ValueError(f"field '{records_key}' has {found}")
    return page
