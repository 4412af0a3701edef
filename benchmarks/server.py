"""Serves an account on 127.0.0.1, fast enough to measure clients, with faults on request.

It runs as a separate process, `python -m benchmarks.server`, until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

_ONCE = ("empty", "error-200", "error-beside", "half", "500", "reset", "429", "redirect")
FAULTS = (*_ONCE, "archived", "capped", "rate")
LARGEST_PAGE_SIZE = 100
LARGEST_COUNT = 1000
_FAULTY_PAGE = 3
_RATE = 3  # requests per second
_OFFERS, _CONTACTS = "/api/v2/offers", "/api/v2/contacts"
_LARGEST_CONTACTS_PAGE_SIZE = 1000
_RATE_LIMITED = b'{"error":"Too many requests.","code":"rate_limited"}'
NEWEST_SIGNUP = datetime(2025, 12, 15, 16, 40, tzinfo=timezone.utc)
_FIRST_ID = 0x664F1A2B3C4D5E6F7A8B9C0D
_REASONS = {200: "OK", 302: "Found", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass
class Stats:
    """The statistics of a server.

    Attributes:
        requests: The number of requests for records.
        in_flight: The maximum number of concurrent requests.
        key_sent_elsewhere: Whether the target of the redirect received the API key.
        processor: CPU time of the server in seconds.
    """

    requests: int = 0
    in_flight: int = 0
    key_sent_elsewhere: bool = False
    processor: float = 0.0


class Account:
    """Offers in the order of the listing, with prepared responses.

    Args:
        offers: The number of offers; none is archived.
        largest_count: The cap of `total`.
    """

    def __init__(self, offers: int, largest_count: int = sys.maxsize) -> None:
        self._live = [_offer(number) for number in range(offers)]
        self._archived: list[dict[str, Any]] = []
        self._answers: dict[tuple[str, int, int], bytes] = {}
        self._largest_count = largest_count
        self._prepare()

    def answer(self, status: str, number: int, per_page: int) -> bytes:
        """Return the whole response to the request for a page."""
        query = (status, number, per_page)
        if query not in self._answers:
            self._answers[query] = _answer(200, self.page(*query))
        return self._answers[query]

    def page(self, status: str, number: int, per_page: int) -> bytes:
        """Return the body of one page of a listing."""
        offers = {"": self._live, "archived": self._archived}.get(status)
        if offers is None:
            offers = [offer for offer in self._live if offer["status"] == status]
        start = (number - 1) * per_page
        pagination = _pagination(number, per_page, min(len(offers), self._largest_count))
        return _json({"offers": offers[start : start + per_page], "pagination": pagination})

    def payouts(self) -> dict[str, float]:
        """Return the payout of each offer, by its id."""
        return {offer["id"]: offer["payout"] for offer in self._live + self._archived}

    def archive_first(self) -> None:
        """Archive the first offer of the listing, so that all others move up by one."""
        offer = self._live.pop(0)
        self._archived.append({**offer, "status": "archived", "updated_at": _text(datetime.now(timezone.utc))})
        self._answers.clear()

    def change(self) -> None:
        """Raise the payout of every hundredth offer."""
        for offer in self._live[::100]:
            offer.update(payout=round(offer["payout"] + 1, 2), updated_at=_text(datetime.now(timezone.utc)))
        self._answers.clear()
        self._prepare()

    def _prepare(self) -> None:
        for number in range(1, -(-len(self._live) // LARGEST_PAGE_SIZE) + 1):
            self.answer("", number, LARGEST_PAGE_SIZE)


class Contacts:
    """Contacts, whose pages are created on request: a million contacts would take too much memory.

    Args:
        count: The number of contacts.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._prepared = [_json(_contact(number)) for number in range(_LARGEST_CONTACTS_PAGE_SIZE)]

    def page(self, number: int, per_page: int) -> bytes:
        """Return the body of one page."""
        numbers = range((number - 1) * per_page, min(number * per_page, self._count))
        divided = (divmod(each, len(self._prepared)) for each in numbers)
        contacts = b",".join(self._prepared[which] % (thousand, _day(thousand)) for thousand, which in divided)
        return b'{"contacts":[%b],"pagination":%b}' % (contacts, _json(_pagination(number, per_page, self._count)))


class Bucket:
    """A token bucket that limits the rate of requests."""

    def __init__(self) -> None:
        self._tokens = float(_RATE)
        self._filled = time.monotonic()

    def take(self) -> bool:
        """Take a token; return False if there is none."""
        now = time.monotonic()
        self._tokens = min(_RATE, self._tokens + (now - self._filled) * _RATE)
        self._filled = now
        allowed = self._tokens >= 1
        self._tokens -= allowed
        return allowed


class Service:
    """The API of an account.

    Args:
        account: The offers.
        contacts: The contacts.
        latency: The delay of each response, in seconds.
        fault: One of `FAULTS` or None. "capped" and "rate" persist; the others occur once, at page 3
            of the default listing of offers.
    """

    def __init__(self, account: Account, contacts: Contacts, latency: float = 0.0, fault: str | None = None) -> None:
        self.stats = Stats()
        self.elsewhere = ""
        self._account = account
        self._contacts = contacts
        self._bucket = Bucket() if fault == "rate" else None
        self._latency = latency
        self._fault = fault
        self._waiting = 0

    def take(self, target: str, connection: Connection) -> None:
        """Respond to a request, at once or after the latency."""
        url = urlsplit(target)
        if url.path not in {_OFFERS, _CONTACTS}:
            connection.send(self._control(url.path))
            return
        self.stats.requests += 1
        self._waiting += 1
        self.stats.in_flight = max(self.stats.in_flight, self._waiting)
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._finish, url, connection)
        else:
            self._finish(url, connection)

    def _control(self, path: str) -> bytes:
        """Respond to a request of the benchmark itself."""
        if path == "/stats":
            self.stats.processor = time.process_time()
            return _answer(200, _json(asdict(self.stats)))
        if path == "/payouts":
            return _answer(200, _json(self._account.payouts()))
        if path == "/change":
            self._account.change()
            return _answer(200, b"{}")
        return _answer(404, _json({"error": "Not found.", "code": "not_found"}))

    def _finish(self, url: SplitResult, connection: Connection) -> None:
        self._waiting -= 1
        fields = {name: values[0] for name, values in parse_qs(url.query).items()}
        status = fields.get("status", "")
        number = int(fields.get("page", 1))
        per_page = int(fields.get("per_page", 50))
        if url.path == _CONTACTS:
            page = self._contacts.page(number, min(per_page, _LARGEST_CONTACTS_PAGE_SIZE))
            connection.send(_answer(200, page))
            return
        per_page = min(per_page, LARGEST_PAGE_SIZE)
        if self._bucket and not self._bucket.take():
            connection.send(_answer(429, _RATE_LIMITED, "Retry-After: 1\r\n"))
        elif self._fault in _ONCE and (status, number) == ("", _FAULTY_PAGE):
            self._go_wrong(url.query, per_page, connection)
        else:
            connection.send(self._account.answer(status, number, per_page))
        if self._fault == "archived" and (status, number) == ("", _FAULTY_PAGE - 1):
            self._fault = None
            self._account.archive_first()

    def _go_wrong(self, query: str, per_page: int, connection: Connection) -> None:
        fault, self._fault = self._fault, None
        page = self._account.page("", _FAULTY_PAGE, per_page)
        error = {"error": "Something went wrong.", "code": "server_error"}
        nothing = {"offers": [], "pagination": _pagination(_FAULTY_PAGE, per_page, 0)}
        answers = {
            "empty": _answer(200, _json({**json.loads(page), "offers": []})),
            "error-200": _answer(200, _json(error)),
            "error-beside": _answer(200, _json({**error, **nothing})),
            "half": _answer(200, page[: len(page) // 2]),
            "500": _answer(500, _json(error)),
            "429": _answer(429, _RATE_LIMITED),
            "redirect": _answer(302, b"", f"Location: {self.elsewhere}{_OFFERS}?{query}\r\n"),
        }
        if fault in answers:
            connection.send(answers[fault])
        else:
            connection.reset()


class Connection(asyncio.Protocol):
    """A keep-alive connection of a client.

    Args:
        service: The API that responds.
        is_elsewhere: Whether this is the host that the redirect points to.
    """

    def __init__(self, service: Service, *, is_elsewhere: bool = False) -> None:
        self._service = service
        self._is_elsewhere = is_elsewhere
        self._received = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - true for TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Handle each complete request; none has a body."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end])
            del self._received[: end + 4]
            if self._is_elsewhere and b"\r\nx-api-key:" in head.lower():
                self._service.stats.key_sent_elsewhere = True
            self._service.take(head.split(b" ", 2)[1].decode(), self)

    def send(self, answer: bytes) -> None:
        """Send a response, unless the connection is closing."""
        if not self._transport.is_closing():
            self._transport.write(answer)

    def reset(self) -> None:
        """Reset the connection."""
        sock = self._transport.get_extra_info("socket")
        # With a linger time of 0, closing the socket sends a reset.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


async def serve(service: Service) -> None:
    """Serve on two free ports until standard input ends; print the URL of the first."""
    loop = asyncio.get_running_loop()
    main = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0)
    other = await loop.create_server(lambda: Connection(service, is_elsewhere=True), "127.0.0.1", 0)
    # The other name makes it another host for a client, not only another port.
    service.elsewhere = f"http://localhost:{other.sockets[0].getsockname()[1]}"
    print(f"http://127.0.0.1:{main.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


def main() -> None:
    """Serve an account."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description="Serve an account for benchmarks.")
    parser.add_argument("--offers", type=int, default=0, help="number of offers (default: 0)")
    parser.add_argument("--contacts", type=int, default=0, help="number of contacts (default: 0)")
    parser.add_argument("--latency", type=float, default=0.0, help="delay of each response in seconds (default: 0)")
    parser.add_argument("--fault", choices=FAULTS, help="fault of the server")
    options = parser.parse_args()
    account = Account(options.offers, LARGEST_COUNT if options.fault == "capped" else sys.maxsize)
    asyncio.run(serve(Service(account, Contacts(options.contacts), options.latency, options.fault)))


def _offer(number: int) -> dict[str, Any]:
    created = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number)
    return {
        "id": f"{_FIRST_ID + number:024x}",
        "slug": f"ofr_offer-{number}_{number:06x}",
        "name": f"Offer {number}: Größe ✓",
        "tracking_url": f"https://track.example.com/click?offer_id={number}&aff_id=1000&source=sms&sub1=campaign",
        "external_platform": ("tune", "everflow", None)[number % 3],
        "external_id": str(number) if number % 3 < 2 else None,
        "advertiser_id": f"adv_{number % 50}",
        "payout": number % 1000 / 100,
        "payout_type": ("cpa", "cpc")[number % 2],
        "filter_bots": number % 2 == 0,
        "status": "paused" if number % 7 == 6 else "active",
        "metadata": {"vertical": ("health", "finance", "travel")[number % 3], "geo": "US", "note": "weekdays only"},
        "created_at": _text(created),
        "updated_at": _text(created + timedelta(days=30)),
    }


@cache
def _day(thousand: int) -> bytes:
    """Return the day on which a thousand contacts signed up: the newest come first."""
    return str((NEWEST_SIGNUP - timedelta(days=thousand)).date()).encode()


def _contact(number: int) -> dict[str, Any]:
    """Return one of the thousand contacts of a day; %07d stands for the thousand it is in, %b for the day."""
    signup = NEWEST_SIGNUP - timedelta(minutes=number)
    return {
        "phone_number": f"+1%07d{number:03}",
        "list_number": f"+1833555{number % 4:04}",
        "list_id": 101 + number % 4,
        "active": number % 6 != 5,
        "signup_date": signup.strftime("%%bT%H:%M:%S"),
        "signup_method": ("api", "import", "keyword")[number % 3],
        "custom_fields": {"first_name": f"Zoë {number}", "state": "NY"} if number % 5 else {},
        "carrier": ("Verizon Wireless", "T-Mobile USA", "AT&T Mobility", None)[number % 4],
        "line_type": ("CELL PHONE", "VOIP", "LANDLINE")[number % 3],
        "timezone": ("America/New_York", "America/Chicago", None)[number % 3],
        "is_valid": number % 7 != 6,
        "send_count": number % 9,
        "click_count": number % 4,
        "revenue_total": number % 4 * 1.25,
        "conversion_count": number % 2,
        "last_sent_at": signup.strftime("%Y-%m-%dT%H:%M:%S") if number % 9 else None,
        "last_clicked_at": signup.strftime("%Y-%m-%dT%H:%M:%S") if number % 4 else None,
        "in_workflow": number % 8 == 0,
    }


def _pagination(number: int, per_page: int, total: int) -> dict[str, int]:
    return {"page": number, "per_page": per_page, "total": total, "total_pages": -(-total // per_page)}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _answer(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    main()
