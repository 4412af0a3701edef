"""A fake Trackly for tests of the tap's process. It responds as the API is documented, except for injected faults."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import simplejson

from sandbox import listings
from sandbox.account import Account
from tests.tap import Run, run_tap

KEY = "trk_5ecret5ecret5ecret5ecret5ecret55"
ERROR = {"error": "An unexpected error occurred.", "code": "server_error"}


@dataclass(frozen=True)
class Request:
    """A request that was received.

    Attributes:
        number: The number of the request, counted from 1.
        stream: The endpoint.
        query: The query parameters.
        headers: The headers.
        time: When it was received, by `time.monotonic`.
        port: The port of the client, which identifies the connection.
    """

    number: int
    stream: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    time: float
    port: int

    @property
    def status(self) -> str | None:
        return self.query.get("status")

    @property
    def page(self) -> int:
        return int(self.query.get("page", "1"))

    def matches(self, where: Mapping[str, Any]) -> bool:
        """Return whether the attributes have these values."""
        return all(getattr(self, name) == value for name, value in where.items())


class FakeTrackly(ThreadingHTTPServer):
    """Serves an account on 127.0.0.1; use it with `serving`.

    Attributes:
        account: The account; it may be changed or replaced at any time.
        before_answer: Called before each documented response with its request; may change the account.
        requests: The requests that were received.
        keep_alive: Whether connections are kept open after a response.
        closing: Set when the server stops.
    """

    request_queue_size = 64

    def __init__(self, account: Account, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}/api/v2"
        self.account = account
        self.before_answer: Callable[[Request], None] = lambda _: None
        self.requests: list[Request] = []
        self.keep_alive = True
        self.closing = threading.Event()
        self._faults: list[tuple[Fault, float, dict[str, Any]]] = []
        self._lock = threading.Lock()
        if tls:
            # The thread of the handler does the handshake with its first read.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def config(self, **settings: Any) -> dict[str, Any]:
        """Return settings of the tap for this account."""
        return {"api_key": KEY, "api_url": self.url, "max_retries": 1, **settings}

    def run(
        self,
        *options: str,
        state: Mapping[str, Any] | None = None,
        catalog: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Run:
        """Run the tap against this account; by default it reads the offers."""
        run = run_tap(self.config(**settings), *options, state=state, catalog=catalog, variables=variables)
        assert KEY not in f"{run.log} {run.states}"
        return run

    def sync(self, *options: str, **how: Any) -> Run:
        """Run the tap against this account, and check that it succeeds."""
        run = self.run(*options, **how)
        assert run.status == 0, run.log
        return run

    def put(self, *offers: Mapping[str, Any]) -> None:
        """Replace the offers of the account."""
        self.account.offers = {str(offer["id"]): {"status": "active", "metadata": {}, **offer} for offer in offers}

    def inject(self, fault: Fault, *, times: float = 1, **where: Any) -> None:
        """Respond with a fault to the next requests that match; faults that were injected earlier come first."""
        self._faults.append((fault, times, where))

    def asked(self, **where: Any) -> list[Request]:
        """Return the requests that match."""
        return [request for request in self.requests if request.matches(where)]

    def receive(self, stream: str, query: Mapping[str, str], headers: Mapping[str, str], port: int) -> Request:
        """Record a request."""
        with self._lock:
            self.requests.append(Request(len(self.requests) + 1, stream, query, headers, time.monotonic(), port))
            return self.requests[-1]

    def fault(self, request: Request) -> Fault:
        """Return the fault for a request, or `Handler.proceed`."""
        with self._lock:
            for place, (fault, times, where) in enumerate(self._faults):
                if request.matches(where):
                    self._faults[place : place + 1] = [(fault, times - 1, where)] if times > 1 else []
                    return fault
        return Handler.proceed

    def answer(self, request: Request) -> tuple[int, str]:
        """Return the status and body of the documented response."""
        with self._lock:
            self.before_answer(request)
            if request.headers.get("X-Api-Key") != KEY:
                return 401, json.dumps({"error": "API key is invalid.", "code": "invalid_api_key"})
            if request.stream not in listings.ENDPOINTS:
                return 404, json.dumps({"error": "Not found.", "code": "not_found"})
            try:
                body = listings.answer(request.stream, self.account.records(request.stream), request.query)
            except listings.QueryError as error:
                return 400, json.dumps({"error": str(error), "code": "validation_error"})
            return 200, simplejson.dumps(body, use_decimal=True, allow_nan=True)

    def shutdown(self) -> None:
        """Stop the server and endless faults."""
        self.closing.set()
        super().shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: the tap or a fault has closed the connection."""


class Handler(BaseHTTPRequestHandler):
    """Responds to the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeTrackly

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        stream = url.path.removeprefix("/api/v2/")
        self.received = self.server.receive(stream, query, dict(self.headers), self.client_address[1])
        self.server.fault(self.received)(self)

    def proceed(self) -> None:
        """Send the documented response."""
        self.reply(*self.server.answer(self.received))

    def reply(self, status: int, body: str | bytes, **headers: str) -> None:
        """Send a response."""
        content = body.encode() if isinstance(body, str) else body
        usual = {"Content_Type": "application/json", "Content_Length": str(len(content))}
        if not self.server.keep_alive:
            usual["Connection"] = "close"
        self.send_response(status)
        for name, value in {**usual, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Log nothing."""


Fault = Callable[[Handler], None]


def answer(body: Any, status: int = 200, **headers: str) -> Fault:
    """Respond with a status and a body; text and bytes are sent as they are, other values as JSON."""
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return lambda handler: handler.reply(status, content, **headers)


def reset(handler: Handler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(handler)


def close(handler: Handler) -> None:
    """Close the connection without a response."""
    handler.close_connection = True
    handler.connection.close()


def cut(handler: Handler) -> None:
    """Send only a part of the announced body."""
    handler.close_connection = True
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"offers": [')


def silence(handler: Handler) -> None:
    """Send nothing until the server stops."""
    handler.close_connection = True
    handler.server.closing.wait()


def drip(first: bytes) -> Fault:
    """Send some bytes at once, and then one byte every 0.1 seconds."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(first)
        while not handler.server.closing.wait(0.1):
            handler.wfile.write(b" ")

    return send


def slow(seconds: float) -> Fault:
    """Send the documented response with a delay."""

    def send(handler: Handler) -> None:
        handler.server.closing.wait(seconds)
        handler.proceed()

    return send


def rate_limit(per_second: float, burst: int, **headers: str) -> Fault:
    """Respond with 429 to requests beyond a token bucket; inject it for all requests."""
    tokens, since, lock = float(burst), time.monotonic(), threading.Lock()
    refuse = answer({"error": "Too many requests.", "code": "rate_limited"}, 429, **headers)

    def send(handler: Handler) -> None:
        nonlocal tokens, since
        with lock:
            now = time.monotonic()
            tokens, since = min(burst, tokens + (now - since) * per_second), now
            allowed = tokens >= 1
            tokens -= allowed
        (Handler.proceed if allowed else refuse)(handler)

    return send
