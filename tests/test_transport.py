"""Limits of the time and size of a response, and keep-alive connections, tested with raw sockets."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import requests
import trustme
from singer_sdk.exceptions import FatalAPIError
from urllib3.exceptions import HTTPError

from tap_trackly.errors import connection_advice, root_cause
from tap_trackly.transport import MAX_BODY, LimitedAdapter

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
FAILURES = (requests.RequestException, HTTPError)
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
    "first,drop,last",
    [
        (b"", b"", OK),
        (b"HTTP/1.1 200 ", b"O", b"\r\nContent-Length: 2\r\n\r\n{}"),
        (HEADERS + b"X-Slow: ", b"x", b"\r\nContent-Length: 2\r\n\r\n{}"),
        (HEADERS, b"X-Slow: x\r\n", b"Content-Length: 2\r\n\r\n{}"),
        (HEADERS + b"Content-Length: 52\r\n\r\n", b" ", b"{}"),
        (HEADERS + b"\r\n", b" ", b"{}"),
        (CHUNKED, b"1\r\n \r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (CHUNKED, b"0", b"2\r\n{}\r\n0\r\n\r\n"),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Slow: x\r\n", b"\r\n"),
    ],
    ids=["silence", "status", "header", "headers", "body", "no length", "chunks", "chunk size", "trailers"],
)
def test_slow_response_times_out(
    session: requests.Session, tls: ssl.SSLContext | None, first: bytes, drop: bytes, last: bytes
) -> None:
    def drip(connection: socket.socket, _: int) -> None:
        took_request(connection)
        connection.sendall(first)
        connection.settimeout(0.05)
        for _ in range(100):
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return  # the client has given up
            connection.sendall(drop)
        connection.sendall(last)

    with serving(drip, tls) as server, pytest.raises(FAILURES) as failure:
        session.get(server.url, timeout=0.3)
    assert isinstance(root_cause(failure.value), TimeoutError)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decompression_bomb(session: requests.Session, encoding: str) -> None:
    packer = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    body = b"".join([*(packer.compress(zeros) for _ in range(4 * MAX_BODY >> 20)), packer.flush()])
    answer = HEADERS + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with serving(always(answer)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(FatalAPIError, match=r"/offers: .* larger than 128 MB\. Set a smaller page_size\."):
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
        with pytest.raises(FatalAPIError, match=r"larger than 128 MB"):
            session.get(server.url, timeout=60)
        assert server.ended.acquire(timeout=60)
    assert sent < 1.5 * MAX_BODY


def test_maximum_response_size(session: requests.Session) -> None:
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
@pytest.mark.parametrize("is_late", [False, True], ids=["between requests", "when a request arrives"])
def test_closed_keep_alive_connection_is_reopened(
    session: requests.Session, tls: ssl.SSLContext | None, *, is_reset: bool, is_late: bool
) -> None:
    received = threading.Semaphore(0)  # a reset would discard what the client has not received

    def serve_once(connection: socket.socket, _: int) -> None:
        took_request(connection)
        connection.sendall(OK)
        if is_late:
            took_request(connection)
        else:
            assert received.acquire(timeout=60)
        if is_reset:
            reset(connection)

    with serving(serve_once, tls) as server:
        for number in (1, 2, 3):
            assert session.get(server.url, timeout=60).json() == {}
            assert server.connections == number
            received.release()
            if not is_late:
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
    assert isinstance(root_cause(failure.value), ConnectionError)
    assert connection_advice(failure.value) == ""


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
        with pytest.raises(FAILURES) as failure:
            session.get(server.url, timeout=60)
        assert server.connections == 1
    assert connection_advice(failure.value) == ""


def test_untrusted_certificate(context: ssl.SSLContext, session: requests.Session) -> None:
    session.verify = True
    with serving(always(OK), context) as server, pytest.raises(requests.exceptions.SSLError) as failure:
        session.get(server.url, timeout=60)
    assert "REQUESTS_CA_BUNDLE" in connection_advice(failure.value)
