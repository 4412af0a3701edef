"""The endpoints of the API: their filters, default listings and pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.samples import Record
from tap_trackly.tap import STREAMS

DEFAULT_PAGE_SIZE = 50

_BOOLEANS = {"true": True, "false": False}


class QueryError(ValueError):
    """The API rejects a query; the message says why."""


@dataclass(frozen=True)
class Endpoint:
    """How the API lists one kind of record.

    Attributes:
        filters: The query parameters that filter, each with a pattern of its valid values.
        default_view: Whether a status is listed without a `status` filter; None if all are.
        largest_page: The maximum of `per_page`; None if the endpoint is not paginated.
    """

    filters: Mapping[str, str]
    default_view: Callable[[str], bool] | None = None
    largest_page: int | None = 100


def _all_but(status: str) -> Callable[[str], bool]:
    return lambda other: other != status


def _only(status: str) -> Callable[[str], bool]:
    return lambda other: other == status


ENDPOINTS = {
    "offers": Endpoint({"status": "active|paused|archived"}, _all_but("archived")),
    "contacts": Endpoint({"list_number": r"\+[1-9]\d{1,14}", "active": "true|false"}, largest_page=1000),
    "lists": Endpoint({"status": "active|paused|suspended|deleted"}, _all_but("deleted"), largest_page=None),
    "creatives": Endpoint(
        {"status": "active|paused|archived", "creative_type": "automated|one_time|welcome"}, _only("active")
    ),
    "audiences": Endpoint({"status": "active|archived"}, _only("active")),
    "schedules": Endpoint({"status": "draft|off|on|complete|archive"}, _all_but("archive"), largest_page=None),
}
# A stream of the tap that is not described above has an empty listing, until it gets samples.
for stream in STREAMS:
    ENDPOINTS.setdefault(vars(stream)["name"], Endpoint({}, largest_page=100 if stream.paginated else None))


def answer(kind: str, records: list[Record], query: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of the response to a query.

    Args:
        kind: The name of the endpoint, which is also the field that holds the records.
        records: All records of the account.
        query: The query parameters; unknown ones are ignored.

    Raises:
        QueryError: If the value of a parameter is not valid.
    """
    endpoint = ENDPOINTS[kind]
    listed = _listed(endpoint, records, query)
    if endpoint.largest_page is None:
        return {kind: listed}
    page, per_page = _whole(query, "page", 1), _whole(query, "per_page", DEFAULT_PAGE_SIZE)
    per_page = min(per_page, endpoint.largest_page)
    start = (page - 1) * per_page
    return {
        kind: listed[start : start + per_page],
        "pagination": {
            "page": page,
            "per_page": per_page,
            "total": len(listed),
            "total_pages": -(-len(listed) // per_page),
        },
    }


def _listed(endpoint: Endpoint, records: list[Record], query: Mapping[str, str]) -> list[Record]:
    for name, pattern in endpoint.filters.items():
        if name in query:
            wanted = _value(name, query[name], pattern)
            records = [record for record in records if record.get(name) == wanted]
    shows = endpoint.default_view
    if shows is None or "status" in query:
        return records
    return [record for record in records if shows(record["status"])]


def _value(name: str, text: str, pattern: str) -> str | bool:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise QueryError(f"{name} must be {pattern}.")
    return _BOOLEANS.get(text, text)


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch("[0-9]*[1-9][0-9]*", text):
        raise QueryError(f"{name} must be a whole number from 1.")
    return int(text)
