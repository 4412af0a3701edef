"""Limits of the time and size of a response, keep-alive connections, and words for errors of connections."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.client import BadStatusLine, IncompleteRead, LineTooLong, RemoteDisconnected
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from requests.exceptions import InvalidProxyURL, InvalidSchema, InvalidURL, ProxyError
from urllib3.exceptions import ConnectTimeoutError

from tap_trackly.log import MaskingFormatter
from tap_trackly.transport import (
    ERRORS,
    LONGEST_WAIT,
    MAX_BODY,
    LimitedAdapter,
    explain,
    is_unreachable,
    retry_after,
)
from tests.fake_trackly import FakeTrackly, Handler

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Serve = Callable[[socket.socket, int], None]


class Server:
    """A server on 127.0.0.1 that handles each connection in a separate thread.

    Args:
        serve: Called with each connection and its number, counted from 1; then the connection is closed.
        tls: The TLS context; None for plain HTTP.

    Attributes:
        connections: The number of connections.
        ended: Counts the calls of `serve` that have ended and whose connection is closed.
    """

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.ended = threading.Semaphore(0)
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}/offers"

    def close(self) -> None:
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            for number in count(1):
                connection, _ = self._listener.accept()
                self.connections = number
                self._sockets.append(connection)
                self._threads.append(threading.Thread(target=self._handle, args=(connection, number)))
                self._threads[-1].start()

    def _handle(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError):
            tls = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            self._sockets.append(tls)  # it now owns the connection
            with tls:
                self._serve(tls, number)
        self.ended.release()


@contextmanager
def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(serve, tls)
    try:
        yield server
    finally:
        server.close()


def took_request(connection: socket.socket) -> bool:
    """Receive a request; return False if the client has closed the connection."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        part = connection.recv(1 << 16)
        if not part:
            return False
        received += part
    return True


def transient(error: Exception) -> str:
    """Check that an error of a connection is transient, and return its words."""
    words, is_permanent = explain(error)
    assert not is_permanent
    return words


def always(answer: bytes) -> Serve:
    """Send the same response to each request."""

    def serve(connection: socket.socket, _: int) -> None:
        while took_request(connection):
            connection.sendall(answer)

    return serve


def reset(connection: socket.socket) -> None:
    """Make closing the connection reset it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, context: ssl.SSLContext) -> ssl.SSLContext | None:
    return context if request.param == "https" else None


@pytest.fixture
def session(authority: trustme.CA, tmp_path: Path) -> Iterator[requests.Session]:
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, LimitedAdapter())
        session.trust_env = False
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        session.verify = str(tmp_path / "ca.pem")
        yield session


HEADERS = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "first,drop",
    [
        (b"", b""),
        (HEADERS + b"Content-Length: 1000000\r\n\r\n", b" "),
        (HEADERS + b"\r\n", b" "),
        (CHUNKED, b"1\r\n \r\n"),
    ],
    ids=["silence", "body", "no length", "chunks"],
)
def test_slow_response_times_out(
    session: requests.Session, tls: ssl.SSLContext | None, first: bytes, drop: bytes
) -> None:
    def drip(connection: socket.socket, _: int) -> None:
        took_request(connection)
        connection.sendall(first)
        connection.settimeout(0.05)
        while True:
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return  # the client has given up
            connection.sendall(drop)

    with serving(drip, tls) as server, pytest.raises(ERRORS) as failure:
        session.get(server.url, timeout=1)
    assert "timed out" in transient(failure.value)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decompression_bomb(session: requests.Session, encoding: str) -> None:
    packer = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    body = b"".join([*(packer.compress(zeros) for _ in range(4 * MAX_BODY >> 20)), packer.flush()])
    answer = HEADERS + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with serving(always(answer)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(OSError, match="Set a smaller page_size"):
                session.get(server.url, timeout=60)
            assert tracemalloc.get_traced_memory()[1] < 2 * MAX_BODY
        finally:
            tracemalloc.stop()


def test_endless_response(session: requests.Session) -> None:
    sent = 0

    def endless(connection: socket.socket, _: int) -> None:
        nonlocal sent
        took_request(connection)
        connection.sendall(CHUNKED)
        while sent < 4 * MAX_BODY:
            connection.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            sent += 1 << 20

    with serving(endless) as server:
        with pytest.raises(OSError, match="Set a smaller page_size"):
            session.get(server.url, timeout=60)
        assert server.ended.acquire(timeout=60)
    assert sent < 2 * MAX_BODY


def test_maximum_response_size(session: requests.Session) -> None:
    assert MAX_BODY == 32 << 20
    with serving(always(HEADERS + f"Content-Length: {MAX_BODY}\r\n\r\n".encode() + bytes(MAX_BODY))) as server:
        assert len(session.get(server.url, timeout=60).content) == MAX_BODY


GZIPPED = zlib.compressobj(wbits=31)
GZIPPED_BODY = GZIPPED.compress(b"{}") + GZIPPED.flush()


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        HEADERS + f"Content-Encoding: gzip\r\nContent-Length: {len(GZIPPED_BODY)}\r\n\r\n".encode() + GZIPPED_BODY,
    ],
    ids=["length", "chunked", "gzip"],
)
def test_keep_alive(session: requests.Session, tls: ssl.SSLContext | None, answer: bytes) -> None:
    with serving(always(answer), tls) as server:
        for _ in range(3):
            assert session.get(server.url, timeout=60).json() == {}
        assert server.connections == 1


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_closed_idle_connection_is_reopened(
    session: requests.Session, tls: ssl.SSLContext | None, *, is_reset: bool
) -> None:
    received = threading.Semaphore(0)  # a reset would discard what the client has not received

    def serve_once(connection: socket.socket, _: int) -> None:
        took_request(connection)
        connection.sendall(OK)
        assert received.acquire(timeout=60)
        if is_reset:
            reset(connection)

    with serving(serve_once, tls) as server:
        for number in (1, 2, 3):
            assert session.get(server.url, timeout=60).json() == {}
            assert server.connections == number
            received.release()
            assert server.ended.acquire(timeout=60)


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_closed_new_connection(session: requests.Session, *, is_reset: bool) -> None:
    def refuse(connection: socket.socket, _: int) -> None:
        took_request(connection)
        if is_reset:
            reset(connection)

    with serving(refuse) as server:
        with pytest.raises(requests.ConnectionError) as failure:
            session.get(server.url, timeout=60)
        assert server.connections == 1
    assert not is_unreachable(failure.value)
    assert transient(failure.value)


@pytest.mark.parametrize(
    "answer",
    [
        HEADERS + b"Content-Length: 100\r\n\r\n{",
        CHUNKED + b"64\r\n{",
        CHUNKED + b"1\r\n{\r\n",
        HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\n\x1f\x8b no gzip",
    ],
    ids=["length", "in a chunk", "between chunks", "corrupt gzip"],
)
def test_truncated_or_corrupt_response(session: requests.Session, answer: bytes) -> None:
    def cut(connection: socket.socket, _: int) -> None:
        took_request(connection)
        connection.sendall(answer)

    with serving(cut) as server:
        with pytest.raises(ERRORS) as failure:
            session.get(server.url, timeout=60)
        assert server.connections == 1
    assert transient(failure.value)


def test_untrusted_certificate(context: ssl.SSLContext, session: requests.Session) -> None:
    session.verify = True
    with serving(always(OK), context) as server, pytest.raises(requests.exceptions.SSLError) as failure:
        session.get(server.url, timeout=60)
    words, is_permanent = explain(failure.value)
    assert is_permanent
    assert "certificate verify failed" in words
    assert "REQUESTS_CA_BUNDLE" in words


def chained(*errors: BaseException) -> Any:
    """Chain errors, as if each was raised while the previous one was handled; return the last."""
    before: BaseException | None = None
    for error in errors:
        error.__context__, before = before, error
    return errors[-1]


PROXY = "http://user:passw0rd@proxy:3128"
TRANSIENT = [
    (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    (RemoteDisconnected("Remote end closed connection without response"), "without response"),
    (IncompleteRead(b"x" * 407, 1000), "IncompleteRead(407 bytes read, 1000 more expected)"),
    (BadStatusLine("SSH-2.0-OpenSSH_9.2\r\n"), "the response is not HTTP."),
    (ValueError("invalid literal for int() with base 16: b'+12025550100'"), "the response is not HTTP."),
    (LineTooLong("header line"), "header line"),
    (TimeoutError("timed out"), "timed out"),
    (TimeoutError(), "timed out"),
    (zlib.error("Error -3 while decompressing data"), "while decompressing data"),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "EOF occurred"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "wrong version number"),
    (OSError("Tunnel connection failed: 407 Authentication Required"), "Tunnel connection failed: 407"),
]


@pytest.mark.parametrize("cause,words", TRANSIENT)
def test_transient_errors(cause: Exception, words: str) -> None:
    message = transient(chained(cause, requests.ConnectionError(PROXY)))
    assert words in message
    assert "passw0rd" not in message
    assert "+12025550100" not in message


@pytest.mark.parametrize(
    "cause,words,advice",
    [
        (
            ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed"),
            "self-signed",
            "REQUESTS_CA_BUNDLE",
        ),
        (
            OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /x"),
            "Could not find a suitable TLS CA certificate bundle",
            "REQUESTS_CA_BUNDLE",
        ),
    ],
)
def test_advice(cause: Exception, words: str, advice: str) -> None:
    found, is_permanent = explain(chained(cause, ProxyError(PROXY)))
    assert is_permanent
    assert words in found
    assert advice in found
    assert "passw0rd" not in found


@pytest.mark.parametrize(
    "error,advice",
    [
        (InvalidSchema("Missing dependencies for SOCKS support."), "HTTPS_PROXY"),
        (InvalidProxyURL(PROXY), "HTTPS_PROXY"),
        (TypeError("sequence item 1: expected str instance, NoneType found"), "HTTPS_PROXY"),
        (InvalidURL(f"Failed to parse: {PROXY}"), "api_url"),
        (UnicodeError("label too long"), "api_url"),
    ],
)
def test_invalid_url_advice(error: Exception, advice: str) -> None:
    found, is_permanent = explain(error)
    assert is_permanent
    assert found.startswith(f"{type(error).__name__}. ")
    assert advice in found


def test_https_to_a_server_of_http(session: requests.Session) -> None:
    def serve(connection: socket.socket, _: int) -> None:
        connection.recv(1 << 16)
        connection.sendall(OK)

    with serving(serve) as server, pytest.raises(requests.exceptions.SSLError) as failure:
        session.get(server.url.replace("http", "https"), timeout=60)
    assert is_unreachable(failure.value)
    assert transient(failure.value).endswith(". Check the setting api_url.")


def test_words_of_connection_errors_are_one_line_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MaskingFormatter, "secret", "trk_5ecret")
    cause = OSError("HTTP/1.1 trk_5ecret\r\n\x1b[31m")
    assert transient(chained(cause, requests.ConnectionError())) == r"HTTP/1.1 *** \x1b[31m."


@pytest.mark.parametrize(
    "failure",
    [
        ConnectTimeoutError("timed out"),
        socket.gaierror(-2, "Name or service not known"),
        ConnectionRefusedError(111, "Connection refused"),
        OSError(113, "No route to host"),
    ],
)
def test_unreachable_host(session: requests.Session, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr("urllib3.util.connection.create_connection", fail)
    with pytest.raises(requests.ConnectionError) as found:
        session.get("http://127.0.0.1:9", timeout=60)
    assert is_unreachable(found.value)
    message = transient(found.value)
    assert str(failure.args[-1]) in message
    assert message.endswith(". Check the setting api_url.")


@pytest.mark.parametrize(
    "value,seconds",
    [
        ("4", 4),
        ("4.0", 4),
        (" 0.5 ", 0.5),
        ("0", 0),
        ("-1", 0),
        ("", 0),
        ("soon", 0),
        ("4 seconds", 0),
        ("1e3", 0),
        ("3600", LONGEST_WAIT),
        ("3600.5", LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        ("nan", 0),
        ("Wed, 01 Jan 2025 00:00:00 GMT", 0),
        ("Wed, 99 Jan 2025 00:00:00 GMT", 0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    response = requests.Response()
    response.headers["Retry-After"] = value
    assert retry_after(response) == seconds


def test_retry_after_date() -> None:
    response = requests.Response()
    until = datetime.now(timezone.utc) + timedelta(hours=10)
    response.headers["Retry-After"] = format_datetime(until, usegmt=True)
    assert retry_after(response) == LONGEST_WAIT


@pytest.mark.parametrize("response", [None, requests.Response()], ids=["no response", "no header"])
def test_no_retry_after(response: requests.Response | None) -> None:
    assert retry_after(response) == 0


def test_cookies_are_sent_back(trackly: FakeTrackly) -> None:
    def proceed_with_cookie(handler: Handler) -> None:
        handler.reply(*trackly.answer(handler.received), Set_Cookie="node=7; Path=/")

    trackly.inject(proceed_with_cookie)
    trackly.sync(page_size=10, concurrency=1)
    first, *others = trackly.requests
    assert "Cookie" not in first.headers
    assert others
    assert {request.headers.get("Cookie") for request in others} == {"node=7"}
