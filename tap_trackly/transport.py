"""HTTP connections with a limit for the time and the size of a whole answer.

The timeout of requests starts anew with each byte, so a server that sends one byte now and then would hold
a request for ever.
"""

from __future__ import annotations

import io
import time
from contextlib import closing
from functools import cache
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override

MAX_BODY = 128 * 2**20  # bytes after decompression
# Bytes, about a page: each read from the socket is a chance to lose the processor to another thread.
_BUFFER = 1 << 17


class BodyTooLargeError(requests.exceptions.RequestException):
    """An answer has more than `MAX_BODY` bytes."""


class StaleConnectionError(Exception):
    """The server had closed a connection that was kept open after an earlier answer."""


class LimitedAdapter(HTTPAdapter):
    """Reads each answer whole, within the timeout of its request and the limit of its size."""

    @override
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _limited(type(pool).ConnectionCls)
        return pool

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read the body of the answer.

        Raises:
            BodyTooLargeError: If the body is larger than `MAX_BODY`.
        """
        try:
            response = super().send(request, *args, **{**kwargs, "stream": True})
        except StaleConnectionError:  # which urllib3 has dropped
            return self.send(request, *args, **kwargs)
        with closing(response.raw) as raw:  # of a body that is read to its end, the connection is kept open
            response.raw = io.BytesIO(_read_body(raw))
        return response


def _read_body(raw: Any) -> bytearray:
    body = bytearray()
    while chunk := raw.read(_BUFFER, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyTooLargeError(f"the answer is larger than {MAX_BODY >> 20} MB")
    return body


class _DeadlineReader(io.RawIOBase):
    """Reads what a socket receives within its timeout, counted for all reads together."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + sock.gettimeout()

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what `http.client` reads a response from."""
        return io.BufferedReader(self, _BUFFER)

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


class _LimitedResponse(HTTPResponse):
    """A response that must be read within the timeout of its socket."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        limited: Any = _DeadlineReader(sock)
        super().__init__(limited, *args, **kwargs)


class _LimitedConnection:
    """What all kinds of connections have in common: direct, over TLS, and to a proxy."""

    response_class = _LimitedResponse
    sock: Any
    answered: Any = None  # the socket of the latest answer

    def getresponse(self) -> Any:
        is_kept, self.answered = self.sock is self.answered, self.sock
        try:
            return super().getresponse()  # type: ignore[misc]
        except ConnectionError as error:
            if is_kept:
                raise StaleConnectionError from error
            raise


@cache
def _limited(kind: type) -> type:
    """Return a kind of connections with limits."""
    return type(f"Limited{kind.__name__}", (_LimitedConnection, kind), {})
