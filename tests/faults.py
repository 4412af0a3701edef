"""A Trackly that misbehaves as it is told, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "trk_5ecret5ecret5ecret5ecret5ecret55"
PER_PAGE = 100


@dataclass
class Request:
    """A request that came."""

    path: str
    status: str | None
    page: int
    headers: Mapping[str, str]
    time: float


Fault = Callable[["Handler"], None]


@dataclass
class Server:
    """What the server has, what it is to do wrong, and what it was asked.

    Attributes:
        faults: For each page of the default listing the faults that its next requests get, one each;
            a fault in `always` is for all requests.
        first_archived: What the archived listing's first page gets.
        refused: For some endpoints what their requests get.
        paged: The records of other endpoints, in pages.
        unpaged: The records of other endpoints, all in one answer without pagination.
    """

    offers: list[dict[str, Any]]
    archived: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    always: Fault | None = None
    first_archived: Fault | None = None
    refused: dict[str, Fault] = field(default_factory=dict)
    paged: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unpaged: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def config(self, **settings: Any) -> dict[str, Any]:
        return {"api_key": KEY, "api_url": self.url, "max_retries": 1, **settings}

    def calls(self, page: int, status: str | None = None) -> int:
        """How often a page was asked for."""
        return sum((request.page, request.status) == (page, status) for request in self.requests)

    def times(self, page: int) -> list[float]:
        return [request.time for request in self.requests if (request.page, request.status) == (page, None)]

    def answer(self, status: str | None, page: int, path: str = "offers") -> dict[str, Any]:
        """The right answer."""
        if path in self.unpaged:
            return {path: self.unpaged[path] if status is None else []}
        offers = self.archived if status == "archived" else self.offers
        if path != "offers":
            offers = self.paged.get(path, []) if status is None else []
        pagination = {
            "page": page,
            "per_page": PER_PAGE,
            "total": len(offers),
            "total_pages": -(-len(offers) // PER_PAGE),
        }
        return {path: offers[(page - 1) * PER_PAGE : page * PER_PAGE], "pagination": pagination}


class Handler(BaseHTTPRequestHandler):
    """Answers one request, rightly unless told otherwise."""

    protocol_version = "HTTP/1.1"
    trackly: Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        path = urlsplit(self.path).path.rpartition("/")[2]
        page = int(query.get("page", ["1"])[0])
        request = Request(path, query.get("status", [None])[0], page, dict(self.headers), time.monotonic())
        self.trackly.requests.append(request)
        fault = self.trackly.always or self.trackly.refused.get(path)
        if fault is None and request.status == "archived":
            fault = self.trackly.first_archived
        if fault is None and request.status is None and self.trackly.faults.get(request.page):
            fault = self.trackly.faults[request.page].pop(0)
        if fault is None:
            fault = answer(self.trackly.answer(request.status, request.page, path))
        fault(self)

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


def answer(body: Any, status: int = 200, **headers: str) -> Fault:
    """Answer with a status and a body: JSON, or text or bytes as they are."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    content = text.encode() if isinstance(text, str) else text
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(status, content, named)


def reset(handler: Handler) -> None:
    """Break the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(handler)


def close(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()


def cut(handler: Handler) -> None:
    """Announce a body and send half of it."""
    handler.close_connection = True
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"offers": [')


def silence(handler: Handler) -> None:
    """Say nothing until the server closes."""
    handler.close_connection = True
    handler.trackly.closing.wait(30)


def drip(first: bytes) -> Fault:
    """Send some bytes at once and then one every now and then."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(first)
        while not handler.trackly.closing.wait(0.1):
            handler.wfile.write(b" ")

    return send


def offers(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Make offers."""
    return [
        {"id": f"offer-{number:04}", "status": "active", "updated_at": "2025-12-01T08:00:00Z", **fields}
        for number in range(count)
    ]


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve while the context is open."""
    handler = type("BoundHandler", (Handler,), {"trackly": server})
    with _QuietServer(("127.0.0.1", 0), handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/api/v2"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            http.shutdown()
            thread.join()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the tap or a fault has closed is no news."""
