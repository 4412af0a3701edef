"""Pages of a listing: what is in a response, and which page is next."""

import json
from decimal import MAX_PREC, Clamped, Context, Decimal, Overflow, Subnormal
from typing import Any

import msgspec
import requests
from singer_sdk.pagination import PageNumberPaginator
from typing_extensions import override

from tap_trackly.records import MAX_EXPONENT, integer

Record = dict[str, Any]

# Keeps every digit, and raises ArithmeticError for numbers beyond the range that every target can store.
_decimals = Context(prec=MAX_PREC, Emin=-MAX_EXPONENT, Emax=MAX_EXPONENT, traps=[Clamped, Overflow, Subnormal])
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=_decimals.create_decimal).decode


class ListingError(Exception):
    """A listing cannot be read; other listings may be."""


class PageError(ValueError):
    """A response is not a page; the message says why."""


class Page(msgspec.Struct):
    """The records in a response, and what it says about the listing.

    Attributes:
        number: The page number that was requested, from 1.
        records: The records as the API sent them, numbers with a fraction or an exponent as `Decimal`.
        per_page: The number of records on a full page: as announced, or else as requested.
        total: The number of records in the listing, as announced; None if it is not.
        last_number: The number of the last page, as announced; 0 if it is not.
        is_full: Whether it has as many items as a full page.
        doubt: Why the response looks like a transient error; "" if it does not.
        is_clean: Whether no character and no decimal number in it needs to be replaced.
        earlier: The records of an earlier response to the same request, which looked like a transient error.
    """

    number: int
    records: list[Record]
    per_page: int
    total: int | None = None
    last_number: int = 0
    is_full: bool = False
    doubt: str = ""
    is_clean: bool = False
    earlier: list[Record] = []


class PageResponse(requests.Response):
    """What is kept of a response: its page. The body would take memory until the page is read."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page


class TracklyPaginator(PageNumberPaginator):
    """Moves through the pages of one listing."""

    _records = _first = _last_number = 0

    @override
    def get_next(self, response: PageResponse) -> int | None:  # type: ignore[override]
        """Return the number of the page after the response, or None after the last one."""
        page = response.page
        self._records += len(page.records)
        self._first = self._first or len(page.records)
        self._last_number = max(self._last_number, page.last_number)
        # Pages may be smaller than announced, so one that is not full is the last one only if the count fits, and
        # not even then if it is as large as the first one.
        is_as_large = page.number > 1 and len(page.records) >= self._first
        is_open = page.is_full or (page.records and (is_as_large or self._records != page.total))
        return page.number + 1 if is_open or page.number < self._last_number else None


def parse_page(body: bytes, records_key: str, number: int, per_page: int, *, paginated: bool = True) -> Page:
    """Return the page in the body of a response.

    Args:
        body: The JSON text.
        records_key: The field that contains the records.
        number: The page number that was requested.
        per_page: The page size that was requested.
        paginated: Whether the endpoint has pages. Otherwise a response without `pagination` is the whole listing.

    Raises:
        PageError: If it contains no array of objects.
    """
    answer, is_clean = _parse_json(body)
    items = answer.get(records_key, "")
    items = [] if items is None else items
    records = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    error = "field 'error' is set" if answer.get("error") else ""
    if not records and (items != [] or error):
        raise PageError(error or f"'{records_key}' is not an array of objects")
    hints = answer.get("pagination")
    if not isinstance(hints, dict):
        hints = {} if paginated else {"total": len(records), "per_page": len(records) + 1}
    echo, size, total, pages = (_count(hints.get(name)) for name in ("page", "per_page", "total", "total_pages"))
    if total is None and number == 1 and not items:
        total = 0  # an empty listing needs no counts
    size = size or per_page
    last_number = max(-(-(total or 0) // size), pages or 0)
    doubt = error
    if len(records) < len(items):
        doubt = "some items are not objects"
    elif records and echo not in {None, number}:
        doubt = "'pagination.page' is not the requested page"
    elif not min(size, (total or 0) - (number - 1) * size) <= len(records) <= size:
        doubt = "not as many records as announced"
    return Page(number, records, size, total, last_number, len(items) >= size, doubt, is_clean)


def _parse_json(body: bytes) -> tuple[dict[str, Any], bool]:
    """Return the JSON object, and whether no character and no decimal number in it needs to be replaced."""
    try:
        return _decode(body), b"\\u0000" not in body
    except (ArithmeticError, RecursionError, ValueError):  # such as NaN or a lone surrogate, which records.py replaces
        text = body.decode(json.detect_encoding(body), errors="replace")
    if text.lstrip().startswith("<"):
        raise PageError("the response is HTML, not JSON. Check the setting api_url")
    try:
        return msgspec.convert(json.loads(text, parse_float=Decimal), dict[str, Any]), False
    except (RecursionError, ValueError) as error:
        raise PageError(f"the response is not a JSON object: {error}") from None


def _count(hint: Any) -> int | None:
    """Return a count, which may be text or 4.0; None if it is not one."""
    try:
        return count if (count := integer(hint)) >= 0 else None
    except ValueError:
        return None
