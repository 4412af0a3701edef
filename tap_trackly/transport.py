"""HTTP connections with a limit for the time and the size of a whole answer.

The timeout of requests starts anew with each byte, so a server that sends one byte now and then would hold
a request for ever.
"""

from __future__ import annotations

import io
import time
from contextlib import closing
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

MAX_BODY = 128 * 2**20  # bytes after decompression
# Bytes, about a page: each read from the socket is a chance to lose the processor to another thread.
_BUFFER = 1 << 17


class BodyTooLargeError(requests.exceptions.RequestException):
    """An answer has more than `MAX_BODY` bytes."""


class StaleConnectionError(ConnectionError):
    """The server had closed a connection that was kept open after an earlier answer."""


class LimitedAdapter(HTTPAdapter):
    """Reads each answer whole, within the timeout of its request and the limit of its size."""

    @override
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    @override
    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read the body of the answer.

        Raises:
            BodyTooLargeError: If the body is larger than `MAX_BODY`.
        """
        while True:
            try:
                response = super().send(request, *args, **{**kwargs, "stream": True})
            except requests.exceptions.ConnectionError as error:
                if not _is_stale(error):
                    raise
            else:
                response.raw = io.BytesIO(_read_body(response))
                return response


def _read_body(response: requests.Response) -> bytes:
    body = bytearray()
    with closing(response.raw) as raw:  # of a body that is read to its end, the connection is kept open
        while chunk := raw.read1(_BUFFER, decode_content=True):
            body += chunk
            if len(body) > MAX_BODY:
                raise BodyTooLargeError(f"the answer is larger than {MAX_BODY >> 20} MB")
        raw.release_conn()
    return bytes(body)


def _is_stale(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, StaleConnectionError):
        error = error.__cause__ or error.__context__
    return error is not None


class _DeadlineReader(io.RawIOBase):
    """Reads what a socket receives within its timeout, counted for all reads together."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + (sock.gettimeout() or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the whole answer took too long")
        self._sock.settimeout(remaining)
        return self._raw.readinto(buffer)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineSocket:
    """A socket whose files must be read within its timeout."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_args: Any, **_kwargs: Any) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock), _BUFFER)


class _LimitedConnection:
    """What both kinds of connections have in common."""

    sock: Any
    answers = 0

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock = _DeadlineSocket(self.sock)
        self.answers = 0

    def getresponse(self) -> Any:
        try:
            response = super().getresponse()  # type: ignore[misc]
        except ConnectionError as error:
            if self.answers:
                raise StaleConnectionError from error
            raise
        self.answers += 1
        return response


class _HTTPConnection(_LimitedConnection, HTTPConnection):
    """A connection to a server, or to a proxy that knows the request."""


class _HTTPSConnection(_LimitedConnection, HTTPSConnection):
    """A connection over TLS."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection
