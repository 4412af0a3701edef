"""A fake Trackly whose responses differ from the documented ones in one respect."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import simplejson

from sandbox.account import Account
from sandbox.samples import Record, as_text, make_offers
from tests.fake_trackly import KEY, FakeTrackly, Fault, Handler, Request
from tests.servers import serving
from tests.tap import started

PROJECT = Path(__file__).parent.parent
TEMPLATE = (sys.executable, "-m", "benchmarks.contenders.template_tap")
KEYS = {"offers": ("id",), "contacts": ("list_id", "phone_number")}
NEWEST_OFFER = timedelta(minutes=11)
"""How long ago the offer that was changed last was changed."""

Key = tuple[Any, ...]
Listed = tuple[str | None, int]
"""A status filter and a page number."""


@dataclass
class Exchange:
    """A request and its response: the documented one, until a variation changes it.

    Attributes:
        request: The request.
        account: The account, which may be changed; see `renew`.
        earlier: How often this page of this listing was requested before.
        answer: Returns the status and text of the documented response to a request.
        status: The HTTP status.
        body: The body.
        headers: Headers, with underscores in their names.
        encode: Returns the bytes of the text of the body.
    """

    request: Request
    account: Account
    earlier: int
    answer: Callable[[Request], tuple[int, str]]
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    encode: Callable[[str], bytes] = str.encode

    def __post_init__(self) -> None:
        self.renew()

    @property
    def stream(self) -> str:
        return self.request.stream

    @property
    def page(self) -> int:
        return self.request.page

    @property
    def size(self) -> int:
        """The size of a page, as documented."""
        return int(self.documented()["pagination"]["per_page"])

    @property
    def last_page(self) -> int:
        """The number of the last page, as documented; 1 if there are no records."""
        return max(1, int(self.documented()["pagination"]["total_pages"]))

    @property
    def rows(self) -> list[Any]:
        """The records of the response."""
        rows: list[Any] = self.body[self.stream]
        return rows

    @rows.setter
    def rows(self, rows: list[Any] | None) -> None:
        self.body[self.stream] = rows

    @property
    def hints(self) -> dict[str, Any]:
        """The field `pagination` of the response."""
        hints: dict[str, Any] = self.body["pagination"]
        return hints

    @property
    def is_readable(self) -> bool:
        """Whether the response is a page, and not cut."""
        try:
            body = json.loads(self.content.decode("utf-8-sig", errors="replace"))
        except ValueError:
            return False
        return self.status == 200 and isinstance(body, dict) and self.stream in body and not body.get("error")

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        if self.body is None:
            return b""
        return self.encode(self.body if isinstance(self.body, str) else _as_json(self.body))

    def documented(self, **query: Any) -> Any:
        """Return the body of the documented response to the request, with other query parameters."""
        changed = {**self.request.query, **{name: str(value) for name, value in query.items()}}
        return simplejson.loads(self.answer(replace(self.request, query=changed))[1], use_decimal=True)

    def renew(self) -> None:
        """Take the documented response again, after a change of the account."""
        self.status, text = self.answer(self.request)
        self.body = simplejson.loads(text, use_decimal=True)

    def refuse(self, status: int, code: str) -> None:
        """Respond with an error, as documented."""
        self.status, self.body = status, {"error": code.replace("_", " "), "code": code}


Change = Callable[[Exchange], object]
"""Changes a response. A change of the account is made with `Exchange.account`."""


@dataclass(frozen=True)
class Variation:
    """What a server does, and the account that shows it.

    Attributes:
        change: Changes each response.
        offers: The number of offers that are not archived.
        archived: The number of archived offers.
        contacts: The number of contacts; if there are any, they are read instead of the offers.
        hidden: A status of offers that no response contains, which no reader can notice.
        page_size: The largest page that the server sends.
        outcomes: How a run of the tap may end.
    """

    change: Change
    offers: int = 150
    archived: int = 10
    contacts: int = 0
    hidden: str = ""
    page_size: int = 100
    outcomes: frozenset[str] = frozenset({"complete"})

    @property
    def stream(self) -> str:
        return "contacts" if self.contacts else "offers"

    @property
    def pages(self) -> int:
        """The number of pages of all listings; an empty listing has one."""
        if self.contacts:
            return math.ceil(self.contacts / 1000)
        return sum(max(1, math.ceil(count / self.page_size)) for count in (self.offers, self.archived))

    def account(self) -> Account:
        """Return a new account."""
        account = Account(0, self.contacts)
        offers = make_offers(self.offers + self.archived)
        for number, offer in enumerate(offers):
            offer["status"] = "archived" if number >= self.offers else "paused" if number % 7 == 6 else "active"
            if number == self.offers - 1:
                offer["updated_at"] = as_text(datetime.now(timezone.utc) - NEWEST_OFFER)
        account.offers = {offer["id"]: offer for offer in offers}
        return account


class VariedTrackly(FakeTrackly):
    """Serves a variation.

    Attributes:
        expected: The keys of the records that a complete read delivers.
        readable: The keys in the readable responses of each page, by its listing and number.
        refused: The pages that were only responded to with errors.
    """

    def __init__(self, variation: Variation) -> None:
        super().__init__(variation.account())
        self.RequestHandlerClass = VariedHandler
        self.stream = variation.stream
        shown = (each for each in self.account.records(self.stream) if each.get("status") != (variation.hidden or 0))
        self.expected = {key_of(self.stream, record) for record in shown}
        self.readable: dict[Listed, set[Key]] = {}
        self.refused: set[Listed] = set()
        self._change = variation.change
        self._asked: Counter[Listed] = Counter()
        self._changing = threading.Lock()

    @property
    def sent(self) -> set[Key]:
        """The keys of the records that were sent, without pages that were prefetched beyond one that is refused."""
        return {
            key
            for (listing, page), keys in self.readable.items()
            if not any(refused == listing and number < page for refused, number in self.refused)
            for key in keys
        }

    def fault(self, request: Request) -> Fault:
        """Return the varied response to a request."""
        if request.stream not in KEYS:
            return Handler.proceed
        with self._changing:
            listing = request.status, request.page
            exchange = Exchange(request, self.account, self._asked[listing], self.answer)
            self._asked[listing] += 1
            self._change(exchange)
            body = exchange.content
            if exchange.status >= 400:
                self.refused |= {listing} - self.readable.keys()
            elif exchange.is_readable:
                self.refused.discard(listing)
                self.readable.setdefault(listing, set()).update(keys_in(self.stream, exchange.body[self.stream] or []))
        return lambda handler: handler.reply(exchange.status, body, **exchange.headers)


class VariedHandler(Handler):
    """Leaves out the headers that a variation sends itself."""

    def reply(self, status: int, body: str | bytes, **headers: str) -> None:
        self.date = headers.pop("Date", None)
        super().reply(status, body, **headers)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the value of the header `Date`."""
        return self.date or super().date_time_string(timestamp)


@contextmanager
def varied(variation: Variation) -> Iterator[VariedTrackly]:
    """Serve a variation, with a new account, while the context is open."""
    with serving(VariedTrackly(variation)) as trackly:
        yield trackly


def key_of(stream: str, record: Mapping[str, Any]) -> Key:
    """Return the key of a record."""
    return tuple(record[name] for name in KEYS[stream])


def keys_in(stream: str, records: list[Any]) -> set[Key]:
    """Return the keys of the records that have one."""
    return {
        key_of(stream, record)
        for record in records
        if isinstance(record, dict) and all(record.get(name) is not None for name in KEYS[stream])
    }


def template_delivers(variation: Variation) -> tuple[int, set[Key]]:
    """Run the tap from the SDK's template, and return its exit status and the keys that it delivers."""
    with varied(variation) as trackly:
        return template_reads(trackly.url, KEY, variation.stream)


def template_reads(url: str, api_key: str, stream: str) -> tuple[int, set[Key]]:
    """Run the tap from the SDK's template against an API, and return its exit status and the keys that it delivers."""
    config = {"api_key": api_key, "api_url": url}
    with started(config, catalog=_template_catalog(stream), command=TEMPLATE, cwd=PROJECT) as process:
        output, _ = process.communicate(timeout=120)
    messages = [json.loads(line) for line in output.splitlines()]
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    return process.returncode, keys_in(stream, records)


@cache
def _template_catalog(stream: str) -> dict[str, Any]:
    output = subprocess.run([*TEMPLATE, "--discover"], cwd=PROJECT, capture_output=True, check=True).stdout
    (entry,) = [entry for entry in json.loads(output)["streams"] if entry["tap_stream_id"] == stream]
    for metadata in entry["metadata"]:
        if not metadata["breadcrumb"]:
            metadata["metadata"]["selected"] = True
    return {"streams": [entry]}


def _as_json(body: Mapping[str, Any] | list[Record]) -> str:
    return str(simplejson.dumps(body, use_decimal=True, allow_nan=True))
