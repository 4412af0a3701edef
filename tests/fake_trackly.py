"""A Trackly for tests of the process: it answers as the API is documented, but for the faults that it is told."""

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
    """A request that came.

    Attributes:
        number: Counted from 1.
        time: When it came, on the clock of `time.monotonic`.
        port: Of the client, which tells connections apart.
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
        """Whether the attributes have these values."""
        return all(getattr(self, name) == value for name, value in where.items())


class FakeTrackly(ThreadingHTTPServer):
    """Serves an account on 127.0.0.1; use it with `serving`.

    Attributes:
        account: What it serves; it may be changed or replaced at any time.
        before_answer: Called with each request that gets a true answer, to change the account.
        requests: The requests that came.
        keep_alive: Whether connections are kept open after an answer.
        closing: Set when the test is over.
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
            # The handshake is done by the handler's thread with its first read.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def config(self, **settings: Any) -> dict[str, Any]:
        """Return the tap's settings for this account."""
        return {"api_key": KEY, "api_url": self.url, "max_retries": 1, **settings}

    def run(
        self,
        *options: str,
        state: Mapping[str, Any] | None = None,
        catalog: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Run:
        """Run the tap against this account, by default for the offers."""
        run = run_tap(self.config(**settings), *options, state=state, catalog=catalog, variables=variables)
        assert KEY not in f"{run.log} {run.states}"
        return run

    def sync(self, *options: str, **how: Any) -> Run:
        """Run the tap against this account; it must succeed and end with a STATE."""
        run = self.run(*options, **how)
        assert run.status == 0, run.log
        assert options or run.messages[-1]["type"] == "STATE"
        return run

    def put(self, *offers: Mapping[str, Any]) -> None:
        """Let the account hold these offers only."""
        self.account.offers = {str(offer["id"]): {"status": "active", "metadata": {}, **offer} for offer in offers}

    def inject(self, fault: Fault, *, times: float = 1, **where: Any) -> None:
        """Give a fault to the next requests whose attributes have these values, after those injected before."""
        self._faults.append((fault, times, where))

    def asked(self, **where: Any) -> list[Request]:
        """Return the requests whose attributes have these values."""
        return [request for request in self.requests if request.matches(where)]

    def receive(self, stream: str, query: Mapping[str, str], headers: Mapping[str, str], port: int) -> Request:
        """Note a request."""
        with self._lock:
            self.requests.append(Request(len(self.requests) + 1, stream, query, headers, time.monotonic(), port))
            return self.requests[-1]

    def fault(self, request: Request) -> Fault:
        """Take the fault that a request gets."""
        with self._lock:
            for place, (fault, times, where) in enumerate(self._faults):
                if request.matches(where):
                    self._faults[place : place + 1] = [(fault, times - 1, where)] if times > 1 else []
                    return fault
        return Handler.proceed

    def answer(self, request: Request) -> tuple[int, str]:
        """Return status and body of the answer that is documented."""
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
        """Stop serving, and the faults that do not end."""
        self.closing.set()
        super().shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the tap or a fault has closed a connection."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, which it keeps alive."""

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
        """Send the answer that is documented."""
        self.reply(*self.server.answer(self.received))

    def reply(self, status: int, body: str | bytes, **headers: str) -> None:
        """Send an answer."""
        content = body.encode() if isinstance(body, str) else body
        usual = {"Content_Type": "application/json", "Content_Length": str(len(content))}
        if not self.server.keep_alive:
            usual["Connection"] = "close"
        self.send_response(status)
        for name, value in {**usual, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


Fault = Callable[[Handler], None]


def answer(body: Any, status: int = 200, **headers: str) -> Fault:
    """Answer with a status and a body: JSON, or text or bytes as they are."""
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return lambda handler: handler.reply(status, content, **headers)


def reset(handler: Handler) -> None:
    """Break the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(handler)


def close(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()


def cut(handler: Handler) -> None:
    """Announce a body and send a part of it."""
    handler.close_connection = True
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"offers": [')


def silence(handler: Handler) -> None:
    """Say nothing until the server closes."""
    handler.close_connection = True
    handler.server.closing.wait()


def drip(first: bytes) -> Fault:
    """Send some bytes at once and then one every now and then."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(first)
        while not handler.server.closing.wait(0.1):
            handler.wfile.write(b" ")

    return send


def slow(seconds: float) -> Fault:
    """Answer rightly, but later."""

    def send(handler: Handler) -> None:
        handler.server.closing.wait(seconds)
        handler.proceed()

    return send


def rate_limit(per_second: float, burst: int, **headers: str) -> Fault:
    """Answer 429 to requests beyond a token bucket; inject it for all requests."""
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
